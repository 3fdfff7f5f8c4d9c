"""Models and settings by id, by the beginning of a hash, or as champion: the same in every command."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from flow_helpers import write_weights
from model_cases import model, trial
from retrain_helpers import configurations, new_cache, record
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.cli.models import training
from definet_flows.errors import InputError
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.stores import open_store
from definet_flows.stores.learning.registry import add_trial, find_model, promote, register
from definet_flows.stores.prefix import beginning_with, only
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.learning import retrain

runner = CliRunner()
STORE = "records.jsonl"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(new_cache(tmp_path)))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def digests(tmp_path):
    """sha256 of two models of a store, `small-0` champion of its settings."""
    with open_store(STORE) as records:
        made = [
            register(
                records, model(f"small-{k}"), write_weights(tmp_path / f"{k}.safetensors", seed=k).path.read_bytes()
            )
            for k in range(2)
        ]
        first = add_trial(records, made[0], trial())
        promote(records, first, first.trials[-1])
    return [one.sha256 for one in made]


# ------------------------------------------------------------------ the rule


def test_a_whole_hash_stands_for_itself_whatever_else_begins_so():
    known = [("ab", "short"), ("abcd", "long"), ("abce", "")]
    assert beginning_with("AB", known) == [("ab", "short")]
    assert only("abcd", known, "thing", "here") == ("abcd", "long")
    assert beginning_with("abc", known, shortest=4) == []
    with pytest.raises(InputError, match=r"several things in here match 'abc': long \(abcd\), abce; give more"):
        only("abc", known, "things", "here")
    with pytest.raises(InputError, match=r"no things 'x' in here: short \(ab\), long \(abcd\), abce"):
        only("x", known, "things", "here")


def test_candidates_are_shown_as_far_as_tells_them_apart():
    with pytest.raises(InputError, match=f"one \\({'a' * 20}1\\), two \\({'a' * 20}2\\)"):
        only("a", [("a" * 20 + "1" + "b" * 43, "one"), ("a" * 20 + "2" + "b" * 43, "two")], "models", "here")


# ------------------------------------------------------------------ models


def test_find_model_lists_those_that_match():
    with open_store(STORE) as records:
        for name, digit in (("one", "1"), ("two", "2"), ("three", "3")):
            records.put(model(name).model_copy(update={"sha256": "abcdef" + digit * 58}))
        assert find_model(records, "abcdef2").id == "two"
        with pytest.raises(InputError, match=r"several models .* 'abcdef': one \(abcdef1.*, two .*, three .*give more"):
            find_model(records, "abcdef")
        with pytest.raises(InputError, match=r"no models? 'abcde0'"):
            find_model(records, "abcde0")
    told = runner.invoke(app, ["models", "show", "abcdef", "--store", STORE])
    assert (told.exit_code, told.output.count("\n")) == (2, 1)
    told = runner.invoke(app, ["predict", "x", "--model", "abcdef", "--store", STORE, "--out", "y"])
    assert told.exit_code == 2


def test_every_name_of_a_model_is_known(digests):
    assert checkpoint_of("small-1", STORE).sha256 == digests[1]
    assert checkpoint_of(digests[1][:8], STORE).sha256 == digests[1]
    assert checkpoint_of("champion", STORE).sha256 == digests[0]
    shipped = load_checkpoint("definet-2dmd")
    assert checkpoint_of(shipped.sha256[:8], STORE).path == shipped.path
    with pytest.raises(InputError, match=r"no model 'small': .*definet-2dmd.*record store 'records.jsonl' has small-0"):
        checkpoint_of("small", STORE)


def test_several_models_are_listed_not_called_none():
    with open_store(STORE) as records:
        for name, digit in (("one", "1"), ("two", "2")):
            records.put(model(name).model_copy(update={"sha256": "abcdef" + digit * 58}))
    with pytest.raises(InputError, match=r"^several models match 'abcdef': one .*, two "):
        checkpoint_of("abcdef", STORE)


def test_champion_is_refused_where_there_is_none_or_several(digests):
    with open_store("other.jsonl"):
        pass
    with pytest.raises(InputError, match="has no champion"):
        checkpoint_of("champion", "other.jsonl")
    with open_store(STORE) as records:
        other = register(records, model("other", "7" * 32), Path("1.safetensors").read_bytes())
        promote(records, other, trial())
    with pytest.raises(InputError, match=r"a champion for each of 2 settings: give small-0 .*, other"):
        checkpoint_of("champion", STORE)
    assert digests


@pytest.mark.parametrize("second", ["small-1", "sha256", "champion"])
def test_combine_takes_every_name(digests, second, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "_finish", lambda *given: asked.append(given[2].recipe["mean of"]))
    monkeypatch.setattr("definet_flows.model.data.archive.read_archive", lambda _: [])
    name = {"sha256": digests[1][:10]}.get(second, second)
    done = runner.invoke(app, ["combine", "small-0", name, "--data", ".", "-o", "both.safetensors", "--store", STORE])
    assert done.exit_code == 0, done.output
    wanted = digests[0] if second == "champion" else digests[1]
    assert list(asked[0])[-1].endswith(wanted[:12])


@pytest.mark.parametrize("start", ["small-1", "sha256", "champion"])
def test_train_starts_from_every_name(digests, start, monkeypatch):
    begun = []

    def fit(*_, network, **__):
        begun.append(network)
        raise InputError("enough")

    monkeypatch.setattr("definet_flows.model.training.train.train", fit)
    monkeypatch.setattr("definet_flows.model.data.archive.read_archive", lambda _: [])
    name = {"sha256": digests[1][:10]}.get(start, start)
    done = runner.invoke(app, ["train", "--data", ".", "-o", "out", "--start", name, "--store", STORE])
    assert "enough" in done.output
    wanted = checkpoint_of(digests[0] if start == "champion" else digests[1], STORE).trainable()
    pairs = zip(wanted.state_dict().values(), begun[0].state_dict().values(), strict=True)
    assert all((one == other).all() for one, other in pairs)


# ------------------------------------------------------------------ settings


def test_an_ambiguous_beginning_of_settings_trains_nothing(monkeypatch):
    first, second = ("5" * 31 + digit for digit in "12")
    with open_store(STORE) as records:
        records.put(*(record(configurations()[0], settings=settings) for settings in (first, second)))
    trained = []
    monkeypatch.setattr(retrain, "retrain", lambda *given: trained.append(given[1]))
    told = runner.invoke(app, ["retrain", "--settings", "55", "--store", STORE])
    assert told.exit_code == 2
    assert "several settings" in told.stderr
    assert first in told.stderr
    assert second in told.stderr
    assert trained == []
    retrain.retrain_all(STORE, settings=second)
    retrain.retrain_all(STORE)
    assert trained[0] == second
    assert sorted(trained[1:]) == [first, second]
    with pytest.raises(InputError, match=r"no settings '7'.*sevennet"):
        retrain.retrain_all(STORE, settings="7")


def test_the_sha256_is_that_of_the_file(digests):
    assert hashlib.sha256(Path("0.safetensors").read_bytes()).hexdigest() == digests[0]
