"""A campaign into a queue: what is missing, as many small workflows; what is done or on its way is left alone."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from fireworks import Workflow
from jobflow.managers.fireworks import flow_to_workflow
from pymongo.errors import PyMongoError

from definet_flows.errors import InputError
from definet_flows.schemas import content_hash
from definet_flows.stores import Filter, open_store
from definet_flows.workflows.arms import arms_hash
from definet_flows.workflows.engines import resolve_engine
from definet_flows.workflows.flow import CONFIGURATION
from definet_flows.workflows.launch_lock import COLLECTION, DEAD_AFTER, sole_launch
from definet_flows.workflows.placement import DEFAULT_PLACEMENT, Placement, place
from definet_flows.workflows.progress import Progress, progress_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from fireworks import LaunchPad
    from jobflow import Flow
    from pymatgen.core import Structure

    from definet_flows.workflows.flow import Campaign, DefectFlowMaker

WORKFLOW_SIZE = 100
"""Most configurations in one workflow: each end of a job locks and reads its whole workflow."""

KEY = "definet"
"""Entry of a Firework's spec, and of a job's metadata, that names the configuration it works for."""

ALIVE = ("WAITING", "READY", "RESERVED", "RUNNING", "PAUSED")
"""States of Fireworks that are yet to end."""


def _quiet(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Plan:
    """A campaign and how to run it.

    Attributes
    ----------
    maker
        Engine, control fraction, weights, store; `batch_size` is the number of configurations that one prediction
        job serves, here hundreds.
    campaign
        What `maker.campaign` returned.
    """

    maker: DefectFlowMaker
    campaign: Campaign

    @cached_property
    def settings_hash(self) -> str:
        """Hash of what all relaxations of the plan share."""
        return arms_hash(resolve_engine(self.maker.engine), relaxed_host=self.maker.relax_host)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Of each configuration_id, what tells its work from any other in a queue."""
        shared = (self.settings_hash, self.campaign.weights, self.maker.store)
        controls = self.campaign.controls
        return {one: content_hash("launch", one, one in controls, *shared) for one in self.campaign.ids}


@dataclass(frozen=True)
class Launched:
    """What a launch did.

    Attributes
    ----------
    workflows
        Of each workflow that was added, an id to look it up by: the smallest fw_id, or the job's id in jobflow-remote.
    added
        Number of configurations in them.
    waiting
        Number that the queue had already, waiting or running.
    done
        Number whose relaxations are recorded.
    failed
        Number with a relaxation that failed; left to `definet retry`.
    elsewhere
        Number being relaxed according to the record store, but not from this queue: by another campaign, or lost.
    """

    workflows: tuple[str, ...]
    added: int
    waiting: int
    done: int
    failed: int
    elsewhere: int


def make_plan(maker: DefectFlowMaker, host: Structure | str | Path) -> Plan:
    """Return the plan of a campaign; raises as `DefectFlowMaker.make`."""
    return Plan(maker, maker.campaign(host))


def launch_fireworks(
    plan: Plan,
    launchpad: LaunchPad,
    placement: Placement = DEFAULT_PLACEMENT,
    tell: Callable[[int], None] = _quiet,
    *,
    dead_after: float = DEAD_AFTER,
) -> Launched:
    """Add what is missing of a campaign to a LaunchPad, in workflows of at most 100 configurations.

    Two launches at once, of the same campaign or of campaigns that share configurations, follow one another: the
    second one finds what the first one added.

    Parameters
    ----------
    plan
        From `make_plan`.
    launchpad
        Initialised once by `lpad reset`.
    placement
        Categories and queue resources per kind of job.
    tell
        Called with the number of configurations of each workflow that was added.
    dead_after
        Seconds without a sign of life after which another launch counts as dead.

    Raises
    ------
    InputError
        If the LaunchPad cannot be used or was never initialised.
    """
    try:
        _require_initialised(launchpad)
        with sole_launch(launchpad.db[COLLECTION], dead_after) as beat:
            waiting = _waiting(launchpad, plan)
            state = progress_now(plan)
            flows = missing_flows(plan, state, waiting)
            added = []
            for part, flow in flows:
                place(flow, placement.fireworks)
                added.append(str(_add(launchpad, flow)))
                beat()
                tell(len(part.ids))
    except PyMongoError as error:
        msg = f"the LaunchPad is not usable ({type(error).__name__}): check host, user and role in my_launchpad.yaml"
        raise InputError(msg) from None
    return summary(plan, state, waiting, added)


