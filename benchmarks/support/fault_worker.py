"""A worker that is cheap to kill: forked from a process that has imported everything, otherwise `rlaunch rapidfire`.

It writes to the engine's log what it begins and what it has stored, so that the round can choose when to kill it.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

from fireworks import LaunchPad
from fireworks.core.rocket_launcher import rapidfire
from jobflow.managers.fireworks import JobFiretask

import definet_flows.model.inference.predict  # noqa: F401 - torch, before anything is forked
import definet_flows.workflows.campaign.jobs as jobs_module
from definet_flows.workflows.campaign.prediction import complete
from standins.engine_log import log
from standins.queue_place import Worker
from standins.spring_engine import SpringRelaxMaker

__all__ = ["SpringRelaxMaker", "launch", "work"]

_run_task, _complete = JobFiretask.run_task, complete


def _told(self: JobFiretask, spec: dict[str, Any]) -> Any:  # noqa: ANN401 - as in FireWorks
    """Run a job; say what it is, and that its output is stored."""
    job = self["job"]
    record = job.metadata.get("definet_record", {}).get("id", "")
    log("task", name=job.name, record=record)
    action = _run_task(self, spec)  # type: ignore[no-untyped-call]
    log("stored", name=job.name, record=record)
    return action


def _raising(seed: int) -> Any:  # noqa: ANN401 - of any signature
    """Return a prediction that raises before, or after it has done its work."""
    of_seed = random.Random(seed)  # noqa: S311 - instants, not secrets

    def raises(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        late = of_seed.random() < 0.5  # noqa: PLR2004 - one of two
        if late:
            _complete(*arguments, **options)
        log("raised", late=late)
        msg = "the device is gone"
        raise RuntimeError(msg)

    return raises


def work(folder: str, launchpad: str, raising: int | None = None) -> None:
    """Run jobs until killed, or until none is left that is yet to run."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    with Path(f"{launchpad}.worker.log").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    setattr(JobFiretask, "run_task", _told)  # noqa: B010 - mypy
    if raising is not None:
        vars(jobs_module)["complete"] = _raising(raising)
    rapidfire(LaunchPad.from_file(launchpad), Worker(), sleep_time=1, strm_lvl="WARNING")
    sys.exit(0)


def launch(plan: Any, launchpad: str, wait: float) -> None:  # noqa: ANN401 - a Plan, pickled
    """Launch a campaign after some seconds."""
    import time  # noqa: PLC0415

    from definet_flows.workflows.queue.fireworks import launch_fireworks  # noqa: PLC0415

    time.sleep(wait)
    launched = launch_fireworks(plan, LaunchPad.from_file(launchpad))
    log("launched", added=launched.added)
