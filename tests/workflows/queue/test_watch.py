"""A campaign as it goes on: stages, rate, savings, failures, from made-up records."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from store_fixtures import SETTINGS, WEIGHTS, prediction, record
from typer.testing import CliRunner

from definet_flows import open_store
from definet_flows.cli import app
from definet_flows.cli.campaign.status import watched
from definet_flows.cli.records import report as report_command
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.stores import SqliteStore
from definet_flows.workflows.queue.watch import Watcher

NOW = datetime(2026, 1, 3, tzinfo=UTC)
IDS = tuple(f"{k:032x}" for k in range(20))
SIZES = (1,) * 4 + (2,) * 6 + (3, 5) * 5


def campaign(launched=NOW - timedelta(hours=48), sizes=SIZES, ids=IDS):
    return LaunchedCampaign(
        id=LaunchedCampaign.identity(ids, (), SETTINGS, WEIGHTS),
        name="MoS2",
        engine="sevennet",
        settings_hash=SETTINGS,
        weights=WEIGHTS,
        configuration_ids=ids,
        sizes=sizes,
        controls=(),
        launched=launched.isoformat(),
        queue="fireworks",
    )


def ended(k, hours_ago, status="done", error=None, costs=(None, None)):
    made = record("predicted", configuration_id=IDS[k], status=status, costs=costs)
    finished = None if hours_ago is None else (NOW - timedelta(hours=hours_ago)).isoformat()
    where = made.provenance.model_copy(update={"finished": finished, "directory": "/scratch/job"})
    return made.model_copy(update={"provenance": where, "error": error})


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    return str(tmp_path / "records.sqlite")


def look(store, *documents, watcher=None):
    with open_store(store) as records:
        records.put(*documents)
    with open_store(store, read_only=True) as records:
        (found,) = (watcher or Watcher()).look(records, NOW)
    return found


def test_stages_count_by_the_number_of_defects(store):
    found = look(store, campaign(), ended(0, 1), ended(4, None, "running"), ended(10, 1, "failed"), ended(11, 1))
    told = {s.name: (s.enumerated, s.waiting, s.relaxing, s.recorded, s.failed) for s in found.stages}
    assert told == {"singles": (4, 3, 0, 1, 0), "pairs": (6, 5, 1, 0, 0), "rest": (10, 8, 0, 1, 1)}
    assert (found.total.waiting, found.total.relaxing, found.ended) == (16, 1, False)


def test_a_campaign_without_sizes_is_a_single_row(store):
    assert look(store, campaign(sizes=()), ended(0, 1)).stages == ()


def test_the_rate_is_of_the_last_day_and_gives_the_end(store):
    recent = [ended(k, 1 + k) for k in range(6)]
    found = look(store, campaign(), *recent, ended(6, 30))  # the last is older than a day
    assert found.rate == pytest.approx(6 / 24)
    assert found.end == NOW + timedelta(hours=13 / (6 / 24))


def test_the_rate_of_a_young_campaign_is_since_its_launch(store):
    found = look(store, campaign(NOW - timedelta(hours=4)), ended(0, 1), ended(1, 2), ended(2, 10))
    assert found.rate == pytest.approx(2 / 4)


def test_a_store_without_times_has_no_rate(store):
    found = look(store, campaign(), ended(0, None), ended(1, None, "failed", "x"))
    assert (found.rate, found.end) == (None, None)
    assert found.failures[0].finished is None


def test_the_last_ten_failures_are_told_in_order(store):
    found = look(store, campaign(), *(ended(k, 20 - k, "failed", f"reason {k}\nmore") for k in range(12)))
    assert [failure.reason.split("\n")[0] for failure in found.failures] == [f"reason {k}" for k in range(2, 12)]


def test_core_hours_are_summed(store):
    assert look(store, campaign(), ended(0, 1, costs=(1, 2.0)), ended(1, 1, costs=(1, 0.5))).core_hours == 2.5


def test_a_relaxation_that_failed_twice_has_its_second_time(store):
    watcher = Watcher()
    look(store, campaign(), ended(0, 20, "failed", "first"), watcher=watcher)
    look(store, ended(0, None, "running"), watcher=watcher)
    (failure,) = look(store, ended(0, 2, "failed", "second"), watcher=watcher).failures
    assert failure.finished == (NOW - timedelta(hours=2)).isoformat()


@pytest.mark.parametrize("width", [80, 120])
def test_a_failure_is_a_line_however_narrow_the_terminal(store, width):
    found = look(store, campaign(), ended(0, 1, "failed", "a long reason\nof two lines " * 20))
    console = Console(width=width, record=True, quiet=False)
    with console.capture() as shown:
        console.print(watched([found]))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[-2].startswith("last failures")
    assert "a long reason" in lines[-1]


def test_an_ended_campaign_expects_no_end_and_no_pair_is_no_saving_of_0(store):
    found = look(store, campaign(sizes=(1,), ids=IDS[:1]), ended(0, 1))
    console = Console(width=120, record=True, quiet=False)
    with console.capture() as shown:
        console.print(watched([found]))
    assert "an hour; all have ended" in shown.get()
    assert "ionic steps saved -, no pair in the same minimum; core-hours spent unknown" in shown.get()


def test_the_page_is_renewed_until_interrupted(store, tmp_path, monkeypatch):
    pages, looks = tmp_path / "page.html", []

    def sleep(_):
        looks.append(pages.read_bytes())
        pages.unlink()
        if len(looks) == 2:
            raise KeyboardInterrupt

    look(store, campaign(), ended(0, 1))
    monkeypatch.setattr(report_command.time, "sleep", sleep)
    CliRunner().invoke(app, ["report", "--store", store, "-o", str(pages), "--watch"])
    assert len(looks) == 2


def test_a_look_reads_each_relaxation_that_ended_once_and_no_prediction(store, monkeypatch):
    """A document of a relaxation or a prediction is some tens of kB, and a look takes place every five seconds."""
    read, document = [], SqliteStore.document

    def counted(self, number, **given):
        read.append(found := document(self, number, **given))
        return found

    watcher = Watcher()
    look(store, campaign(), *(prediction(identity) for identity in IDS), *(ended(k, 1) for k in range(8)))
    monkeypatch.setattr(SqliteStore, "document", counted)
    assert look(store, watcher=watcher).total.predicted == len(IDS)
    kinds = Counter(found["kind"] for found in read)
    assert kinds == {"campaign": 1, "record": 8}
    read.clear()
    look(store, watcher=watcher)
    assert [found["kind"] for found in read] == ["campaign"]
