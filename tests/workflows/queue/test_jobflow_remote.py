"""A campaign through jobflow-remote's runner and local workers, its queue and job store on a running server."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from flow_helpers import CU, FailsWithNickel, engine
from queue_helpers import EXAMPLES, addressed, example

from definet_flows import open_store
from definet_flows.workflows.queue.plan import make_plan
from definet_flows.workflows.queue.routing import read_placement

pytest.importorskip("jobflow_remote", reason="pip install -e '.[remote]'")
pytest_plugins = ["mongo_server", "queue_helpers"]
pytestmark = [pytest.mark.mongo, pytest.mark.slow]


@pytest.fixture
def controller(queue, mongo_server, monkeypatch):
    """Set up the example's project with its three workers on this machine, without a scheduler."""
    import jobflow_remote  # noqa: PLC0415 - optional

    content = addressed(example("jobflow_remote.yaml"), mongo_server, f"jf{queue.folder.name}")
    for name, worker in content["workers"].items():
        place = queue.folder / name
        place.mkdir()
        exports = [f"export {key}={value}" for key, value in queue.environment.items()]
        path = f"export PATH={Path(sys.executable).parent}:$PATH"
        content["workers"][name] = {
            "type": "local",
            "scheduler_type": "shell",
            "work_dir": str(place),
            "pre_run": "\n".join([path, *exports]),
            "max_jobs": worker["max_jobs"],
        }
    content["exec_config"] = {name: {} for name in content["exec_config"]}
    content["runner"] = dict.fromkeys(("delay_checkout", "delay_check_run_status", "delay_advance_status"), 1)
    projects = queue.folder / "projects"
    projects.mkdir()
    queue.write("projects/definet.yaml", content)
    monkeypatch.setattr(jobflow_remote.SETTINGS, "projects_folder", str(projects))
    monkeypatch.setenv("JFREMOTE_PROJECTS_FOLDER", str(projects))
    from jobflow_remote.jobs.jobcontroller import JobController  # noqa: PLC0415

    found = JobController.from_project_name("definet")
    found.reset(max_limit=0)
    return found


@pytest.mark.timeout(3600)
def test_a_campaign_runs_on_local_workers(controller, cluster_maker):
    from jobflow_remote.jobs.runner import Runner  # noqa: PLC0415 - optional

    from definet_flows.workflows.queue.jobflow_remote import launch_remote  # noqa: PLC0415

    cluster_maker.engine = engine(FailsWithNickel)
    plan, placement = make_plan(cluster_maker, CU), read_placement(EXAMPLES / "placement.yaml")
    assert placement.relax.resources  # which plain processes do not take
    first = launch_remote(plan, "definet", placement)
    assert (len(first.workflows), first.added, first.deferred) == (1, 0, 2)
    assert launch_remote(plan, "definet", placement).workflows == ()
    Runner(project_name="definet").run_all_jobs(max_seconds=1500)
    second = launch_remote(plan, "definet", placement)
    assert (len(second.workflows), second.added, second.deferred) == (1, 2, 0)
    assert launch_remote(plan, "definet", placement).waiting == 2
    Runner(project_name="definet").run_all_jobs(max_seconds=1500)
    ran = Counter((raw["job"]["name"].split()[0], raw["worker"]) for raw in controller.get_jobs({}))
    assert ran == {
        ("host", "light"): 2,
        ("EMT", "cpu"): 5,
        ("record_host", "light"): 1,
        ("store_inputs", "light"): 3,
        ("predict", "gpu"): 1,
        ("relax", "light"): 2,
        ("record", "light"): 4,
        ("totals", "light"): 1,
    }
    with open_store("campaign", read_only=True) as records:
        found = sorted((row.name, row.start, row.status) for row in records.record_rows())
    arms = [("Ni_Cu", "failed"), ("v_Cu", "done")]
    assert found == [(name, start, status) for name, status in arms for start in ("predicted", "unrelaxed")]
    again = launch_remote(plan, "definet", placement)
    assert (again.added, again.waiting, again.done, again.failed) == (0, 0, 1, 1)
