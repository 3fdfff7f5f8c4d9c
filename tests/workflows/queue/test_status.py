"""The six counts, from records alone."""

from __future__ import annotations

import json

import pytest
from store_fixtures import SETTINGS, WEIGHTS, prediction, record
from typer.testing import CliRunner

from definet_flows import open_store
from definet_flows.cli import app
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.workflows.queue.status import statuses

IDS = tuple(letter * 32 for letter in "abcdef")
CONTROLS = ("a" * 32, "b" * 32)


def campaign():
    return LaunchedCampaign(
        id=LaunchedCampaign.identity(IDS, CONTROLS, SETTINGS, WEIGHTS),
        name="MoS2",
        engine="sevennet",
        settings_hash=SETTINGS,
        weights=WEIGHTS,
        configuration_ids=IDS,
        controls=CONTROLS,
        launched="2026-01-01T00:00:00+00:00",
        queue="fireworks",
    )


def arm(letter, start, status="done", **more):
    return record(start, configuration_id=letter * 32, status=status, **more)


def placed(record, folder):
    """The record of a relaxation that has started in a folder; None: a queue holds it."""
    return record.model_copy(update={"provenance": record.provenance.model_copy(update={"directory": folder})})


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    path = str(tmp_path / "records.sqlite")
    with open_store(path) as records:
        records.put(
            campaign(),
            *(prediction(letter * 32) for letter in "abcdz"),
            arm("a", "unrelaxed"),  # a control: done when both are
            arm("a", "predicted"),
            arm("b", "predicted"),  # the other arm is missing
            placed(arm("c", "predicted", "running"), "/scratch/job"),
            arm("d", "unrelaxed", gated=True),  # without a fit prediction one is all
            arm("e", "predicted", "failed"),
            arm("z", "predicted"),  # of another campaign
        )
    return path


def test_each_configuration_counts_once(store):
    with open_store(store, read_only=True) as records:
        (found,) = statuses(records)
    assert (found.enumerated, found.predicted) == (6, 4)
    assert (found.relaxing, found.recorded, found.failed, found.ended) == (1, 2, 1, False)


def test_json_has_the_six_counts(store):
    result = CliRunner().invoke(app, ["status", "--store", store, "--json"])
    (told,) = json.loads(result.stdout)
    six = ("enumerated", "predicted", "waiting", "relaxing", "recorded", "failed")
    assert [told[name] for name in six] == [6, 4, 2, 1, 2, 1]


def test_what_a_queue_holds_is_waiting(store):
    with open_store(store) as records:
        records.put(placed(arm("c", "predicted", "running"), None), placed(arm("f", "predicted", "running"), None))
        (found,) = statuses(records)
        assert (found.waiting, found.relaxing) == (3, 0)
        records.put(placed(arm("f", "predicted", "running"), "/scratch/job"))
        (found,) = statuses(records)
        assert (found.waiting, found.relaxing, found.recorded, found.failed) == (2, 1, 2, 1)


def test_a_bar_is_drawn(store):
    result = CliRunner().invoke(app, ["status", "--store", store])
    assert result.exit_code == 0
    assert "enumerated  predicted  waiting  relaxing  recorded  failed" in result.stdout


def test_watching_ends_when_all_has_ended(store):
    with open_store(store) as records:
        records.put(*(arm(letter, "predicted") for letter in "cef"), arm("b", "unrelaxed"))
    result = CliRunner().invoke(app, ["status", "--store", store, "--watch"])
    assert result.exit_code == 0


def test_a_store_without_a_campaign_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    with open_store(str(tmp_path / "empty.jsonl")) as records:
        records.put(arm("a", "predicted"))
    result = CliRunner().invoke(app, ["status", "--store", str(tmp_path / "empty.jsonl")])
    assert result.exit_code == 2
    assert "definet launch" in result.stderr
