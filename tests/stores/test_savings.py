"""Savings: every number recomputed by hand from small sets of records."""

from __future__ import annotations

import pytest
from maggma.stores import MemoryStore
from store_fixtures import record, relaxed_host

from definet_flows.errors import InputError
from definet_flows.schemas import dump
from definet_flows.stores import Filter, Records, savings, savings_by, update_pairs


@pytest.fixture
def records():
    with Records(MemoryStore(key="id")) as opened:
        yield opened


def add(records, name, unrelaxed=None, predicted=None, **changes):
    """Put the relaxations whose steps are given, and their pair."""
    where = {"configuration_id": name, **changes}
    de = where.pop("de", 0.0)
    converged = where.pop("converged", True)
    if unrelaxed is not None:
        records.put(record(steps=unrelaxed, **where))
    if predicted is not None:
        records.put(record("predicted", steps=predicted, energy=-100 + de, converged=converged, **where))
    return update_pairs(records, name, record().settings_hash)


def test_headline_is_the_ratio_of_sums(records):
    add(records, "a", 40, 10)
    add(records, "b", 20, 20)
    result = savings(records)
    assert result.saving == pytest.approx(1 - 30 / 60)
    assert result.ionic.median_saving == pytest.approx((0.75 + 0.0) / 2)
    assert (result.ionic.median_unrelaxed, result.ionic.median_predicted) == (30, 15)
    assert (result.pairs, result.same_minimum) == (2, 2)
    assert result.ionic.interval is None  # two pairs say too little of their scatter
    assert result.message == "50.0% of ionic steps saved; pairs in the same minimum: 2"


def test_the_most_that_could_be_saved_is_the_optimisers_floor(records):
    add(records, "a", 40, 10)
    add(records, "b", 1, 1)  # began converged: below any floor
    assert savings(records).ceiling == pytest.approx(1 - (2 + 1) / 41)


def test_a_loss_is_a_loss(records):
    add(records, "a", 10, 15)
    assert savings(records).saving == pytest.approx(-0.5)


def test_only_pairs_in_the_same_minimum_count_and_the_others_are_shown(records):
    add(records, "same", 40, 10)
    add(records, "better", 40, 1, de=-0.1)
    add(records, "other", 40, 1, de=0.1)
    add(records, "unconverged", 40, 1, converged=False)
    result = savings(records)
    assert result.saving == pytest.approx(0.75)
    counts = result.same_minimum, result.better_minimum, result.other_minimum, result.unconverged
    assert counts == (1, 1, 1, 1)
    assert result.ionic.interval is None  # one pair says nothing of its scatter


def test_gated_out_counts_as_no_saving(records):
    add(records, "a", 40, 10)
    add(records, "gated", 60, None, gated=True)
    result = savings(records)
    assert (result.saving, result.gated) == (pytest.approx(0.75), 1)
    assert result.campaign == pytest.approx(1 - (10 + 60) / (40 + 60))


def test_pairs_of_a_control_sample_stand_for_all_accepted(records):
    """One pair in four accepted predictions; the gated one is the only one of its kind."""
    add(records, "a", 40, 10)
    for name in "bcd":
        add(records, name, None, 12)
    add(records, "gated", 60, None, gated=True)
    assert savings(records).campaign == pytest.approx(1 - (4 * 10 + 60) / (4 * 40 + 60))


def test_net_of_controls_hosts_and_failures(records):
    add(records, "a", 40, 10)
    add(records, "b", None, 12)
    add(records, "gated", 60, None, gated=True)
    add(records, "failed", 5, None, status="failed")
    records.put(relaxed_host(7))
    spending = savings(records).spending
    assert (spending.predicted, spending.controls, spending.without_prediction) == (22, 40, 60)
    assert (spending.hosts, spending.failed, spending.total) == (7, 5, 134)
    assert spending.baseline == pytest.approx(40 + 60 + 12 * 40 / 10)
    assert spending.net == pytest.approx(1 - 134 / 148)
    assert savings(records).failed == 1


