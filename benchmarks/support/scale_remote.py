"""A campaign in jobflow-remote: its runner in this process, three local workers, each job a process of its own."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.support.scale_meter import TIMES, Meter
from benchmarks.support.scale_queue import plan_of, served
from benchmarks.support.scale_table import look
from standins.queue_place import EXAMPLES, addressed

if TYPE_CHECKING:
    from standins.queue_place import Place

_PROJECT = "definet"


def go_on(folder: Path, size: int, until: float) -> bool:
    """Run the campaign of a size, or go on with it; return whether every relaxation has ended.

    Parameters
    ----------
    folder
        Of the campaign.
    size
        Number of configurations.
    until
        Time to stop, s since the epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meter = Meter(folder)
    with served(folder, meter) as place:
        os.environ["JFREMOTE_PROJECTS_FOLDER"] = str(_project(place))
        from jobflow_remote.jobs.jobcontroller import JobController  # noqa: PLC0415 - reads the folder's settings
        from jobflow_remote.jobs.runner import Runner  # noqa: PLC0415

        from definet_flows.stores import open_store  # noqa: PLC0415
        from definet_flows.workflows.queue.jobflow_remote import launch_remote  # noqa: PLC0415
        from definet_flows.workflows.queue.plan import look_up  # noqa: PLC0415
        from definet_flows.workflows.queue.routing import read_placement  # noqa: PLC0415

        plan, began = plan_of(size, folder), time.process_time()
        if not (folder / "reset").exists():
            JobController.from_project_name(_PROJECT).reset(max_limit=0)
            (folder / "reset").touch()
        placement = read_placement(EXAMPLES / "placement.yaml")
        bare = {kind: getattr(placement, kind).model_copy(update={"resources": {}}) for kind in ("predict", "relax")}
        launch_remote(plan, _PROJECT, placement.model_copy(update=bare))
        with suppress(RuntimeError):  # the time is over
            Runner(project_name=_PROJECT).run_all_jobs(max_seconds=max(1, int(until - time.time())))
        meter.add("runner", time.process_time() - began)
        with open_store(plan.maker.store, read_only=True) as records:
            look(plan, records, folder)
            progress = look_up(plan, records).progress
        return len(progress.recorded | progress.failed) == size


def _project(place: Place) -> Path:
    """Write the example's project with its three workers on this machine; return the folder of projects."""
    content: dict[str, Any] = addressed(
        yaml.safe_load((EXAMPLES / "jobflow_remote.yaml").read_text(encoding="utf-8")), place.port, place.options
    )
    exports = [f"export {key}={value}" for key, value in place.environment.items()]
    before = "\n".join([f"export PATH={Path(sys.executable).parent}:$PATH", *exports])
    after = f"times >> {place.folder / TIMES}"  # of the job's script and its children
    for name, worker in content["workers"].items():
        work = place.folder / name
        work.mkdir(exist_ok=True)
        local = {"type": "local", "scheduler_type": "shell", "work_dir": str(work), "max_jobs": worker["max_jobs"]}
        content["workers"][name] = {**local, "max_jobs": 1, "pre_run": before, "post_run": after}
    content["exec_config"] = {name: {} for name in content["exec_config"]}
    content["runner"] = dict.fromkeys(("delay_checkout", "delay_check_run_status", "delay_advance_status"), 1)
    (place.folder / "projects").mkdir(exist_ok=True)
    place.write(f"projects/{_PROJECT}.yaml", content)
    return place.folder / "projects"
