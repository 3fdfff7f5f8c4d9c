"""The 95 % interval of a saving holds the true saving, or is not stated."""

from __future__ import annotations

import numpy as np
import pytest
from store_fixtures import record
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.stores import open_store, savings
from definet_flows.stores.analysis.interval import FEWEST, saving_interval
from definet_flows.stores.analysis.pairs import judge
from standins.simulated_savings import coverage

COSTS = np.array([[40, 12], [22, 15], [31, 14], [18, 9], [55, 21], [27, 16]], dtype=float)
NAMES = [f"c{number}" for number in range(6)]


def used(costs, names):
    """Return the interval that `definet savings` states."""
    return saving_interval(costs, names).ends


@pytest.mark.parametrize("kind", ["clean", "shared"])
@pytest.mark.parametrize("count", [5, 10, 20])
def test_it_holds_the_true_saving_as_often_as_it_says(kind, count):
    held, _ = coverage(kind, count, 300, used, seed=7)
    assert held > 0.93 - 2 * np.sqrt(0.93 * 0.07 / 300)


def test_rare_long_relaxations_widen_it():
    held, _ = coverage("outliers", 100, 300, used, seed=7)
    assert held > 0.9


@pytest.mark.parametrize("count", range(FEWEST))
def test_below_five_configurations_none_is_stated(count):
    found = saving_interval(COSTS[:count], NAMES[:count])
    assert found == (None, f"too few: {count} configurations, an interval needs 5")


def test_pairs_of_one_configuration_are_one_draw():
    apart = saving_interval(COSTS, NAMES)
    again = saving_interval(np.concatenate([COSTS, COSTS]), NAMES * 2)
    assert again.ends == pytest.approx(apart.ends)  # the same relaxations counted twice say no more
    assert saving_interval(np.concatenate([COSTS[:3]] * 4), NAMES[:3] * 4).ends is None


def test_it_lies_about_the_saving_and_depends_on_no_order_and_no_unit():
    low, high = saving_interval(COSTS, NAMES).ends
    saving = 1 - COSTS[:, 1].sum() / COSTS[:, 0].sum()
    assert low < saving < high < 1
    order = np.random.default_rng(0).permutation(6)
    shuffled = saving_interval(1e-3 * COSTS[order], [NAMES[k] for k in order])
    assert shuffled.ends == pytest.approx((low, high))


def test_pairs_that_all_saved_the_same_have_no_scatter():
    assert saving_interval(np.outer(np.arange(1, 9), [20.0, 10.0]), [*NAMES, "x", "y"]).ends == pytest.approx(
        (0.5, 0.5)
    )


@pytest.mark.parametrize(
    "costs", [np.outer(np.ones(6), [20.0, 0.0]), np.array([[20, 0]] * 5 + [[20, 9.0]]), np.zeros((6, 2))]
)
def test_costs_of_a_single_configuration_give_none(costs):
    ends, reason = saving_interval(costs, NAMES)
    assert ends is None
    assert reason.startswith("too few")


def test_few_equal_pairs_and_a_stray_one_stay_finite():
    low, high = saving_interval(np.array([[20, 10.0]] * 5 + [[20, 300.0]]), NAMES).ends
    assert np.isfinite([low, high]).all()
    assert low < 1 - 350 / 120 < high


def fill(store, count):
    with open_store(str(store)) as records:
        for number in range(count):
            starts = [
                record(start, configuration_id=f"{number:032}", steps=steps)
                for start, steps in (("unrelaxed", 30 + number), ("predicted", 10 + 2 * number))
            ]
            records.put(*starts, judge(*starts))
        return savings(records)


def test_the_command_says_too_few_or_the_interval(tmp_path):
    few, enough = tmp_path / "few.jsonl", tmp_path / "enough.jsonl"
    assert fill(few, 4).ionic.interval is None
    low, high = fill(enough, 5).ionic.interval
    told = CliRunner().invoke(app, ["savings", "--store", str(few)]).output
    assert "too few" in told
    told = CliRunner().invoke(app, ["savings", "--store", str(enough), "--by", "host"], env={"COLUMNS": "200"}).output
    assert told.count(f"{low:.1%} to {high:.1%}") == 2
    document = CliRunner().invoke(app, ["savings", "--store", str(few), "--json"]).output
    assert '"interval": null' in document
    assert '"interval_reason": "too few: 4 configurations, an interval needs 5"' in document
