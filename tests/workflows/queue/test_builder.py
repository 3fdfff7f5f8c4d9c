"""Records made from a JobStore's raw outputs are those that the flow's own last jobs would have written."""

from __future__ import annotations

import json

import pytest
from flow_helpers import CU, FailsWithNickel, documents, engine, run, stored
from jobflow import JobStore
from typer.testing import CliRunner

from definet_flows import open_store
from definet_flows.cli import app
from definet_flows.schemas import dump
from definet_flows.stores import Filter, SqliteStore
from definet_flows.workflows.campaign.local import run_here
from definet_flows.workflows.recovery.rebuild import RecordBuilder

pytest_plugins = ["flow_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")


def build(jobs):
    with open_store("records.sqlite") as records:
        return RecordBuilder(jobs, records).build()


def without_times(docs):
    """What a record says, but for the second in which it was written."""
    cut = {key: {**doc} for key, doc in docs.items()}
    for doc in cut.values():
        doc.pop("_id", None)
        if "provenance" in doc:
            doc["provenance"] = {k: v for k, v in doc["provenance"].items() if k not in ("finished", "owner", "pid")}
    return cut


def lost(kinds):
    """Take documents out of the record store, as if their jobs had died before they were written."""
    with open_store("records.sqlite") as records:
        records.store.remove_docs({"kind": {"$in": kinds}})


def test_a_lost_store_is_made_again_as_it_was(maker, jobs):
    run(maker.make(CU), jobs)
    before = without_times(documents())
    wanted = {key: doc for key, doc in before.items() if doc["kind"] in ("record", "pair", "host")}
    assert {doc["kind"] for doc in wanted.values()} == {"record", "pair", "host"}
    lost(["record", "pair", "host"])
    assert len(build(jobs)) == sum(doc["kind"] != "pair" for doc in wanted.values())
    after = without_times(documents())
    assert {key: after.get(key) for key in wanted} == wanted


def test_a_campaign_whose_last_jobs_died_gets_its_records(maker, jobs):
    run(maker.make(CU), jobs)
    before = without_times(documents())
    with open_store("records.sqlite") as records:
        for record in list(records.records()):
            sites = record.sites.model_copy(update={"relaxed": None})
            records.put(record.model_copy(update={"status": "running", "ledger": None, "sites": sites}))
        records.store.remove_docs({"kind": "pair"})
    assert len(build(jobs)) == 4
    assert without_times(documents()) == before
    assert build(jobs) == []
    assert without_times(documents()) == before


def test_a_second_run_writes_nothing(maker, jobs, workplace):
    run(maker.make(CU), jobs)
    size = (workplace / "records.sqlite").stat().st_size
    assert build(jobs) == []
    assert (workplace / "records.sqlite").stat().st_size == size


def test_only_what_is_missing_is_made(maker, jobs):
    run(maker.make(CU), jobs)
    with open_store("records.sqlite") as records:
        gone = next(record for record in records.records(Filter(name="v_Cu")) if record.start == "predicted")
        records.store.remove_docs({"id": gone.id})
    assert [made.id for made in build(jobs)] == [gone.id]


def test_a_relaxation_that_failed_stays_failed(maker, jobs):
    maker.engine = engine(FailsWithNickel)
    run(maker.make(CU), jobs)
    failed = {record.id: dump(record) for record in stored()[0] if record.status == "failed"}
    assert failed
    assert build(jobs) == []
    assert {record.id: dump(record) for record in stored()[0] if record.status == "failed"} == failed


def test_a_record_in_another_jobs_hand_is_left_alone(maker, jobs):
    run(maker.make(CU), jobs)
    with open_store("records.sqlite") as records:
        record = next(records.records())
        place = record.provenance.model_copy(update={"job_uuid": "of another run"})
        records.put(record.model_copy(update={"status": "running", "provenance": place}))
    assert build(jobs) == []


def test_command_on_the_folder_of_a_run(maker, workplace):
    run_here(maker.make(CU), workplace / "jobs", lambda *_: None)
    before = without_times(documents())
    lost(["record", "pair", "host"])
    arguments = ["records", "build", "--store", "records.sqlite", "--folder", "jobs"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "4 records" in result.output
    wanted = {key: doc for key, doc in before.items() if doc["kind"] != "prediction"}
    after = without_times(documents())
    assert {key: after.get(key) for key in wanted} == wanted
    assert "0 records" in CliRunner().invoke(app, arguments).output


def test_no_outputs_is_one_line(workplace):
    for arguments in (["--folder", "nowhere"], []):
        result = CliRunner().invoke(app, ["records", "build", "--store", "records.sqlite", *arguments])
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
    assert [path.name for path in workplace.iterdir()] == []


def test_a_job_carries_no_store(maker, jobs):
    run(maker.make(CU), jobs)
    carried = [doc["metadata"] for doc in jobs.query() if "definet_record" in doc["metadata"]]
    assert len(carried) == 4
    records = [json.loads(metadata["definet_record"]["document"]) for metadata in carried]
    assert {key for record in records for key in record} >= {"id", "sites", "configuration"}
    assert isinstance(jobs, JobStore)
    assert SqliteStore.__name__ not in str(carried)
