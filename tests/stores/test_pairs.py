"""The verdict on a pair, and that it is written once, whichever relaxation ends last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.stores import MemoryStore
from store_fixtures import configuration, host, record

from definet_flows.defects import nodes, stabilizer
from definet_flows.errors import InputError
from definet_flows.schemas import Attempt, DefectRecord
from definet_flows.stores import Records, judge, update_pairs
from definet_flows.stores.analysis import pairs

ROWS = 27


def relaxation(seed=0, scale=0.1):
    """A displacement field without symmetry."""
    return np.random.default_rng(seed).normal(scale=scale, size=(ROWS, 3))


def two_starts(first, second, *, de=0.0, **changes):
    return record(move=first, **changes), record("predicted", move=second, energy=-100.0 + de, **changes)


def atom_row():
    return int(np.flatnonzero(nodes(host(), configuration())[1] == 0)[3])


@pytest.mark.parametrize(
    ("shift", "de", "verdict"),
    [
        (0.0, 0.0, "same minimum"),
        (0.045, 0.004, "same minimum"),
        (0.045, -0.004, "same minimum"),
        (0.06, 0.0, "other minimum"),
        (0.0, 0.006, "other minimum"),
        (0.0, -0.006, "better minimum"),
        (0.9, -0.5, "better minimum"),
        (0.9, 0.5, "other minimum"),
    ],
)
def test_thresholds(shift, de, verdict):
    first = relaxation()
    second = first.copy()
    second[atom_row(), 2] += shift
    pair = judge(*two_starts(first, second, de=de))
    assert pair.verdict == verdict
    atoms = ROWS - 1
    assert pair.distance == pytest.approx(shift * (1 - 1 / atoms), abs=1e-5)  # the mean shift is removed
    assert pair.energy_difference == pytest.approx(de, abs=1e-9)


def with_ledgers(first, second, one, other):
    return [
        arm.model_copy(update={"ledger": arm.ledger.model_copy(update=changes)})
        for arm, changes in ((first, one), (second, other))
    ]


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (1.0, 1.05, "same minimum"),
        (1.0, -0.95, "same minimum"),  # the same state, turned over
        (0.0, 0.15, "other minimum"),
        (None, 2.0, "same minimum"),
    ],
)
def test_moments_are_part_of_the_minimum(one, other, verdict):
    both = with_ledgers(*two_starts(relaxation(), relaxation()), {"magnetization": one}, {"magnetization": other})
    assert judge(*both).verdict == verdict


def test_arms_that_were_not_given_the_same_are_not_compared():
    both = two_starts(relaxation(), relaxation())
    assert judge(*both).same_inputs is None
    assert judge(*with_ledgers(*both, {"inputs": "a"}, {"inputs": "a"})).same_inputs is True
    pair = judge(*with_ledgers(*both, {"inputs": "a"}, {"inputs": "b"}))
    assert (pair.same_inputs, pair.verdict) == (False, "not comparable")
    smeared = (Attempt(ionic_steps=3), Attempt(ionic_steps=2, changed_tags={"SIGMA": "0.03", "ALGO": "Normal"}))
    assert judge(*with_ledgers(*both, {}, {"attempts": smeared})).verdict == "not comparable"
    assert judge(*with_ledgers(*both, {"attempts": smeared}, {"attempts": smeared})).verdict == "same minimum"


def test_the_floor_and_a_changed_optimiser_are_told():
    note = "optimiser changed: conjugate gradient, then RMM-DIIS"
    both = with_ledgers(
        *two_starts(relaxation(), relaxation()), {"notes": (note, "else")}, {"optimizer": "conjugate gradient"}
    )
    pair = judge(*both)
    assert pair.floor == 3
    assert pair.notes == (f"unrelaxed: {note}",)
    assert judge(*two_starts(relaxation(), relaxation())).floor == 2


def test_unconverged():
    first, second = two_starts(relaxation(), relaxation(), de=-1.0)
    late = second.model_copy(update={"ledger": second.ledger.model_copy(update={"converged": False})})
    assert judge(first, late).verdict == "unconverged"


def test_a_placeholder_does_not_count():
    first = relaxation()
    second = first.copy()
    second[np.flatnonzero(nodes(host(), configuration())[1] == 2)] += 3.0
    assert judge(*two_starts(first, second)).distance == pytest.approx(0, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(shift=st.tuples(*[st.floats(-30, 30)] * 3), images=st.integers(0, 2**32 - 1))
def test_rigid_shift_and_periodic_images_do_not_count(shift, images):
    """Including shifts near half a cell, and each atom written in a periodic image of its own."""
    first = relaxation()
    cells = np.random.default_rng(images).integers(-2, 3, size=(ROWS, 3))
    second = first + np.array(shift) + cells @ np.array(host().lattice)
    assert judge(*two_starts(first, second)).distance < 1e-4


@pytest.mark.parametrize("defects", [("v_S",), ("W_Mo",), ("v_S", "W_Mo")])
def test_symmetry_images_are_the_same_minimum(defects):
    """Every image of an end under the configuration's own operations is the same end; not so without them."""
    operations = stabilizer(host(), configuration(defects))
    first = relaxation()
    for image in operations.images(first):
        pair_of = two_starts(first, image, defects=defects)
        assert judge(*pair_of, operations).distance < 1e-4
        assert judge(*pair_of, pairs.images_of(pair_of[0])).distance < 1e-4  # rebuilt from the record alone
    assert len(operations) > 1
    assert judge(*two_starts(first, operations.images(first)[1], defects=defects)).distance > SAME


