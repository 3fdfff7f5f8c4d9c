"""Launching into a LaunchPad on a running server: what is added, what is not, and what runs where."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from multiprocessing import get_context

import pytest
from flow_helpers import CU, FailsWithNickel, engine

from definet_flows import Choices, open_store
from definet_flows.errors import InputError
from definet_flows.workflows.queue.fireworks import launch_fireworks, make_plan

pytest_plugins = ["mongo_server", "queue_helpers"]
pytestmark = pytest.mark.mongo


def test_a_second_launch_adds_nothing(queue, cluster_maker):
    cluster_maker.relax_host = False
    plan = make_plan(cluster_maker, CU)
    first = launch_fireworks(plan, queue.launchpad)
    assert (len(first.workflows), first.added, first.waiting) == (1, 2, 0)
    count = queue.launchpad.fireworks.count_documents({})
    second = launch_fireworks(plan, queue.launchpad)
    assert (second.workflows, second.added, second.waiting) == ((), 0, 2)
    assert queue.launchpad.fireworks.count_documents({}) == count


def test_a_larger_campaign_adds_what_the_smaller_one_lacks(queue, cluster_maker):
    cluster_maker.relax_host = False
    launch_fireworks(make_plan(cluster_maker, CU), queue.launchpad)
    cluster_maker.max_defects = 2
    plan = make_plan(cluster_maker, CU)
    launched = launch_fireworks(plan, queue.launchpad)
    assert (launched.added, launched.waiting) == (len(plan.campaign.ids) - 2, 2)


def test_workflows_hold_at_most_100_and_one_prediction_job_serves_all(queue, cluster_maker):
    cluster_maker.relax_host, cluster_maker.supercell, cluster_maker.max_defects = False, (3, 3, 3), 3
    cluster_maker.batch_size = 400
    plan = make_plan(cluster_maker, CU)
    sizes = []
    launched = launch_fireworks(plan, queue.launchpad, tell=sizes.append)
    assert sum(sizes) == len(plan.campaign.ids) == launched.added > 200
    assert max(sizes) == 100
    asked = []
    for raw in queue.launchpad.fireworks.find({"name": {"$regex": "^predict"}}):
        job = raw["spec"]["_tasks"][0]["job"]
        asked.append(len(job["function_args"][1]) + len(job["function_kwargs"]["ahead"]))
    assert len(asked) == len(sizes)
    assert max(asked) == min(400, sum(sizes))


def _launch(folder, environment, maker, barrier):
    patch = pytest.MonkeyPatch()
    for name, value in environment.items():
        patch.setenv(name, value)
    from fireworks import LaunchPad  # noqa: PLC0415 - in the process

    plan = make_plan(maker, CU)
    barrier.wait()
    launch_fireworks(plan, LaunchPad.from_file(str(folder / "my_launchpad.yaml")))


@pytest.mark.slow
def test_two_launches_at_once_add_each_configuration_once(queue, cluster_maker):
    cluster_maker.relax_host, cluster_maker.max_defects = False, 2
    context = get_context("spawn")
    barrier = context.Barrier(2)
    both = [
        context.Process(target=_launch, args=(queue.folder, queue.environment, cluster_maker, barrier))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    plan = make_plan(cluster_maker, CU)
    names = Counter(raw["spec"]["definet"] for raw in queue.launchpad.fireworks.find({"spec.definet": {"$ne": None}}))
    assert names == dict.fromkeys(plan.keys.values(), 1)


def test_a_launchpad_that_was_never_initialised_is_refused(queue, cluster_maker):
    queue.launchpad.fw_id_assigner.delete_many({})
    with pytest.raises(InputError, match="lpad reset"):
        launch_fireworks(make_plan(cluster_maker, CU), queue.launchpad)
    assert queue.launchpad.workflows.count_documents({}) == 0


def test_a_host_is_relaxed_once_for_two_campaigns(queue, cluster_maker):
    plan = make_plan(cluster_maker, CU)
    first = launch_fireworks(plan, queue.launchpad)
    assert (len(first.workflows), first.added, first.deferred) == (1, 0, 2)
    again = launch_fireworks(plan, queue.launchpad)
    assert (again.workflows, again.added, again.deferred) == ((), 0, 2)
    cluster_maker.max_defects = 2
    with pytest.raises(InputError, match="launch again when it has ended"):
        launch_fireworks(make_plan(cluster_maker, CU), queue.launchpad)
    assert sorted(raw["name"].split()[0] for raw in queue.launchpad.fireworks.find()) == ["host", "launch"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_workers_take_what_is_theirs_and_nothing_else(queue, cluster_maker):
    """Host, predictions, relaxations of which one kind fails, records: dynamic children included."""
    cluster_maker.engine = engine(FailsWithNickel)
    plan = make_plan(cluster_maker, CU)
    launch_fireworks(plan, queue.launchpad)
    with ExitStack() as stack:
        for category in ("gpu", "cpu", "light"):
            stack.enter_context(queue.worker(category))
        queue.wait()
    ran = list(queue.ran())
    assert [(name, workers) for name, category, workers in ran if workers != {category}] == []
    kinds = Counter((name.split()[0], category) for name, category, _ in ran)
    assert kinds == {
        ("host", "light"): 2,  # before the host is known, and in the workflow
        ("EMT", "cpu"): 5,  # the host, and two arms of two configurations
        ("record_host", "light"): 1,
        ("store_inputs", "light"): 3,
        ("launch", "light"): 1,
        ("predict", "gpu"): 1,
        ("relax", "light"): 2,
        ("record", "light"): 4,
        ("totals", "light"): 1,
    }
    with open_store("campaign", read_only=True) as records:
        found = sorted((row.name, row.start, row.status) for row in records.ledgers())
    arms = [("Ni_Cu", "failed"), ("v_Cu", "done")]
    assert found == [(name, start, status) for name, status in arms for start in ("predicted", "unrelaxed")]
    again = launch_fireworks(plan, queue.launchpad)
    assert (again.added, again.waiting, again.done, again.failed) == (0, 0, 1, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_stage_is_launched_when_the_one_before_has_ended(queue, cluster_maker):
    """Nickel fails, and the pairs start from the field of the vacancy all the same."""
    cluster_maker.engine, cluster_maker.prerelaxer = engine(FailsWithNickel), ("fields",)
    cluster_maker.max_defects, cluster_maker.control_fraction = 2, 0.0
    cluster_maker.defects = Choices(defects=("v_Cu", "Ni_Cu"), max_on={"Cu": 2}, max_distance=2.6)
    plan = make_plan(cluster_maker, CU)
    singles, pairs = (len(stage.ids) for stage in plan.stages)
    launched = launch_fireworks(plan, queue.launchpad)
    assert launched.deferred == singles + pairs
    with ExitStack() as stack:
        for category in ("gpu", "cpu", "light"):
            stack.enter_context(queue.worker(category))
        queue.wait()
    with open_store("campaign", read_only=True) as records:
        found = sorted((row.n_defects, row.name, row.start, row.status) for row in records.ledgers())
    assert found == [
        (1, "Ni_Cu", "unrelaxed", "failed"),
        (1, "v_Cu", "unrelaxed", "done"),
        (2, "Ni_Cu+Ni_Cu", "unrelaxed", "failed"),
        (2, "v_Cu+Ni_Cu", "unrelaxed", "failed"),
        (2, "v_Cu+v_Cu", "predicted", "done"),
    ]
    assert launch_fireworks(plan, queue.launchpad).added == 0
