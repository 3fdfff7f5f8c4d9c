"""Active learning, run: rounds, limits, refusals; killed at any stage it goes on from the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import active_run
import numpy as np
import pytest
import torch
from active_run import STAGES, learn, maker, pool
from flow_helpers import CU
from hypothesis import given
from hypothesis import strategies as st

from definet_flows import open_store
from definet_flows.errors import InputError
from definet_flows.model.inference.predict import RawPrediction
from definet_flows.schemas import Configuration, Edit
from definet_flows.schemas.learning import Round
from definet_flows.schemas.models import ModelRef
from definet_flows.stores.learning.registry import models
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.learning.acquisition import uncertain_where_unknown
from definet_flows.workflows.learning.active import flow as active
from definet_flows.workflows.learning.active.state import Limits, by_split, learning_id, read_learning_state, stalled


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    settle(tmp_path, monkeypatch)


def settle(folder, patch):
    patch.chdir(folder)
    patch.setenv("DEFINET_FLOWS_CONFIG", str(folder / "none.yaml"))
    for name in ("data", "cache"):
        patch.setenv(f"DEFINET_FLOWS_{name.upper()}_DIR", str(folder / name))


def rounds():
    with open_store("records.sqlite", read_only=True) as records:
        return sorted(records.find(Round), key=lambda one: one.number)


def ends():
    with open_store("records.sqlite", read_only=True) as records:
        return {row.configuration_id: row.status for row in records.ledgers()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The rounds and ends of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        settle(folder, patch)
        torch.set_num_threads(1)
        output = learn()
        return output, rounds(), ends()


# ------------------------------------------------------------------ the whole


@pytest.mark.slow
def test_rounds_relax_what_they_chose_until_the_budget_is_spent(undisturbed):
    output, found, statuses = undisturbed
    assert output["stop"] == found[-1].stop == "budget spent: 24 of 24 configurations relaxed"
    assert [one.number for one in found] == [0, 1, 2]
    assert [len(one.chosen) for one in found] == [18, 6, 0]  # 8 held out, 4 to choose the epoch by, 6 to learn from
    assert [one.relaxed for one in found] == [0, 18, 24]
    assert [one.held_out for one in found] == [0, 8, 8]
    chosen = [identity for one in found for identity in one.chosen]
    assert len(set(chosen)) == 24
    assert statuses == dict.fromkeys(chosen, "done")
    assert found[0].error is None
    assert 0 < found[-1].error < 0.1
    assert 0 < found[1].ionic_steps < found[2].ionic_steps


@pytest.mark.slow
def test_only_what_is_learned_from_is_chosen_after_the_first_round(undisturbed):
    _, found, _ = undisturbed
    splits = {split: {identity for identity, _ in some} for split, some in by_split(maker().campaign(CU)).items()}
    assert len(splits["test"] & set(found[0].chosen)) == 8
    assert len(splits["val"] & set(found[0].chosen)) == 4
    assert set(found[1].chosen) <= splits["train"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage_it_goes_on_to_the_same_end(stage, undisturbed, tmp_path):
    _, expected, statuses = undisturbed
    folders = {f"DEFINET_FLOWS_{name.upper()}_DIR": str(tmp_path / name) for name in ("data", "cache")}
    killed = subprocess.run(
        [sys.executable, active_run.__file__, stage], cwd=tmp_path, env={**os.environ, **folders}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not rounds() or rounds()[-1].stop is None
    learn()
    found = rounds()
    assert [(one.number, one.chosen, one.relaxed, one.stop) for one in found] == [
        (one.number, one.chosen, one.relaxed, one.stop) for one in expected
    ]
    assert [one.error for one in found[1:]] == pytest.approx([one.error for one in expected[1:]], rel=0.05)
    assert ends() == statuses


@pytest.mark.slow
def test_a_larger_budget_goes_on_where_the_smaller_one_ended():
    learn(maker(budget=20))
    assert [len(one.chosen) for one in rounds()] == [18, 2, 0]
    learn(maker(budget=22))
    assert [len(one.chosen) for one in rounds()] == [18, 2, 2, 0]
    before = rounds()
    learn(maker(budget=22))
    assert [one.chosen for one in rounds()] == [one.chosen for one in before]


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "best"}, "unknown strategy 'best'"),
        (
            {"strategy": "diverse"},
            "'diverse' needs uncertainties.*small.safetensors gives none: take --strategy random",
        ),
        ({"batch": 0}, "batch=0: 1 at least"),
        ({"held_out": 3}, "held_out=3: 8 at least"),
        ({"budget": 12}, "budget=12: 12 are relaxed before the network learns from any"),
        ({"target": 0.0}, "target=0.0: an error in Å"),
    ],
)
def test_bad_fields_are_refused_before_anything_runs(changes, message):
    with pytest.raises(InputError, match=message):
        maker(**changes).make(CU)
    assert not Path("records.sqlite").exists() or not rounds()


def test_a_pool_too_small_for_cross_validation_is_refused_with_what_is_needed():
    needed = "10 are needed for cross-validation, about 53 to hold 8 out: --max-defects 2 gives 17"
    with pytest.raises(InputError, match=f"a pool of 2 configurations is too small, {needed}$"):
        maker(defects=pool(max_defects=1)).make(CU)
    with pytest.raises(InputError, match=r"budget=9: 9 are relaxed before the network learns from any, give more"):
        maker(defects=pool(max_defects=2), budget=9).make(CU)


@pytest.mark.slow
def test_a_small_pool_is_cross_validated():
    """Too few labels, then enough for a network, whose error is that of its cross-validation."""
    one = maker(defects=pool(max_defects=2), budget=14, batch=7)
    output = learn(one)
    assert output["stop"].startswith("budget spent")
    found = rounds()
    assert [len(past.chosen) for past in found] == [7, 7, 0]
    with open_store("records.sqlite", read_only=True) as records:
        (model,) = models(records)
    (trial,) = model.trials
    assert (trial.folds, trial.hosts[0].n) == (5, 14)
    champion = found[2].weights.name == model.id
    assert champion == trial.passed
    expected = (trial.hosts[0].challenger, 14) if champion else (None, 0)
    assert (found[2].error, found[2].held_out) == expected


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    ("errors", "relaxed", "left", "said"),
    [
        ([None], 0, 50, None),
        ([None, 0.01, 0.005], 40, 50, None),
        ([None, 0.01, 0.002], 40, 50, "target reached: 2.00 mÅ"),
        ([None, 0.01], 100, 50, "budget spent: 100 of 100"),
        ([None, 0.01], 40, 0, "pool exhausted: 40"),
        ([None, 0.010, 0.0099, 0.0105], 40, 50, "plateau: 2 rounds"),
        ([None, 0.010, 0.0099, 0.0097], 40, 50, None),
    ],
)
def test_when_learning_ends(errors, relaxed, left, said):
    found = Limits(target=0.002, budget=100, patience=2).reached(errors, relaxed, left)
    assert found is None if said is None else found.startswith(said)


@given(st.lists(st.floats(1e-6, 1.0), max_size=10))
def test_a_plateau_is_counted_from_the_last_gain(errors):
    since = stalled(errors)
    assert 0 <= since <= max(len(errors) - 1, 0)
    if since:
        best = min(errors[: len(errors) - since])
        assert min(errors[len(errors) - since :]) >= 0.98 * best


@pytest.mark.parametrize(("spent", "wanted"), [(23, 1), (24, 0), (14, 10)])
def test_replacements_of_what_failed_count_in_the_budget(spent, wanted):
    """Every held-out relaxation failed: twelve configurations are missing, eight of them held out."""
    one = maker(budget=24)
    campaign, settings = one.campaign(CU), one.settings_hash
    train = [identity for identity, _ in by_split(campaign)["train"]]
    with open_store("records.jsonl") as records:
        state = read_learning_state(records, campaign, settings, "none")
        checkpoint = checkpoint_of(one.defects.model, None)
        first = Round(
            id="first",
            learning="none",
            number=0,
            strategy="random",
            weights=ModelRef(name="small", sha256=checkpoint.sha256),
            error=None,
            held_out=0,
            relaxed=0,
            ionic_steps=0,
            core_hours=None,
            chosen=tuple(train[:spent]),
            stop=None,
            at="",
        )
        state = replace(state, rounds=(first,))
        left = active._candidates(campaign, state)
        chosen = active._choose(one, campaign, records, state, checkpoint, left, 1)
    assert len(chosen) == wanted
    assert not set(chosen) & set(train)


def test_what_a_pool_is_does_not_depend_on_the_limits_but_on_the_strategy():
    campaign = maker().campaign(CU)
    settings = maker().settings_hash
    assert learning_id(campaign, settings, "random") != learning_id(campaign, settings, "diverse")
    with open_store("records.sqlite") as records:
        state = read_learning_state(records, campaign, settings, learning_id(campaign, settings, "random"))
    assert (state.rounds, state.ended, state.chosen, state.ionic_steps) == ((), frozenset(), frozenset(), 0)


def test_inserted_atoms_that_the_network_cannot_take_yet_are_as_uncertain_as_anything():
    lithium = Configuration(edits=(Edit(marker=3, new=3, position=(0.1, 0.2, 0.3)),))
    vacancy = Configuration(edits=(Edit(marker=2, site=0, old=29),))
    known, unknown = RawPrediction(np.zeros((4, 3)), 0.1, "cpu", 0.02), RawPrediction(None, 0.1, "cpu", error="why")
    asked = [("a", vacancy), ("b", lithium), ("c", vacancy)]
    found = uncertain_where_unknown(asked, [known, unknown, unknown])
    assert [raw.uncertainty for raw in found] == [0.02, 0.02, None]
