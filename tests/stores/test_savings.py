"""Savings: every number recomputed by hand from small sets of records."""

from __future__ import annotations

import pytest
from maggma.stores import MemoryStore
from store_fixtures import prediction, record, relaxed_host

from definet_flows.errors import InputError
from definet_flows.schemas import Gate, Prediction, base_hash, dump
from definet_flows.stores import (
    Filter,
    Records,
    counts,
    counts_by,
    savings,
    savings_by,
    starts_rows,
    update_pairs,
)
from definet_flows.stores.analysis.figures import sum_in_words


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


def test_charges_are_groups_and_filters_of_records_and_pairs(records):
    for charge, steps in ((0, 10), (-1, 20), (2, 30)):
        add(records, f"c{charge}", 40, steps, charge=charge)
    groups = savings_by(records, "charge")
    assert {charge: group.saving for charge, group in groups.items()} == {-1: 0.5, 0: 0.75, 2: 0.25}
    for charge, group in groups.items():
        where = Filter(charge=charge)
        assert savings(records, where) == group
        assert [pair.configuration_id for pair in records.pair_rows(where)] == [f"c{charge}"]
        assert [pair.configuration_id for pair in records.pairs(where)] == [f"c{charge}"]
        assert {row.charge for row in records.record_rows(where)} == {charge}
        assert {row.charge for row in records.ledgers(where)} == {charge}
        assert {row.charge for row in starts_rows(records, where)} == {charge}
    assert counts_by(records, "charge")[-1].relaxations == 2
    assert records.pair_rows(Filter(charge=3)) == []
    records.store.remove_docs({"kind": "record", "configuration_id": "c2"})
    assert list(savings_by(records, "charge")) == [-1, 0, "unknown"]


def test_several_keys_are_a_filter_too(records):
    add(records, "a", 40, 10)
    add(records, "a", None, 4, weights="b" * 64)
    add(records, "b", 40, 8, weights="b" * 64)
    add(records, "c", 40, 8, weights="c" * 64)
    both = Filter(weights=("a" * 64, "b" * 64))
    assert savings(records, both).saving == pytest.approx(1 - 22 / 120)
    assert {pair.configuration_id for pair in records.pair_rows(both)} == {"a", "b"}
    assert counts(records, both).configurations == 2
    assert {(row.configuration_id, row.weights[0]) for row in starts_rows(records, both)} == {
        ("a", "a"),
        ("a", "b"),
        ("b", "b"),
    }


def test_an_unknown_cost_is_no_zero(records):
    add(records, "a", 40, 10)
    told = savings(records).core_hours
    assert (told.unrelaxed, told.predicted, told.spending.stated) == (None, None, False)
    proposed = told.spending.model_copy(update={"prerelaxing": 0.1})
    assert not proposed.stated  # the cost of proposals is not that of the campaign
    found = counts(records)
    assert (found.core_hours, found.electronic_steps, found.wall_seconds, found.cores) == (None, None, None, None)
    records.put(record(configuration_id="b", costs=(0, 0.0)))
    found = counts(records)
    assert (found.core_hours, found.stated["core_hours"], found.ended) == (0.0, 1, 3)


def test_a_gated_configuration_of_unknown_cost_is_not_free(records):
    add(records, "a", 40, 10, costs=(400, 4.0))
    records.put(record(configuration_id="b", steps=40, gated=True, costs=(400, None)))
    found = savings(records)
    assert found.campaign == pytest.approx(1 - (10 + 40) / (40 + 40))
    assert (found.core_hours.saving, found.core_hours.campaign) == (0.0, None)
    assert found.electronic.campaign == 0.0


@pytest.mark.parametrize(
    ("total", "stated", "of", "words"),
    [(12.3, 10, 12, "12.3 (of 10 of 12)"), (12.3, 12, 12, "12.3"), (0, 0, 12, "-"), (None, 0, 0, "-"), (0, 0, 0, "0")],
)
def test_a_sum_says_of_how_many(total, stated, of, words):
    assert sum_in_words(total, stated, of) == words


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
    parts = {field.split(".")[0] for _, fields in asked for field in fields if field != "configuration.charge"}
    assert not parts & {"sites", "configuration", "provenance", "relaxed", "displacements"}


