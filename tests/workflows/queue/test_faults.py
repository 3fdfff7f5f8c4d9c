"""Faults in a campaign: nothing is lost, nothing finished is done again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fireworks import FWAction, FWorker
from flow_helpers import CU
from jobflow import JobStore
from maggma.stores import MemoryStore, MongoStore
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.cli.campaign.retry import _still_running
from definet_flows.errors import InputError
from definet_flows.workflows.engines.potential import PotentialRelaxMaker
from definet_flows.workflows.queue.fireworks import launch_fireworks, make_plan
from definet_flows.workflows.queue.fireworks_repair import LOST_AT_MOST, Mended, mend
from standins.engine_log import count_repeats
from standins.server import find_executable

pytest_plugins = ["mongo_server", "queue_helpers"]
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "faults.py"
FAULTS = ("kill-relax", "kill-predict", "kill-record", "database", "raise", "nan", "disk", "launches")


@pytest.mark.slow
@pytest.mark.mongo
@pytest.mark.timeout(3600)
@pytest.mark.skipif(find_executable() is None, reason="no SecantusDB: set SECANTUS_BIN (see standins/server.py)")
@pytest.mark.skipif("DEFINET_CLUSTER" not in os.environ, reason="takes minutes: `nox -s cluster` runs it")
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_and_nothing_doubled(fault, tmp_path):
    subprocess.run([sys.executable, SCRIPT, tmp_path, "--tries", "2", "--fault", fault], check=True)
    verdicts = [json.loads(line) for line in (tmp_path / f"{fault}.jsonl").read_text().splitlines()]
    assert sum(one["tries"] for one in verdicts) >= 2
    wanted = (0, 0, 2 if fault == "nan" else 0)
    assert [(one["lost"], one["doubled"], one["failed"]) for one in verdicts] == [wanted] * len(verdicts)


def told(*events):
    return [{"event": event, "record": "one"} for event in events]


def test_the_judge_tells_what_was_done_twice():
    assert count_repeats(told("begin", "end", "stored")) == (0, 0)
    assert count_repeats(told("begin", "begin", "end", "stored")) == (0, 0)
    assert count_repeats(told("begin", "end", "begin", "end", "stored")) == (0, 1)
    assert count_repeats(told("begin", "end", "stored", "begin", "end", "stored")) == (1, 0)


@pytest.fixture
def outputs():
    return JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})


@pytest.fixture
def launched(queue, cluster_maker):
    cluster_maker.relax_host = False
    launch_fireworks(make_plan(cluster_maker, CU), queue.launchpad)
    yield queue.launchpad
    queue.launchpad.connection.close()


def checked_out(launchpad):
    return launchpad.checkout_fw(FWorker("all", ["gpu", "cpu", "light"]), "/nowhere")


@pytest.mark.mongo
def test_a_run_whose_worker_died_runs_again(launched, outputs):
    firework, _ = checked_out(launched)
    silent = mend(launched, outputs, dead_after=3600, patience=0)
    assert (silent, len(silent.silences)) == (Mended(0, 0, 0), 1)
    assert 0 <= silent.silences[0] < 600
    mended = mend(launched, outputs, dead_after=0, patience=0)
    assert (mended, mended.silences) == (Mended(1, 0, 0), ())
    assert launched.get_fw_by_id(firework.fw_id).state == "READY"


def test_a_worker_that_is_silent_for_less_than_the_limit_is_told():
    assert _still_running((2520.0, 60.0), 14400.0) == (
        "2 jobs still count as running: the last sign of life of a worker is 42 min old, and a run counts as lost "
        "after 240 min (--dead-after; signs come each hour)"
    )
    assert _still_running((60.0,), 600.0).startswith("1 job still counts as running: ")


@pytest.mark.mongo
def test_a_relaxation_whose_output_was_stored_is_not_run_again(launched, outputs):
    firework, _ = checked_out(launched)
    job = firework.tasks[0]["job"]
    outputs.connect()
    outputs.update({"uuid": job.uuid, "index": job.index, "output": 1})
    query, task = {"fw_id": firework.fw_id}, "spec._tasks.0.job.metadata"
    launched.fireworks.update_one(query, {"$set": {f"{task}.definet_record": {"id": "one"}}})
    assert mend(launched, outputs, dead_after=0, patience=0) == Mended(0, 1, 0)
    assert launched.get_fw_by_id(firework.fw_id).state == "COMPLETED"


@pytest.mark.mongo
def test_a_relaxation_whose_output_was_stored_by_half_is_run_again(launched, outputs):
    firework, _ = checked_out(launched)
    store_half(outputs, firework.tasks[0]["job"])
    query, task = {"fw_id": firework.fw_id}, "spec._tasks.0.job.metadata"
    launched.fireworks.update_one(query, {"$set": {f"{task}.definet_record": {"id": "one"}}})
    assert mend(launched, outputs, dead_after=0, patience=0) == Mended(1, 0, 0)


def store_half(outputs, job):
    """Store an output as a worker leaves it that dies before it has stored what the output refers to."""
    outputs.connect()
    blob = {"@module": "jobflow.core.store", "@class": "JobStore", "store": "data", "blob_uuid": "never written"}
    outputs.docs_store.update({"uuid": job.uuid, "index": job.index, "output": {"trajectory": blob}})


def lose(launchpad, times):
    for _ in range(times - 1):
        firework, _ = checked_out(launchpad)
        launchpad.rerun_fw(firework.fw_id)
    return checked_out(launchpad)[0]


@pytest.mark.mongo
def test_what_ends_its_worker_each_time_counts_as_failed(launched, outputs):
    firework = lose(launched, LOST_AT_MOST)
    job, task = firework.tasks[0]["job"], "spec._tasks.0.job"
    update = {f"{task}.function.@module": "atomate2.ase.jobs", f"{task}.metadata.definet_record": {"id": "one"}}
    launched.fireworks.update_one({"fw_id": firework.fw_id}, {"$set": update})
    store_half(outputs, job)
    assert mend(launched, outputs, dead_after=0, patience=0) == Mended(0, 0, 0, given_up=1)
    assert outputs.docs_store.count() == 0  # else the job that records the failure would fail to read it
    failed = launched.get_fw_by_id(firework.fw_id)
    assert failed.state == "FIZZLED"
    assert "without a word" in failed.launches[-1].action.stored_data["_exception"]


@pytest.mark.mongo
def test_bookkeeping_is_run_again_however_often_it_was_lost(launched, outputs):
    firework = lose(launched, LOST_AT_MOST)
    assert mend(launched, outputs, dead_after=0, patience=0) == Mended(1, 0, 0)
    assert launched.get_fw_by_id(firework.fw_id).state == "READY"


@pytest.mark.mongo
def test_a_reservation_that_nothing_knows_of_is_undone(launched, outputs):
    launched._get_a_fw_to_run({})  # where a worker may die in `checkout_fw`
    assert launched.get_fw_ids({"state": "RESERVED"})
    mend(launched, outputs, patience=0)
    assert not launched.get_fw_ids({"state": "RESERVED"})


def test_forces_that_are_no_numbers_are_an_error_and_do_not_end_the_process(monkeypatch, tmp_path):
    from ase.calculators.harmonic import SpringCalculator  # noqa: PLC0415

    springs = SpringCalculator(CU.cart_coords, float("nan"))
    monkeypatch.setattr("definet_flows.workflows.engines.potential.load_potential", lambda *_: springs)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no numbers"):
        PotentialRelaxMaker(steps=2, optimizer_kwargs={"optimizer": "LBFGS"}).run_ase(CU)  # BFGS raises by itself


@pytest.mark.mongo
def test_bookkeeping_that_failed_runs_again_and_relaxations_that_failed_do_not(launched, outputs):
    light, launch_id = checked_out(launched)
    launched.complete_launch(launch_id, FWAction(), "FIZZLED")
    module, query = "spec._tasks.0.job.function.@module", {"fw_id": light.fw_id}
    ours = launched.fireworks.find_one(query)["spec"]["_tasks"][0]["job"]["function"]["@module"]
    launched.fireworks.update_one(query, {"$set": {module: "atomate2.ase.jobs"}})
    assert mend(launched, outputs, dead_after=3600, patience=0).rerun == 0
    launched.fireworks.update_one(query, {"$set": {module: ours}})
    assert mend(launched, outputs, dead_after=3600, patience=0).rerun == 1
    assert launched.get_fw_by_id(light.fw_id).state == "READY"


@pytest.mark.mongo
def test_what_was_written_by_half_is_dropped_and_its_lock_too(launched, outputs):
    known = launched.fireworks.find_one({"state": "WAITING"}, {"_id": 0})
    assert mend(launched, outputs, patience=0) == Mended(0, 0, 0)
    launched.fireworks.insert_one({**known, "fw_id": 10**6})
    launched.workflows.update_many({}, {"$set": {"locked": True}})
    assert mend(launched, outputs, patience=0) == Mended(0, 0, 1)
    assert launched.fireworks.count_documents({"fw_id": 10**6}) == 0
    assert launched.workflows.count_documents({"locked": {"$exists": True}}) == 0


@pytest.mark.mongo
def test_an_end_that_the_workflow_was_not_told_is_told(launched, outputs):
    firework, launch_id = checked_out(launched)
    launched.complete_launch(launch_id, FWAction(), "COMPLETED")
    children = launched.get_wf_by_fw_id(firework.fw_id).links[firework.fw_id]
    ready = set(launched.get_fw_ids({"state": "READY"}))
    assert ready <= set(children)
    launched.workflows.update_one({}, {"$set": {f"fw_states.{firework.fw_id}": "RUNNING"}})
    launched.fireworks.update_many({"fw_id": {"$in": list(ready)}}, {"$set": {"state": "WAITING"}})
    mend(launched, outputs, patience=0)
    assert set(launched.get_fw_ids({"state": "READY"})) == ready
    assert launched.workflows.find_one()["fw_states"][str(firework.fw_id)] == "COMPLETED"


@pytest.mark.slow
@pytest.mark.mongo
def test_retry_mends_the_queue(queue, launched):
    firework, _ = checked_out(launched)
    file = queue.folder / "my_launchpad.yaml"
    command = [Path(sys.executable).with_name("definet"), "retry", "--store", "campaign", "--engine", "sevennet"]
    command += ["--launchpad", file, "--dead-after", "0"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 lost or failed jobs run again, 0 had stored their output")
    assert launched.get_fw_by_id(firework.fw_id).state == "READY"


UNREACHABLE = "host: 127.0.0.1\nport: 1\nmongoclient_kwargs: {serverSelectionTimeoutMS: 100}"


@pytest.mark.parametrize("content", ["[ : ", "- a list", UNREACHABLE])
def test_a_launchpad_that_cannot_be_used_is_said_in_one_line(content, tmp_path, monkeypatch):
    (tmp_path / "pad.yaml").write_text(content)
    shared = SimpleNamespace(JOB_STORE=JobStore(MongoStore("nowhere", "outputs")))
    monkeypatch.setattr("jobflow.SETTINGS", shared)
    done = CliRunner().invoke(app, ["retry", "--launchpad", str(tmp_path / "pad.yaml"), "--engine", "sevennet"])
    assert done.exit_code == 2
    assert "LaunchPad" in done.output
    assert done.output.strip().count("\n") == 0
