"""The learning curve of GaN: its tables follow from the committed measurements; a start that fails saves nothing."""

from __future__ import annotations

from collections import defaultdict

import pytest

from standins.dft_records import opened
from standins.learning_curve import DATA, LABELS, PAGE, WAYS, Measurement, read, tables, write


def measurement(identity="a", **changes) -> Measurement:
    values = {
        "records": 20,
        "way": "fields",
        "configuration_id": identity,
        "name": "v_Ga+In_Ga",
        "verdict": "accepted",
        "stated": 0.01,
        "mean_unrelaxed": 0.02,
        "largest_unrelaxed": 0.3,
        "mean": 0.01,
        "largest": 0.1,
        "steps_unrelaxed": 20,
        "steps": 10,
        "ends": "same minimum",
        "force_unrelaxed": 2.0,
        "force": 0.2,
    }
    return Measurement(**(values | changes))


REJECTED = {"verdict": "rejected", "steps": None, "ends": None, "force": None}


def row(text: str, table: int, line: int = 0) -> list[str]:
    """Return the cells of a row of one of the tables."""
    lines = text.split("\n\n")[table].splitlines()
    return [cell.strip() for cell in lines[2 + line].strip("|").split("|")]


def test_the_page_shows_the_tables_of_the_committed_measurements():
    assert f"<!-- table -->\n{tables(read(DATA))}<!-- /table -->" in PAGE.read_text(encoding="utf-8")


def test_each_start_is_measured_on_the_same_pairs_which_have_the_same_control():
    groups = defaultdict(dict)
    for one in read(DATA):
        groups[one.records, one.way][one.configuration_id] = (
            *(one.name, one.mean_unrelaxed, one.largest_unrelaxed, one.steps_unrelaxed),
            one.force_unrelaxed,
        )
    first = next(iter(groups.values()))
    assert len(first) >= 12
    assert {way for _, way in groups} == set(WAYS)
    assert all(group == first for group in groups.values())


def test_the_committed_records_are_a_hundred_and_the_controls_of_the_measurements():
    measured = {one.configuration_id: one.steps_unrelaxed for one in read(DATA)}
    with opened(LABELS) as records:
        ended = {one.configuration_id: one.ledger.ionic_steps for one in records.records() if one.ledger.converged}
    assert {one: ended[one] for one in measured} == measured
    assert len(ended) == 100 + len(measured)


def test_a_start_that_the_gate_rejects_counts_as_no_motion_and_costs_what_it_does_unrelaxed():
    refused = measurement("b", **REJECTED, mean=0.5, largest=5.0)
    assert refused.errors == (0.02, 0.3)
    assert refused.cost == (20, 20)
    assert row(tables([measurement(), refused]), 0) == [
        *("20", "fields", "1 of 2", "0.0200", "0.0100", "0.300", "0.100", "0.0150", "0.200"),
    ]


@pytest.mark.parametrize(("ends", "steps"), [("same minimum", 10), ("better minimum", 10), ("other minimum", 20)])
def test_a_start_saves_only_if_it_ends_in_the_minimum_of_its_control_or_deeper(ends, steps):
    assert measurement(ends=ends).cost == (20, steps)


def test_steps_count_over_pairs_in_the_same_minimum_and_savings_over_all_that_are_known():
    pairs = [
        measurement("a"),
        measurement("b", ends="other minimum", steps=2),
        measurement("c", **REJECTED),
        measurement("d", steps=None, ends=None, force=None),  # accepted, but not relaxed yet
    ]
    cells = row(tables(pairs), 1)
    assert cells[2:8] == ["2", "1", "20", "10", "50 %", "-"]
    assert cells[8] == "17 %"  # 10 of 60: the unknown pair is not asked
    assert cells[9] == "2.00 to 0.20"
    assert cells[10] == "27 %"  # the mean of 30, 50 and 0 %


def test_pair_by_pair_the_largest_number_of_records_with_steps_is_shown():
    both = [measurement(records=50), measurement(records=50, way="network", **REJECTED)]
    later = measurement(records=100, steps=None, ends=None)
    text = tables([measurement(steps=11), *both, later])
    assert row(text, 2) == ["v_Ga+In_Ga", "0.0200", "0.0100", "rejected", "-", "20", "10", "rejected", "-"]


def test_a_file_gives_its_measurements_back_and_the_same_measurements_give_the_same_bytes(tmp_path):
    found = [measurement(), measurement("b", **REJECTED, mean=None, largest=None, stated=None)]
    for name in ("first", "second"):
        write(tmp_path / name, found)
    assert read(tmp_path / "first") == found
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