def test_a_newer_document_among_many_is_named(records):
    add(records, "a", 40, 10)
    records.store.update({**dump(record(configuration_id="b")), "schema_version": 2})
    with pytest.raises(InputError, match="schema version 2"):
        savings(records)


# ------------------------------------------------------------------ what pre-relaxing cost


def costing(records, name, seconds, core_seconds, **changes):
    """Put a control of 10 h, a relaxation from a prediction of 4 h, and the cost of its proposal."""
    made = record("predicted", configuration_id=name, costs=(None, 4.0), **changes)
    note = made.prediction.model_copy(update={"seconds": seconds, "core_seconds": core_seconds})
    records.put(record(configuration_id=name, costs=(None, 10.0)), made.model_copy(update={"prediction": note}))
    update_pairs(records, name, record().settings_hash)


def test_the_net_of_core_hours_pays_for_pre_relaxing(records):
    costing(records, "a", 900.0, 7200.0)
    costing(records, "b", 300.0, 3600.0)
    result = savings(records)
    assert (result.proposals.count, result.proposals.seconds, result.proposals.core_hours) == (2, 1200.0, 3.0)
    assert (result.core_hours.saving, result.core_hours.spending.prerelaxing) == (pytest.approx(0.6), 3.0)
    assert result.core_hours.spending.net == pytest.approx(1 - (20 + 8 + 3) / 20)
    assert result.seconds.prerelaxing == 1200.0
    assert result.ionic.spending.prerelaxing is None
    assert savings_by(records, "name")["v_S"].proposals == result.proposals


def test_an_unknown_cost_of_a_proposal_is_none_and_is_counted(records):
    costing(records, "a", None, None)
    made = savings(records).proposals
    assert (made.seconds, made.core_hours, made.without_seconds, made.without_core_hours) == (None, None, 1, 1)
    assert savings(records).core_hours.spending.prerelaxing is None
    costing(records, "b", 20.0, None)
    made = savings(records).proposals
    assert (made.seconds, made.core_hours, made.without_seconds, made.without_core_hours) == (20.0, None, 1, 2)


def test_rejected_proposals_are_paid_for_once_each_and_under_their_own_pre_relaxer(records):
    """Two pre-relaxers are asked about a configuration; the proposal of the first is rejected."""
    costing(records, "a", 60.0, 3600.0)
    start = records.record(record("predicted", configuration_id="a").id)
    base = base_hash(start.sites.unrelaxed[: start.host.n_sites])
    for weights, verdict, hours in (("a" * 64, "accepted", 1), ("b" * 64, "rejected", 2)):
        one = prediction("a").model_copy(
            update={
                "id": Prediction.identity("a", weights, base),
                "weights": weights,
                "base": base,
                "gate": Gate(verdict=verdict),
                "core_seconds": 3600.0 * hours,
            }
        )
        records.put(one, one.model_copy(update={"id": f"{weights} elsewhere", "base": "of another host"}))
    assert savings(records).proposals.core_hours == 3.0
    assert {key: one.proposals.core_hours for key, one in savings_by(records, "weights").items()} == {
        "a" * 64: 1.0,
        "b" * 64: 2.0,
    }
    assert savings(records, Filter(weights="b" * 64)).proposals.core_hours == 2.0


def test_rejected_proposals_count_without_any_control_too(records):
    costing(records, "a", 60.0, 3600.0)
    start = records.record(record("predicted", configuration_id="a").id)
    records.store.remove_docs({"start": "unrelaxed"})
    other = prediction("a").model_copy(
        update={
            "weights": "b" * 64,
            "base": base_hash(start.sites.unrelaxed[: start.host.n_sites]),
            "gate": Gate(verdict="rejected"),
            "core_seconds": 7200.0,
        }
    )
    records.put(other)
    assert savings(records).proposals.core_hours == 3.0


def test_wall_time_is_net_of_pre_relaxing(records):
    for start, wall in (("unrelaxed", 100.0), ("predicted", 40.0)):
        made = record(start, configuration_id="a")
        records.put(made.model_copy(update={"ledger": made.ledger.model_copy(update={"wall_seconds": wall})}))
    update_pairs(records, "a", record().settings_hash)
    spent = savings(records).seconds
    assert (spent.prerelaxing, spent.total, spent.baseline) == (0.05, pytest.approx(140.05), 100.0)
