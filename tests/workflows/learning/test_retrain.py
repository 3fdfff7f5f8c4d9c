"""Retraining: promoted only if better, nothing done where little is new, poison refused, alone, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import retrain_helpers
import torch
from jobflow import run_locally
from retrain_helpers import SMALL, configurations, field, fill, host, new_cache, record
from store_fixtures import SETTINGS

from definet_flows.model.inference.predict import predict
from definet_flows.schemas import VACANCY
from definet_flows.stores import open_store
from definet_flows.stores.learning.registry import champion, champion_document, models, rollback
from definet_flows.stores.learning.splits import split_of
from definet_flows.stores.locking import sole
from definet_flows.workflows.campaign.models import champion_of, checkpoint_of, stored_checkpoint
from definet_flows.workflows.learning import retrain as module
from definet_flows.workflows.learning.retrain import RetrainConfig, RetrainMaker, retrain, try_again

OTHER = "7" * 32


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(new_cache(tmp_path)))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with a champion, and the folders that go with it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFINET_FLOWS_CACHE_DIR", str(new_cache(folder)))
        patch.setenv("DEFINET_FLOWS_DATA_DIR", str(folder / "data"))
        torch.set_num_threads(1)
        store = str(folder / "records.sqlite")
        fill(store)
        return folder, retrain(store, SETTINGS, SMALL)


@pytest.fixture
def store(trained, tmp_path):
    """The store with a champion, to be changed."""
    for path in trained[0].glob("*.sqlite"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return str(tmp_path / "records.sqlite")


@cache
def held_out():
    return [one for one in configurations() if split_of(host(), one) == "test"]


# ------------------------------------------------------------------ the whole


def test_what_learned_the_rule_becomes_champion_and_predicts_by_it(trained, store):
    _, result = trained
    assert (result.outcome, result.refused, result.new) == ("promoted", (), 57)
    (trial,) = result.trial.hosts
    assert (trial.host, trial.n) == ("MoS2", 10)
    assert trial.challenger < 0.7 * trial.champion
    assert trial.p < 0.05
    model = champion_of(store, SETTINGS)
    checkpoint = checkpoint_of(model.id, store)
    assert checkpoint.sha256 == model.sha256
    assert checkpoint.card.elements == (16, 34, 42, 74)
    errors, nothing = [], []
    for one, raw in zip(held_out(), predict(checkpoint, host(), held_out()), strict=True):
        atoms = [marker != VACANCY for marker in retrain_helpers.nodes(host(), one)[1]]
        truth = field(one)[atoms] - field(one)[atoms].mean(0)
        errors.append(np.abs(raw.displacements[atoms] - truth).mean())
        nothing.append(np.abs(truth).mean())
    assert np.mean(errors) == pytest.approx(trial.challenger, rel=1e-3)
    assert np.mean(nothing) == pytest.approx(trial.nothing, rel=1e-3)
    assert np.mean(errors) < 0.7 * np.mean(nothing)


def test_a_second_time_nothing_is_new(store):
    result = retrain(store, SETTINGS, SMALL)
    assert (result.outcome, result.new) == ("too little new", 0)
    assert "0 new configurations, 20 wanted: nothing done" in result.message


def test_too_few_are_no_training(tmp_path):
    fill("few.jsonl", 8)
    result = retrain("few.jsonl", SETTINGS, RetrainConfig(min_new=1))
    assert result.outcome == "too little new"
    assert "8 configurations of MoS2, 10 are needed for cross-validation, about 53 to hold 8 out" in result.message
    kinds = "--defect Se_S --defect W_Mo --defect v_Mo --defect v_S"
    assert f"such as `definet run MoS2 --supercell 4 4 1 {kinds} --max-defects 3`: nothing done" in result.message
    result = retrain("few.jsonl", SETTINGS, RetrainConfig(min_new=20))
    assert "8 new configurations, 20 wanted: nothing done" in result.message
    assert not (tmp_path / "data" / "retraining").exists()


@pytest.mark.slow
def test_few_labels_are_cross_validated_and_everything_says_so(tmp_path):
    fill("few.jsonl", 30)
    told = []
    result = retrain("few.jsonl", SETTINGS, SMALL, told.append)
    assert "judged by 5-fold cross-validation" in told[0]
    assert (result.trial.folds, result.trial.hosts[0].n) == (5, 30)
    assert "5-fold cross-validation: " in result.message
    with open_store("few.jsonl", read_only=True) as records:
        (model,) = models(records)
        checkpoint = stored_checkpoint(records, model)
    assert model.trials[-1] == result.trial
    assert "judged by 5-fold cross-validation over 30 ends" in checkpoint.card.data
    learned = [one for one in configurations()[:30] if split_of(host(), one) == "train"]
    assert checkpoint.card.data.startswith(f"{len(learned)} ends")
    folders = sorted(path.name for path in (tmp_path / "data" / "retraining" / model.id).glob("fold-*"))
    assert folders == [f"fold-{k}" for k in range(5)]


def test_a_challenger_that_is_not_better_is_kept_with_the_reason(store):
    before = champion_of(store, SETTINGS)
    with open_store(store) as records:
        (model,) = models(records)
        records.put(model.model_copy(update={"configurations": 0}))  # as if all of it were new
    lazy = SMALL.model_copy(update={"recipe": {**SMALL.recipe, "epochs": 1}})
    result = retrain(store, SETTINGS, lazy)
    assert result.outcome == "kept"
    assert "not below the champion's" in result.message
    assert champion_of(store, SETTINGS).ref == before.ref
    with open_store(store, read_only=True) as records:
        kept = next(model for model in models(records) if model.id == result.model)
        assert kept.trials[-1].reason in result.message


@pytest.mark.slow
def test_the_job_does_the_same(tmp_path):
    fill(str(tmp_path / "mine.jsonl"))
    job = RetrainMaker(config=SMALL, store=str(tmp_path / "mine.jsonl")).make()
    responses = run_locally(job, create_folders=True, log=False)
    (output,) = responses[job.uuid][1].output
    assert output["outcome"] == "promoted"


# ------------------------------------------------------------------ poison


def poisons():
    """Records that look finished, with what is wrong about them."""
    one, two, three, four, five = held_out()[:2] + [c for c in configurations() if c not in held_out()][:3]
    order = field(one)
    sulphur = [i for i, z in enumerate(host().numbers) if z == 16 and i not in {edit.site for edit in one.edits}][:2]
    apart = host().cartesian[sulphur[1]] - host().cartesian[sulphur[0]]
    order[sulphur[0]] += apart
    order[sulphur[1]] -= apart
    exploded = field(two) + np.random.default_rng(0).normal(0, 2.0, (host().n_sites, 3))
    shifted = record(three, np.roll(host().cartesian, 1, axis=0) - host().cartesian)
    table = record(four)
    numbers = table.sites.numbers[1:] + table.sites.numbers[:1]
    table = table.model_copy(update={"sites": table.sites.model_copy(update={"numbers": numbers})})
    loose = record(five)
    loose = loose.model_copy(update={"ledger": loose.ledger.model_copy(update={"converged": False})})
    return {
        "site order": record(one, order),
        "structure: ": record(two, exploded),
        "structure: site": shifted,
        "elements or markers": table,
        "not converged": loose,
        "surface: ENCUT": recut(record(five, start="predicted")),
    }


def recut(of):
    attempt = {"ionic_steps": 3, "changed_tags": {"ENCUT": "400"}}
    return of.model_copy(update={"ledger": type(of.ledger)(**{**of.ledger.model_dump(), "attempts": [attempt]})})


def test_poisoned_records_are_refused_and_the_champion_stays(store):
    before = champion_of(store, SETTINGS)
    with open_store(store) as records:
        records.put(*poisons().values())
        records.put(*(record(one, 10 * field(one), settings=OTHER) for one in configurations()[:30]))
    result = retrain(store, SETTINGS, SMALL.model_copy(update={"min_new": 1}))
    assert result.outcome == "too little new"
    assert champion_of(store, SETTINGS).ref == before.ref
    reasons = {refusal.record: refusal.reason for refusal in result.refused}
    assert result.other_settings == {OTHER: 30}
    for expected, poison in poisons().items():
        assert expected in reasons[poison.id], reasons[poison.id]


@pytest.mark.parametrize("which", range(6))
def test_a_poisoned_record_changes_nothing_that_is_learned(which):
    fill("clean.jsonl")
    fill("poisoned.jsonl")
    poison = list(poisons().values())[which]
    bad = poison.model_copy(update={"id": "f" * 32})  # beside the good record, not in its place
    with open_store("poisoned.jsonl") as records:
        records.put(bad)
        poisoned = module.read_training_set(records, SETTINGS)
    with open_store("clean.jsonl") as records:
        clean = module.read_training_set(records, SETTINGS)
    assert poisoned.data_hash == clean.data_hash
    assert [refusal.record for refusal in poisoned.refused] == [bad.id]


def test_a_champion_of_one_engine_is_none_of_another(store):
    with open_store(store) as records:
        records.put(*(record(one, settings=OTHER) for one in configurations()[:30]))
        assert champion(records, OTHER) is None
        assert champion(records, SETTINGS) is not None


# ------------------------------------------------------------------ steps


@pytest.mark.parametrize(("steps", "passes"), [(30, False), (10, True)])
def test_residual_steps_must_not_grow_where_they_are_measured(store, steps, passes):
    with open_store(store) as records:
        model = champion(records, SETTINGS)
        rollback(records, SETTINGS)
        shipped = model.trials[0].champion.sha256
        for one in held_out()[:4]:
            records.put(record(one, start="predicted", weights=shipped, steps=20))
            records.put(record(one, start="predicted", weights=model.sha256, steps=steps))
    _, trial = try_again(store, model.id)
    assert (trial.steps.n, trial.steps.champion, trial.steps.challenger) == (4, 80, 4 * steps)
    assert trial.passed is passes
    assert passes or f"took {4 * steps} steps from it, 80 from the other" in trial.reason
    with open_store(store) as records:
        assert (champion(records, SETTINGS) is not None) is passes


# ------------------------------------------------------------------ alone, and killed


def test_two_at_once_one_leaves():
    fill("both.jsonl")
    with sole(f"retraining {SETTINGS}", "both.jsonl"):
        result = retrain("both.jsonl", SETTINGS, SMALL)
    assert result.outcome == "busy"
    assert f"runs already: process {os.getpid()}" in result.message
    with open_store("both.jsonl") as records:
        assert models(records) == []


@pytest.mark.slow
def test_killed_it_goes_on_at_once_and_ends_the_same(trained, tmp_path):
    fill(str(tmp_path / "mine.jsonl"))
    command = [sys.executable, str(Path(retrain_helpers.__file__)), str(tmp_path / "mine.jsonl")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((tmp_path / "data" / "retraining").glob("*/last.ckpt")):
        assert time.monotonic() < until, "no epoch within two minutes"
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = retrain("mine.jsonl", SETTINGS, SMALL)
    assert result.outcome == "promoted"
    assert result.model == trained[1].model
    assert result.trial.hosts[0].challenger == pytest.approx(trained[1].trial.hosts[0].challenger, rel=1e-3)


@pytest.mark.parametrize("where", ["register", "add_trial", "promote"])
def test_stopped_between_training_and_promotion_it_goes_on(monkeypatch, trained, where):
    """The champion's document is gone: what was done before the stop is found, the rest is done."""
    folder, result = trained
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(folder / "data"))
    fill("mine.jsonl")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, where, stop)
        with pytest.raises(KeyboardInterrupt):
            retrain("mine.jsonl", SETTINGS, SMALL)
    with open_store("mine.jsonl") as records:
        assert champion_document(records, SETTINGS) is None
    again = retrain("mine.jsonl", SETTINGS, SMALL)
    assert (again.outcome, again.model) == ("promoted", result.model)
    with open_store("mine.jsonl") as records:
        (model,) = models(records)
        assert len(model.trials) == 1
        assert champion(records, SETTINGS).ref == model.ref


@pytest.mark.slow
def test_the_shipped_weights_are_fine_tuned_and_keep_their_other_hosts():
    fill("mine.jsonl")
    config = RetrainConfig(min_new=20, recipe={"epochs": 4, "learning_rate": 1e-3, "warmup": 5})
    result = retrain("mine.jsonl", SETTINGS, config)
    assert result.outcome == "promoted"
    tuned, shipped = checkpoint_of(result.model, "mine.jsonl"), checkpoint_of("definet-2dmd", None)
    assert [unit.formula for unit in tuned.card.hosts] == ["MoS2"]
    assert tuned.card.elements == shipped.card.elements
    other = retrain_helpers.make_host("WSe2", (4, 4, 1))
    some = list(retrain_helpers.enumerate_configurations(other, retrain_helpers.Choices(defects=("v_Se", "v_W"))))
    before, after = (np.stack([raw.displacements for raw in predict(one, other, some)]) for one in (shipped, tuned))
    assert np.abs(after - before).mean() < 0.25 * np.abs(before).mean()