def progress_now(plan: Plan) -> Progress:
    """Return where each configuration of a plan stands, by the record store."""
    where = Filter(configuration_ids=plan.campaign.ids, settings_hash=plan.settings_hash)
    with open_store(plan.maker.store) as records:  # for writing: what the jobs need is tried
        return progress_of(records.ledgers(where), plan.campaign.ids, plan.campaign.controls, plan.campaign.weights)


def missing_flows(plan: Plan, state: Progress, waiting: Collection[str]) -> Iterator[tuple[Campaign, Flow]]:
    """Yield the parts of a campaign that are neither recorded nor waiting, and their flows, one made at a time.

    Each prediction job may predict for all parts of its group, of `batch_size` configurations: the first to run does.
    """
    begun = state.begun | set(waiting)
    campaign = plan.campaign
    left = [one for one, identity in zip(campaign.configurations, campaign.ids, strict=True) if identity not in begun]
    for group in replace(campaign, configurations=tuple(left)).parts(plan.maker.batch_size):
        for part in group.parts(WORKFLOW_SIZE):
            own = set(part.ids)
            ahead = [one for one, name in zip(group.configurations, group.ids, strict=True) if name not in own]
            flow = plan.maker.workflow(part, ahead)
            _name_work(flow, plan)
            yield part, flow


def summary(plan: Plan, state: Progress, waiting: Collection[str], added: list[str]) -> Launched:
    """Return the counts of a launch; each configuration counts once."""
    there = set(waiting)
    rest = [set(some) - there for some in (state.recorded, state.failed, state.relaxing)]
    done, failed, elsewhere = map(len, rest)
    new = len(plan.campaign.ids) - len(there) - done - failed - elsewhere
    return Launched(tuple(added), new, len(there), done, failed, elsewhere)


def _name_work(flow: Flow, plan: Plan) -> None:
    """Put the key of its configuration on each relaxation and on whatever that will make."""
    for job, _ in flow.iterflow():  # type: ignore[no-untyped-call]
        if CONFIGURATION in job.metadata:
            job.update_metadata({KEY: plan.keys[job.metadata[CONFIGURATION]]})


def _require_initialised(launchpad: LaunchPad) -> None:
    if launchpad.fw_id_assigner.find_one() is None:
        msg = f"the LaunchPad {launchpad.name!r} was never initialised: run `lpad reset` once"
        raise InputError(msg)
    launchpad.fireworks.create_index(f"spec.{KEY}")


def _waiting(launchpad: LaunchPad, plan: Plan) -> frozenset[str]:
    """Return the ids of those configurations that Fireworks yet to end work for."""
    names = {key: identity for identity, key in plan.keys.items()}
    query = {f"spec.{KEY}": {"$exists": True}, "state": {"$in": list(ALIVE)}}
    found = {raw["spec"][KEY] for raw in launchpad.fireworks.find(query, {f"spec.{KEY}": 1})}
    return frozenset(names[key] for key in found if key in names)


def _add(launchpad: LaunchPad, flow: Flow) -> int:
    """Add a flow to a LaunchPad so that no worker can meet half of it; return its smallest fw_id.

    `add_wf` would offer the first job before the workflow exists. `bulk_add_wfs` writes the workflow first, then its
    Fireworks in their order: last first, so that the one which can run comes when all are there.
    """
    made = flow_to_workflow(flow)
    workflow = Workflow(made.fws[::-1], made.links, name=made.name, metadata=made.metadata)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        launchpad.bulk_add_wfs([workflow])
    return min(map(int, workflow.id_fw))
