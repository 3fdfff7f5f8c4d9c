"""The trial: better on every host it claims, by a paired test, and better than no prediction."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from store_fixtures import host

from definet_flows.model.data.archive import PairSet
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.training.local_errors import NOT_FINITE, local_errors
from definet_flows.schemas.models import StepTrial
from definet_flows.workflows.learning import trial
from definet_flows.workflows.learning.trial import hold_trial, paired_p

RNG = np.random.default_rng(0)
CHAMPION = RNG.uniform(0.01, 0.03, 12)
NOTHING = np.full(12, 0.05)
BETTER = 0.7 * CHAMPION


@pytest.fixture
def hold(monkeypatch):
    """Hold a trial with errors by host: champion, challenger and nothing."""

    def held(errors, steps=None):
        sets = [SimpleNamespace(host=SimpleNamespace(formula=formula), split=lambda _: range(12)) for formula in errors]
        monkeypatch.setattr(trial, "pair_sets", lambda _: sets)
        monkeypatch.setattr(trial, "_errors", lambda _a, _b, pairs: np.stack(errors[pairs.host.formula]))
        models = [SimpleNamespace(name=name, sha256=name) for name in ("new", "old")]
        return hold_trial(*models, SimpleNamespace(held_out_hash="h"), tuple(errors), steps)

    return held


def test_better_on_every_host_passes(hold):
    found = hold({"MoS2": (CHAMPION, BETTER, NOTHING), "WSe2": (CHAMPION, BETTER, NOTHING)})
    assert found.passed
    assert [one.host for one in found.hosts] == ["MoS2", "WSe2"]
    assert "beats old on MoS2" in found.reason
    assert "not measured" in found.reason


def test_worse_on_one_host_fails(hold):
    found = hold({"MoS2": (CHAMPION, BETTER, NOTHING), "WSe2": (BETTER, CHAMPION, NOTHING)})
    assert not found.passed
    assert found.reason.startswith("WSe2: ")
    assert "not below the champion's" in found.reason


def test_a_gain_that_may_be_chance_fails(hold):
    lucky = CHAMPION.copy()
    lucky[0] -= 0.009  # one structure in twelve
    found = hold({"MoS2": (CHAMPION, lucky, NOTHING)})
    assert not found.passed
    assert "no sure gain over 12" in found.reason


def test_many_small_gains_and_one_great_loss_fail(hold):
    lost = 0.99 * CHAMPION
    lost[0] += 0.05
    assert paired_p(CHAMPION, lost) < 0.05
    found = hold({"MoS2": (CHAMPION, lost, NOTHING)})
    assert "not below the champion's" in found.reason


def test_worse_than_no_prediction_fails(hold):
    found = hold({"MoS2": (10 * CHAMPION, 9 * CHAMPION, NOTHING)})
    assert "of no prediction" in found.reason


def test_the_same_network_fails(hold):
    assert paired_p(CHAMPION, CHAMPION) == 1
    assert not hold({"MoS2": (CHAMPION, CHAMPION, NOTHING)}).passed


def test_fewer_held_out_than_can_be_claimed_fail(hold):
    few = (CHAMPION[:5], BETTER[:5], NOTHING[:5])
    assert paired_p(*few[:2]) < 0.05
    found = hold({"MoS2": few})
    assert not found.passed
    assert found.reason == "MoS2: 5 held-out configurations say too little, 8 are needed"


def test_no_host_fails(hold):
    assert "no host" in hold({}).reason


@pytest.mark.parametrize(("champion", "challenger", "passes"), [(40, 41, False), (40, 40, True), (40, 30, True)])
def test_steps_count_where_they_are_known(hold, champion, challenger, passes):
    steps = StepTrial(n=4, champion=champion, challenger=challenger)
    assert hold({"MoS2": (CHAMPION, BETTER, NOTHING)}, steps).passed is passes


def test_an_output_that_is_no_number_is_as_wrong_as_can_be(monkeypatch):
    markers = np.zeros((2, 27), dtype=np.uint8)
    markers[0, 3], markers[1, 9] = 2, 2
    numbers = np.tile(np.array(host().numbers, dtype=np.uint8), (2, 1))
    relaxed = np.zeros((2, 27, 3), dtype=np.float32)
    pairs = PairSet("MoS2", host(), ("a", "b"), ("test", "test"), numbers, markers, relaxed, relaxed, ())
    moved = np.zeros((2, 27, 3))
    moved[0, 5, 0] = np.nan
    moved[1, 9] = 7.0  # the vacant site does not count
    where = "definet_flows.model.training.local_errors"
    monkeypatch.setattr(f"{where}.pair_displacements", lambda *_: moved)
    monkeypatch.setattr(f"{where}.pristine_displacements", lambda *_: np.zeros((27, 3)))
    network = SimpleNamespace(config=NetworkConfig())
    np.testing.assert_array_equal(local_errors(network, pairs, "test"), [NOT_FINITE, 0.0])
    np.testing.assert_array_equal(local_errors(None, pairs, "test"), 0.0)
