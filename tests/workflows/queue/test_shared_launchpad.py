"""A LaunchPad that other projects share: `definet retry --launchpad` touches Fireworks of this package only."""

from __future__ import annotations

import pytest
from fireworks import Firework, FWAction, FWorker, ScriptTask, Workflow
from flow_helpers import CU
from jobflow import Flow, JobStore, job
from jobflow.core.job import store_inputs
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore

from definet_flows.workflows.queue.fireworks import launch_fireworks, make_plan
from definet_flows.workflows.queue.fireworks_repair import Mended, mend
from definet_flows.workflows.queue.ours import our_fireworks

pytest_plugins = ["mongo_server", "queue_helpers"]
pytestmark = pytest.mark.mongo
THEIRS = {"_category": "theirs"}


@job
def foreign(value: int) -> int:
    """Stand for a job of another project."""
    return value


@pytest.fixture
def outputs():
    return JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})


@pytest.fixture
def launchpad(queue):
    yield queue.launchpad
    queue.launchpad.connection.close()


def their_flow(*jobs):
    flow = Flow(list(jobs))
    flow.update_config({"manager_config": THEIRS})
    return flow_to_workflow(flow)


def checkout(launchpad, category="theirs"):
    return launchpad.checkout_fw(FWorker(category, [category]), "/nowhere")


def told(launchpad):
    """Return all that a LaunchPad holds of Fireworks and workflows."""
    return [sorted(map(str, c.find({}, {"_id": 0}))) for c in (launchpad.fireworks, launchpad.workflows)]


@pytest.mark.parametrize("made", [lambda: store_inputs(1), lambda: foreign(1)])
def test_a_lost_run_of_another_project_stays_lost(launchpad, outputs, made):
    launchpad.bulk_add_wfs([their_flow(made())])
    checkout(launchpad)
    before = told(launchpad)
    assert mend(launchpad, outputs, dead_after=0, patience=0) == Mended(0, 0, 0)
    assert told(launchpad) == before


def test_a_failed_job_of_another_project_does_not_run_again(launchpad, outputs):
    launchpad.bulk_add_wfs([their_flow(store_inputs(1))])
    _, launch_id = checkout(launchpad)
    launchpad.complete_launch(launch_id, FWAction(), "FIZZLED")
    before = told(launchpad)
    assert mend(launchpad, outputs, dead_after=0, patience=0) == Mended(0, 0, 0)
    assert told(launchpad) == before


def test_a_reservation_a_lock_and_an_end_of_another_project_stay(launchpad, outputs):
    script = Workflow([Firework([ScriptTask.from_str("true")], spec=THEIRS)])
    launchpad.bulk_add_wfs([script, their_flow(foreign(1)), their_flow(foreign(2))])
    firework, launch_id = checkout(launchpad)
    launchpad.complete_launch(launch_id, FWAction(), "COMPLETED")
    told_by = {f"fw_states.{firework.fw_id}": "RUNNING", "locked": True}
    launchpad.workflows.update_many({"nodes": firework.fw_id}, {"$set": told_by})
    launchpad._get_a_fw_to_run({"spec._category": "theirs"})
    before = told(launchpad)
    assert mend(launchpad, outputs, dead_after=0, patience=0) == Mended(0, 0, 0)
    assert told(launchpad) == before
    assert launchpad.get_fw_ids({"state": "RESERVED"})


@pytest.mark.parametrize("ours", [False, True])
def test_a_workflow_that_a_colleague_is_adding_stays(launchpad, outputs, cluster_maker, ours):
    """`add_wf` writes the Fireworks first: for a while no workflow knows them."""
    first = foreign(1)
    made = their_flow(first, store_inputs(first.output))
    if ours:  # with a job of another package in the same flow
        campaign = cluster_maker.make(CU)
        made = flow_to_workflow(Flow([campaign, foreign(campaign.output)]))
    launchpad._upsert_fws(list(made.id_fw.values()), reassign_all=True)
    before = told(launchpad)
    assert mend(launchpad, outputs, dead_after=0, patience=0) == Mended(0, 0, 0)
    assert told(launchpad) == before


def test_ours_are_known_with_what_they_are_replaced_by(launchpad, outputs, cluster_maker):
    launchpad.bulk_add_wfs([their_flow(store_inputs(1))])
    launch_fireworks(make_plan(cluster_maker, CU), launchpad)
    static = our_fireworks(launchpad)
    assert len(static) == launchpad.fireworks.count_documents({}) - 1
    firework, launch_id = checkout(launchpad, "light")
    response = firework.tasks[0]["job"].run(outputs_of(outputs))
    action = FWAction(detours=[flow_to_workflow(response.replace)])
    launchpad.complete_launch(launch_id, action, "COMPLETED")
    assert len(our_fireworks(launchpad)) == len(static) + 3  # the engine's job, its record, and jobflow's join
    assert our_fireworks(launchpad, {"spec._category": "theirs"}) == set()


def outputs_of(store):
    store.connect()
    return store


def test_a_lost_join_of_ours_runs_again(launchpad, outputs, cluster_maker):
    launch_fireworks(make_plan(cluster_maker, CU), launchpad)
    firework, _ = checkout(launchpad, "light")
    known = launchpad.fireworks.find_one({"fw_id": firework.fw_id})
    function = "spec._tasks.0.job.function"
    join = {f"{function}.@module": "jobflow.core.job", f"{function}.@callable": "store_inputs"}
    launchpad.fireworks.update_one({"fw_id": firework.fw_id}, {"$set": join})
    metadata = "spec._tasks.0.job.metadata"
    launchpad.fireworks.update_one({"fw_id": firework.fw_id}, {"$set": {metadata: {}}})
    assert mend(launchpad, outputs, dead_after=0, patience=0) == Mended(0, 0, 0)  # nothing says that it is ours
    del known["_id"]
    launchpad.fireworks.insert_one({**known, "fw_id": 10**6, "state": "COMPLETED", "launches": []})
    launchpad.workflows.update_one({}, {"$push": {"nodes": 10**6}, "$set": {"fw_states.1000000": "COMPLETED"}})
    running = our_fireworks(launchpad, {"state": "RUNNING"})
    assert running == {firework.fw_id}