SAME = pairs.SAME_DISTANCE


def test_an_image_under_an_operation_the_defect_breaks_is_another_end():
    whole = stabilizer(host(), configuration(("W_Mo",)))
    broken = stabilizer(host(), configuration(("v_S", "W_Mo")))
    assert len(broken) < len(whole)
    image = whole.images(relaxation())[-1]
    two = two_starts(relaxation(), image, defects=("v_S", "W_Mo"))
    assert judge(*two, broken).verdict == "other minimum"


def test_only_two_finished_arms_of_one_configuration():
    first, second = two_starts(None, None)
    other = record("predicted", configuration_id="other")
    for wrong in ((second, first), (first, first), (first, other)):
        with pytest.raises(InputError, match="not from the two starts"):
            judge(*wrong)
    with pytest.raises(InputError, match="before both are done"):
        judge(first, record("predicted", status="running"))


@pytest.fixture
def records():
    with Records(MemoryStore(key="id")) as opened:
        yield opened


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_either_arm_may_finish_second(records, order):
    two = two_starts(relaxation(), relaxation())
    where = two[0].configuration_id, two[0].settings_hash
    for k, position in enumerate(order):
        records.put(two[position])
        assert len(update_pairs(records, *where)) == k
    assert update_pairs(records, *where) == list(records.pairs())
    assert records.store.count({"kind": "pair"}) == 1


def test_running_and_failed_arms_make_no_pair(records):
    first, second = two_starts(None, None)
    records.put(first, record("predicted", status="running"))
    assert update_pairs(records, first.configuration_id, first.settings_hash) == []
    records.put(second.model_copy(update={"status": "failed", "sites": None, "ledger": None, "error": "node died"}))
    assert update_pairs(records, first.configuration_id, first.settings_hash) == []


def test_each_network_has_its_pair_with_the_one_control(records):
    first, second = two_starts(None, None)
    newer = record("predicted", weights="b" * 64, steps=2)
    assert newer.id == DefectRecord.identity(newer.configuration_id, newer.settings_hash, "predicted", "b" * 64)
    records.put(first, second, newer)
    made = update_pairs(records, first.configuration_id, first.settings_hash)
    assert {pair.weights: pair.steps_predicted for pair in made} == {"a" * 64: 20, "b" * 64: 2}