def test_electronic_steps_and_core_hours_where_known(records):
    records.put(
        record(configuration_id="a", costs=(400, 8.0)), record("predicted", configuration_id="a", costs=(100, 4.0))
    )
    records.put(
        record(configuration_id="b", costs=(None, 8.0)), record("predicted", configuration_id="b", costs=(9, 2.0))
    )
    for name in "ab":
        update_pairs(records, name, record().settings_hash)
    result = savings(records)
    assert (result.electronic.pairs, result.electronic.saving) == (1, pytest.approx(0.75))
    assert (result.core_hours.pairs, result.core_hours.saving) == (2, pytest.approx(1 - 6 / 16))


def test_nothing_to_say(records):
    result = savings(records)
    assert (result.saving, result.campaign, result.spending.net, result.pairs) == (None, None, None, 0)
    assert "store is empty" in result.message
    add(records, "a", 40, None)
    assert savings(records).message.endswith("no configuration was relaxed from a prediction")
    add(records, "b", 40, 1, de=0.1)
    assert "none of 1" in savings(records).message


def test_the_reason_without_pairs_is_the_true_one(records):
    add(records, "gated", 60, None, gated=True)
    told = savings(records).message
    assert told.endswith("of the configurations 1 were gated out: the gate rejected the prediction")
    assert "control fraction" not in told
    add(records, "alone", None, 12)
    assert (
        "1 have no control (raise the control fraction; if it is 1, theirs has not begun), 1 were gated out"
        in savings(records).message
    )
    assert savings(records, Filter(configuration_ids=("alone",))).message.endswith(
        "(raise the control fraction; if it is 1, theirs has not begun)"
    )


@pytest.mark.parametrize(("status", "words"), [("failed", "failed (definet retry): 1"), ("running", "not finished: 1")])
def test_a_control_that_is_not_done_is_no_reason_for_more_controls(records, status, words):
    add(records, "a", None, 12)
    records.put(record(configuration_id="a", status=status))
    assert savings(records).message.endswith(f"relaxations {words}")
    assert "control fraction" not in savings(records).message


def test_ends_that_were_never_compared_are_told(records):
    records.put(record(configuration_id="a"), record("predicted", configuration_id="a"))
    assert "1 are not compared yet (definet records build)" in savings(records).message


def test_filters_and_groups_add_up(records):
    add(records, "a", 40, 10)
    add(records, "b", 20, 20, defects=("v_S", "W_Mo"))
    add(records, "c", 30, 3, defects=("v_S", "W_Mo"))
    by_name = savings_by(records, "name")
    assert {name: group.same_minimum for name, group in by_name.items()} == {"v_S": 1, "v_S+W_Mo": 2}
    assert by_name["v_S+W_Mo"] == savings(records, Filter(name="v_S+W_Mo"))
    assert list(savings_by(records, "n_defects")) == [1, 2]
    assert savings(records, Filter(configuration_ids=("a",))).saving == pytest.approx(0.75)
    assert savings(records, Filter(host="BN")).saving is None


def test_filter_by_weights_keeps_the_controls(records):
    add(records, "a", 40, 10)
    add(records, "a", None, 4, weights="b" * 64)
    add(records, "only new", 40, 8, weights="b" * 64)
    old, new = (savings(records, Filter(weights=letter * 64)) for letter in "ab")
    assert (old.saving, new.saving) == (pytest.approx(0.75), pytest.approx(1 - 12 / 80))
    assert (old.spending.controls, new.spending.controls) == (40, 80)
    assert savings_by(records, "weights") == {"a" * 64: old, "b" * 64: new}


def test_unknown_filter_is_refused():
    with pytest.raises(ValueError, match="hots"):
        Filter(hots="MoS2")


def test_structures_are_never_read(records):
    add(records, "a", 40, 10)
    query = records.store.query
    asked = []
    records.store.query = lambda criteria=None, properties=None, **k: (
        asked.append((criteria["kind"], properties)) or query(criteria, properties, **k)
    )
    savings(records)
    assert {kind for kind, _ in asked} == {"record", "pair", "prediction", "prerelaxer", "host"}
    parts = {field.split(".")[0] for _, fields in asked for field in fields}
    assert not parts & {"sites", "configuration", "provenance", "relaxed", "displacements"}


def test_a_newer_document_among_many_is_named(records):
    add(records, "a", 40, 10)
    records.store.update({**dump(record(configuration_id="b")), "schema_version": 2})
    with pytest.raises(InputError, match="schema version 2"):
        savings(records)
