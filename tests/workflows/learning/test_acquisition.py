"""Strategies choose what they say they choose; fingerprints do not depend on the placement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definet_flows.defects import Choices, enumerate_configurations, site_operations
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import Configuration
from definet_flows.workflows.learning.acquisition import (
    ACQUISITIONS,
    Acquisition,
    DiverseUncertainty,
    ExpectedSaving,
    Pool,
    Random,
    StepModel,
    Uncertainty,
    acquisition,
)
from definet_flows.workflows.learning.active.pool import fingerprints, make_pool

NONE = np.zeros((0, 1))
STEPS = StepModel()


def pool(positions, uncertainty=None, known=NONE, steps=STEPS):
    column = np.array(positions, dtype=float)[:, None]
    return Pool(column, known, None if uncertainty is None else np.array(uncertainty, dtype=float), steps)


def lot():
    return np.random.default_rng(0)


# ------------------------------------------------------------------ strategies


@given(
    name=st.sampled_from(sorted(ACQUISITIONS)),
    uncertainty=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=12),
    count=st.integers(0, 15),
)
def test_each_strategy_chooses_so_many_and_none_twice(name, uncertainty, count):
    candidates = pool(range(len(uncertainty)), uncertainty)
    chosen = acquisition(name).select(candidates, count, lot())
    assert len(chosen) == len(set(chosen)) == min(count, len(uncertainty))
    assert set(chosen) <= set(range(len(uncertainty)))
    assert chosen == acquisition(name).select(candidates, count, lot())


def test_random_draws_uniformly_and_needs_no_uncertainty():
    draws = [Random().select(pool(range(5)), 2, np.random.default_rng(k))[0] for k in range(500)]
    assert np.bincount(draws, minlength=5).min() > 60


@pytest.mark.parametrize("name", [name for name, one in ACQUISITIONS.items() if one.needs_uncertainty])
def test_without_uncertainties_a_strategy_that_needs_them_refuses(name):
    with pytest.raises(InputError, match=f"'{name}' needs uncertainties.*--strategy random"):
        acquisition(name).select(pool(range(3)), 1, lot())


def test_a_strategy_that_is_not_there():
    with pytest.raises(InputError, match="'best': take random, uncertainty, diverse, saving"):
        acquisition("best")


def test_uncertainty_takes_the_most_uncertain_first():
    assert Uncertainty().select(pool(range(4), [0.1, 0.4, 0.2, 0.3]), 3, lot()) == [1, 3, 2]


def test_equal_uncertainties_are_drawn_by_lot():
    first = {Uncertainty().select(pool(range(4), [0.1] * 4), 1, np.random.default_rng(k))[0] for k in range(40)}
    assert first == {0, 1, 2, 3}


def test_diverse_takes_no_twin_of_what_it_took_or_of_what_was_learned():
    twins = pool([0, 0, 5, 9], [0.4, 0.39, 0.2, 0.1])
    assert DiverseUncertainty().select(twins, 2, lot()) == [0, 2]
    learned = pool([0, 0, 5, 9], [0.4, 0.39, 0.2, 0.1], known=np.array([[0.0]]))
    assert DiverseUncertainty().select(learned, 1, lot()) == [2]


def test_saving_prefers_what_stands_for_many():
    cluster_and_loner = pool([0, 0.1, 0.2, 0.3, 50], [0.02] * 5)
    chosen = ExpectedSaving().select(cluster_and_loner, 2, lot())
    assert chosen[0] in {0, 1, 2, 3}
    assert chosen[1] == 4


def test_saving_counts_what_the_relaxation_costs():
    steps = StepModel(at_reference=10.0, per_e_fold=20.0)
    errors = np.array([0.02] * 12 + [0.04] * 10)
    in_all = [12 * (steps.steps(errors[:1])[0] - 2), 10 * (steps.steps(errors[-1:])[0] - 2)]
    assert in_all[1] > in_all[0]  # more to be saved among the second ones, but at a higher price
    assert ExpectedSaving().select(pool([0] * 12 + [100] * 10, errors, steps=steps), 1, lot())[0] < 12


def test_a_new_strategy_is_one_small_class(monkeypatch):
    class First(Acquisition):
        name = "first"
        needs_uncertainty = False

        def choose(self, pool, count, random):
            assert random is not None
            return list(range(len(pool)))[:count]

    monkeypatch.setitem(ACQUISITIONS, First.name, First)
    assert acquisition("first").select(pool(range(9)), 2, lot()) == [0, 1]


# ------------------------------------------------------------------ steps


def test_steps_are_fitted_to_the_logarithm_of_the_error():
    errors = np.array([0.001, 0.003, 0.01, 0.03, 0.1])
    model = StepModel.fit(errors, 20 + 4 * np.log(errors / 0.01), seconds=36.0)
    assert (model.at_reference, model.per_e_fold) == pytest.approx((20, 4))
    assert model.steps(np.array([0.01, 1e-9])) == pytest.approx([20, 2])
    assert model.core_hours(np.array([0.01])) == pytest.approx([0.2])


@pytest.mark.parametrize("errors", [[], [0.01, 0.02], [0.01, 0.0101, 0.0102, 0.0103], [0.0, 0.0, 0.0]])
def test_where_there_is_nothing_to_fit_the_defaults_stand(errors):
    assert StepModel.fit(np.array(errors), np.full(len(errors), 99.0)) == StepModel()


# ------------------------------------------------------------------ fingerprints


def test_fingerprints_are_those_of_all_images_and_tell_placements_apart():
    host = make_host("MoS2", (3, 3, 1))
    found = list(enumerate_configurations(host, Choices(defects=("v_S", "W_Mo"), max_defects=2)))
    rows = fingerprints(host, found)
    assert len(np.unique(rows.round(6), axis=0)) == len(found)
    permutations = site_operations(host).permutations
    for image in permutations[:: len(permutations) // 7]:
        moved = [
            Configuration(edits=tuple(e.model_copy(update={"site": int(image[e.site])}) for e in one.edits))
            for one in found
        ]
        assert fingerprints(host, moved) == pytest.approx(rows, abs=1e-4)


def test_a_pool_without_one_uncertainty_has_none():
    class Known:
        def __init__(self, uncertainty):
            self.uncertainty = uncertainty

    host = make_host("MoS2", (3, 3, 1))
    found = list(enumerate_configurations(host, Choices(defects=("v_S", "v_Mo"))))
    assert make_pool(host, found, [Known(0.1), Known(0.2)], StepModel()).uncertainty.tolist() == [0.1, 0.2]
    assert make_pool(host, found, [Known(0.1), Known(None)], StepModel()).uncertainty is None
    whole = make_pool(host, found[:1], [Known(0.1)], StepModel(), found[1:])
    assert (len(whole), len(whole.known)) == (1, 1)
    assert np.abs(whole.fingerprints - whole.known).max() == 1
