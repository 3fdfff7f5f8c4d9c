"""Launch a campaign into the queue of jobflow-remote: missing work becomes many small flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import Flow
from pymongo.errors import PyMongoError

from definet_flows.errors import InputError
from definet_flows.stores.locking import sole_launch
from definet_flows.workflows.queue.plan import KEY, Launched, Plan, enlist, missing_flows, summary
from definet_flows.workflows.queue.routing import DEFAULT_PLACEMENT, Placement, place

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobflow_remote.config.base import Project
    from jobflow_remote.jobs.jobcontroller import JobController

    from definet_flows.workflows.campaign.contents import Campaign

_ENDED = ("COMPLETED", "FAILED", "STOPPED", "USER_STOPPED")


def _quiet(_: int) -> None:
    """Report nothing."""


def launch_remote(
    plan: Plan,
    project: str | None = None,
    placement: Placement = DEFAULT_PLACEMENT,
    tell: Callable[[int], None] = _quiet,
) -> Launched:
    """Add the missing configurations of a campaign to a project of jobflow-remote, in flows of at most 100.

    A host that is to be relaxed first is a flow of its own; the configurations are added by the launch that finds it
    relaxed.

    Parameters
    ----------
    plan
        From `make_plan`.
    project
        Name of the project; None: jobflow-remote's current project.
    placement
        Workers, exec_configs and resources per kind of job; jobs without a worker go to the project's first. Resources
        are left out for workers without a scheduler.
    tell
        Called with the number of configurations of each flow that was added.

    Raises
    ------
    InputError
        If jobflow-remote is not installed, its project is not set up, or its database cannot be used.
    """
    try:
        from jobflow_remote import submit_flow  # noqa: PLC0415 - optional
        from jobflow_remote.config.base import ConfigError  # noqa: PLC0415
        from jobflow_remote.jobs.jobcontroller import JobController  # noqa: PLC0415
    except ImportError:
        msg = "jobflow-remote is not installed: pip install -e '.[remote]' in the clone of definet_flows"
        raise InputError(msg) from None
    try:
        jobs = JobController.from_project_name(project)
        with sole_launch(plan.maker.store) as still_alone:
            state, waiting = enlist(plan, "jobflow-remote"), _waiting(jobs, plan)
            deferred = not state.has_host
            begun, stage = state.progress.begun | waiting, plan.open_stage(state.progress)
            flows = _host_flows(jobs, plan) if deferred else missing_flows(plan, begun, stage)
            added, given = [], placement.without_resources(without_scheduler(jobs.project))
            for part, flow in flows:
                place(flow, given.remote)
                still_alone()
                added.append(str(submit_flow(flow, project=project)[0]))
                tell(0 if deferred else len(part.ids))
    except (ConfigError, ValueError) as error:
        msg = f"jobflow-remote: {' '.join(str(error).split())}"
        raise InputError(msg) from None
    except PyMongoError as error:
        msg = f"jobflow-remote's queue is not usable ({type(error).__name__}): see `jf project check`"
        raise InputError(msg) from None
    return summary(plan, state.progress, waiting, added, deferred=deferred)


def without_scheduler(project: Project | None) -> frozenset[str | None]:
    """Return the workers that run jobs as plain processes, which take no resources; None if the first of all is one."""
    from qtoolkit.io.shell import ShellIO  # noqa: PLC0415 - optional

    workers = {} if project is None else project.workers
    plain = [isinstance(worker.get_scheduler_io(), ShellIO) for worker in workers.values()]
    names = {name for name, bare in zip(workers, plain, strict=True) if bare}
    return frozenset({*names, *((None,) if plain[:1] == [True] else ())})


def _alive(jobs: JobController) -> set[str]:
    """Return the keys of all work that has not ended."""
    query = {f"job.metadata.{KEY}": {"$exists": True}, "state": {"$nin": list(_ENDED)}}
    return {raw["job"]["metadata"][KEY] for raw in jobs.get_jobs(query, {f"job.metadata.{KEY}": 1})}


def _waiting(jobs: JobController, plan: Plan) -> frozenset[str]:
    alive = _alive(jobs)
    return frozenset(identity for identity, key in plan.keys.items() if key in alive)


def _host_flows(jobs: JobController, plan: Plan) -> list[tuple[Campaign, Flow]]:
    """Return the flow that relaxes the host, unless it is under way."""
    if plan.host_key in _alive(jobs):
        return []
    prepared = plan.maker.prepared(plan.campaign)
    prepared.update_metadata({KEY: plan.host_key})
    return [(plan.campaign, Flow([prepared], name=prepared.name))]
