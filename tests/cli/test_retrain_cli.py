"""`definet retrain` and `definet models`: what is said, exit codes, and nothing done where nothing is to be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_cases import added, trial
from retrain_helpers import configurations, fill, new_cache, record
from store_fixtures import SETTINGS
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.stores import open_store
from definet_flows.stores.learning.registry import add_trial, champion, find_model, promote
from definet_flows.workflows.learning import retrain

runner = CliRunner()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(new_cache(tmp_path)))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def champions():
    """Two models, the second champion after the first."""
    with open_store("records.sqlite") as records:
        first = add_trial(records, added(records, "sevennet-1"), trial())
        promote(records, first, first.trials[-1])
        second = add_trial(records, added(records, "sevennet-2"), trial(first.ref))
        promote(records, second, second.trials[-1])
        add_trial(records, added(records, "sevennet-3"), trial(second.ref, passed=False))


def run(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, [*arguments, "--store", "records.sqlite"])
    assert result.exit_code == code, result.output
    return result.stdout if code != 2 else result.stderr


@pytest.mark.usefixtures("champions")
def test_list_tells_states_and_errors():
    rows = [line.split("│") for line in run("models", "list").splitlines() if "sevennet-" in line]
    assert [row[2].strip() for row in rows] == ["retired", "champion", "challenger"]
    assert [cell.strip() for cell in rows[0][-4:-1]] == ["MoS2 50.00", "MoS2 20.00", "MoS2 10.00"]


@pytest.mark.usefixtures("champions")
def test_show_tells_trials_and_history():
    told = run("models", "show", "sevennet-3")
    assert "challenger" in told
    assert "failed against sevennet-2: not better" in told
    assert "promoted: sevennet-1, better" in told
    assert "this model 10.00 mÅ, champion 20.00 mÅ, no prediction 50.00 mÅ" in told
    with open_store("records.sqlite") as records:
        assert f"sha256 {find_model(records, 'sevennet-3').sha256}\n" in told
    assert "no model 'x'" in run("models", "show", "x", code=2)


@pytest.mark.usefixtures("champions")
def test_rollback_is_one_command():
    told = run("models", "rollback")
    assert "rolled back: sevennet-1, instead of sevennet-2" in told
    with open_store("records.sqlite") as records:
        assert champion(records, SETTINGS).id == "sevennet-1"
    assert "the weights of the package" in run("models", "rollback")
    assert "nothing to roll back" in run("models", "rollback", code=2)


@pytest.mark.parametrize("arguments", [("rollback",), ("promote", "sevennet-1")])
def test_a_store_that_is_not_there_is_not_made(arguments):
    assert "cannot be read" in run("models", *arguments, code=2)
    assert not Path("records.sqlite").exists()


def test_rollback_where_there_was_no_champion():
    fill("records.sqlite", 2)
    assert "has had no champion" in run("models", "rollback", code=2)


@pytest.mark.usefixtures("champions")
def test_the_champion_is_not_tried_again():
    assert "sevennet-2 is champion already" in run("models", "promote", "sevennet-2", code=2)


def test_a_store_without_models_says_so():
    fill("records.sqlite", 2)
    assert "no models yet" in run("models", "list")


def test_too_little_new_is_said_with_what_was_refused():
    fill("records.sqlite", 40)
    bad = record(configurations()[0])
    with open_store("records.sqlite") as records:
        records.put(bad.model_copy(update={"id": "e" * 32, "status": "failed", "error": "no disk"}))
    told = run("retrain", "--json", "out.json")
    assert "40 new configurations, 200 wanted: nothing done; relax 160 more, or give --min-new 40" in told
    assert "failed: no disk" in told
    (result,) = json.loads(Path("out.json").read_text())
    assert (result["outcome"], result["new"]) == ("too little new", 40)


def test_a_store_without_records_is_refused():
    with open_store("records.sqlite"):
        pass
    assert "the store has no records" in run("retrain", code=2)
    fill("records.sqlite", 1)
    assert "5555" in run("retrain", "--settings", "abc", code=2)


@pytest.mark.usefixtures("champions")
def test_a_promotion_that_fails_its_trial_ends_with_one(monkeypatch):
    with open_store("records.sqlite") as records:
        kept = retrain.find_model(records, "sevennet-3")
    monkeypatch.setattr(retrain, "try_again", lambda *_: (kept, kept.trials[-1]))
    assert "sevennet-3 stays a challenger: not better" in run("models", "promote", "sevennet-3", code=1)
