"""Evidence for fields: relaxations of a store, less the host's own motion where they began on another base."""

from __future__ import annotations

import numpy as np
import pytest
from maggma.stores import MemoryStore
from store_fixtures import SETTINGS, host, record, relaxed_host

from definet_flows.schemas import RelaxedHost
from definet_flows.starts.evidence import recorded
from definet_flows.stores import Records

RELAXED = "6" * 32
RNG = np.random.default_rng(3)
MOVE, MOTION = RNG.normal(scale=0.1, size=(2, 27, 3))


@pytest.fixture
def records():
    with Records(MemoryStore(key="id")) as opened:
        opened.put(record(move=MOVE))
        yield opened


def test_relaxations_on_another_base_count_where_that_is_named(records):
    assert recorded(records, "MoS2", RELAXED) == []
    assert recorded(records, "BN", RELAXED, other_base=SETTINGS) == []
    (found,) = recorded(records, "MoS2", RELAXED, other_base=SETTINGS)
    (same,) = recorded(records, "MoS2", SETTINGS, other_base=RELAXED)
    np.testing.assert_array_equal(found.displacements, same.displacements)


def test_the_motion_of_the_host_is_taken_off(records):
    (whole,) = recorded(records, "MoS2", SETTINGS)
    given = relaxed_host()
    moved = given.model_copy(
        update={
            "id": RelaxedHost.identity(host().hash, RELAXED),
            "settings_hash": RELAXED,
            "relaxed": host().cartesian + MOTION,
        }
    )
    records.put(moved)
    (found,) = recorded(records, "MoS2", RELAXED, other_base=SETTINGS)
    hole = found.configuration.edits[0].site
    kept = np.arange(27) != hole
    np.testing.assert_allclose(found.displacements[kept], (whole.displacements - MOTION)[kept], atol=2e-6)
    assert not found.displacements[hole].any()
