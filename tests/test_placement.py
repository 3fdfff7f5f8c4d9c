"""Which kind of job goes where, jobs made by jobs included; the placement file."""

from __future__ import annotations

import pytest
from flow_helpers import CU
from jobflow.managers.fireworks import flow_to_workflow
from queue_helpers import EXAMPLES

from definet_flows.errors import InputError
from definet_flows.workflows.placement import DEFAULT_PLACEMENT, place, read_placement

pytest_plugins = ["flow_fixtures"]


def categories(flow):
    """Return {first word of a job's name: its category}, as FireWorks would have it."""
    return {firework.name.split()[0]: firework.spec["_category"] for firework in flow_to_workflow(flow).fws}


def test_static_jobs_have_their_categories_and_survive_failed_parents(maker):
    flow = maker.make(CU)
    place(flow, DEFAULT_PLACEMENT.fireworks)
    assert categories(flow) == {"host": "light", "predict": "gpu", "relax": "light", "totals": "light"}
    survivors = {fw.name.split()[0] for fw in flow_to_workflow(flow).fws if fw.spec.get("_allow_fizzled_parents")}
    assert survivors == {"relax", "totals"}


@pytest.mark.parametrize(("control", "join"), [(0, {}), (1, {"store_inputs": "light"})])
def test_jobs_made_by_jobs_have_their_categories_and_survive_failed_parents(maker, jobs, control, join):
    """One arm is a detour, two are a replacement, which jobflow completes by a job of its own."""
    maker.relax_host, maker.control_fraction, maker.allow_unseen_host = False, control, True
    flow = maker.make(CU)
    place(flow, DEFAULT_PLACEMENT.fireworks)
    jobs.connect()
    made = None
    for job, _ in flow.iterflow():
        response = job.run(jobs)
        made = response.replace or response.detour
        if made is not None:
            break
    assert categories(made) == {"EMT": "cpu", "record": "light", **join}
    assert {job.config.pass_manager_config for job, _ in made.iterflow()} == {False}
    specs = {firework.name.split()[0]: firework.spec for firework in flow_to_workflow(made).fws}
    assert job.config.manager_config["_priority"] < specs["EMT"]["_priority"] < specs["record"]["_priority"]
    assert specs["record"]["_allow_fizzled_parents"]
    assert {spec["configuration_id"] for spec in specs.values()} == {job.metadata["configuration_id"]}


def test_the_host_is_relaxed_where_relaxations_are(maker, jobs):
    job = maker.prepared(maker.campaign(CU))
    place(job, DEFAULT_PLACEMENT.fireworks)
    jobs.connect()
    assert categories(job.run(jobs).replace) == {"EMT": "cpu", "record_host": "light", "store_inputs": "light"}


def test_one_file_holds_the_resources_of_both_queues():
    placement = read_placement(EXAMPLES / "placement.yaml")
    assert placement.relax.fireworks["_queueadapter"] == {"queue": "cpu", "nodes": 2, "walltime": "24:00:00"}
    assert placement.light.fireworks == {"_category": "light"}
    assert placement.predict.remote["worker"] == "gpu"
    assert set(placement.light.remote) == {"worker", "exec_config"}
    assert DEFAULT_PLACEMENT.relax.remote == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("relax: {category: ''}", "relax.category"),  # "" would mean: every worker
        ("relx: {category: cpu}", "relx"),
        ("relax: {category: cpu, queues: {}}", "relax.queues"),
        ("relax: [", "no YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, told):
    path = tmp_path / "placement.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as error:
        read_placement(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_placement(tmp_path / "none.yaml")
