"""Damaged files of every kind: read or refused in one line; `nox -s fuzz` tries 300 of each."""

from __future__ import annotations

import os

import pytest
from fuzz_readers import Reader, fuzz, readers

COUNT = int(os.environ.get("DEFINET_FUZZ", "10"))
KINDS = (
    "POSCAR", "CIF", "extxyz", "JSON", "host POSCAR", "host CIF", "host JSON", "vasprun", "OUTCAR", "recipe",
    "placement", "settings", "weights", "published", "configurations", "store",
)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")  # the children's own; what they raise is what counts


@pytest.fixture(scope="module")
def every_reader(tmp_path_factory) -> dict[str, Reader]:
    return {one.kind: one for one in readers(tmp_path_factory.mktemp("whole"))}


def test_every_reader_is_tried(every_reader):
    assert tuple(every_reader) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_ends_in_a_traceback(every_reader, kind, record_property):
    tally = fuzz(every_reader[kind], COUNT)
    record_property("tally", f"{tally.read} read, {tally.refused} refused")
    assert tally.faults == []
    assert tally.read + tally.refused == COUNT
