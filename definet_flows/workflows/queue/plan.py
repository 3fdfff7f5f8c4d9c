"""A campaign and its parts that are missing in a queue, for every kind of queue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from definet_flows.hosts.source import load_structure
from definet_flows.schemas import RelaxedHost, content_hash
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.stores import Records, open_store
from definet_flows.workflows.campaign.flow import CONFIGURATION
from definet_flows.workflows.engines.base import Engine, resolve_engine
from definet_flows.workflows.queue.progress import Progress, progress_of
from definet_flows.workflows.recording.cases import settings_hash_of
from definet_flows.workflows.recording.provenance import now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from ase import Atoms
    from jobflow import Flow
    from pymatgen.core import Structure

    from definet_flows.workflows.campaign.contents import Campaign
    from definet_flows.workflows.campaign.flow import DefectFlowMaker

WORKFLOW_SIZE = 100
"""Most configurations in a workflow: each end of a job locks and reads its whole workflow."""

KEY = "definet"
"""Entry in the metadata of a job (and the spec of its Firework) that names the work it belongs to."""


@dataclass(frozen=True)
class Plan:
    """A campaign and how to run it.

    Attributes
    ----------
    maker
        Engine, control fraction, weights, store; `batch_size` is the number of configurations that a prediction
        job serves, hundreds on a cluster.
    campaign
        The campaign that `maker.campaign` returned.
    unit_cell
        The host, from which the same campaign can be made again on another machine.
    """

    maker: DefectFlowMaker
    campaign: Campaign
    unit_cell: Structure

    @cached_property
    def engine(self) -> Engine:
        """The engine."""
        return resolve_engine(self.maker.engine)

    @cached_property
    def settings_hash(self) -> str:
        """Hash of the settings that all relaxations of the plan share."""
        return settings_hash_of(self.engine, relaxed_host=self.maker.relax_host)

    @cached_property
    def stages(self) -> list[Campaign]:
        """The campaign in stages; the starts of each are learned from the stages before it."""
        return self.campaign.stages()

    def open_stage(self, progress: Progress) -> int:
        """Return the index of the first stage in which a relaxation has not ended, of the last if all have."""
        ended = progress.recorded | progress.failed
        unfinished = (k for k, stage in enumerate(self.stages) if not ended.issuperset(stage.ids))
        return next(unfinished, len(self.stages) - 1)

    @cached_property
    def id(self) -> str:
        """Identity of the campaign, however often it is launched."""
        controls = tuple(self.campaign.controls)
        return LaunchedCampaign.identity(self.campaign.ids, controls, self.settings_hash, self.campaign.identity)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Key of the work on each configuration_id, unique in a queue."""
        shared = (self.settings_hash, self.campaign.identity, self.maker.store)
        controls = self.campaign.controls
        return {
            identity: content_hash("launch", identity, identity in controls, *shared) for identity in self.campaign.ids
        }

    @cached_property
    def host_key(self) -> str:
        """Key of the relaxation of the host, unique in a queue."""
        return content_hash("launch host", self.campaign.host.hash, self.engine.settings_hash, self.maker.store)


def make_plan(maker: DefectFlowMaker, host: Structure | Atoms | str | Path) -> Plan:
    """Return the plan of a campaign; raises as `DefectFlowMaker.make`."""
    return Plan(maker.portable(), maker.campaign(host), load_structure(host))


@dataclass(frozen=True)
class LaunchState:
    """Progress of a plan, by the record store.

    Attributes
    ----------
    progress
        Configurations by the state of their relaxations.
    has_host
        Whether the base is known: the host as given is to be used, or its relaxation is recorded.
    """

    progress: Progress
    has_host: bool


def look_up(plan: Plan, records: Records) -> LaunchState:
    """Return where a plan stands."""
    campaign = plan.campaign
    progress = progress_of(records, campaign.ids, campaign.controls, plan.settings_hash, campaign.keys)
    identity = RelaxedHost.identity(campaign.host.hash, plan.engine.settings_hash)
    return LaunchState(progress, not plan.maker.relax_host or records.host(identity) is not None)


def enlist(plan: Plan, queue: str) -> LaunchState:
    """Write down that a campaign is launched, for `definet status`; return where it stands.

    Raises
    ------
    InputError
        If the record store cannot be written.
    """
    with open_store(plan.maker.store) as records:
        if next(records.find(LaunchedCampaign, {"id": plan.id}), None) is None:
            records.put(_document(plan, queue))
        return look_up(plan, records)


def _document(plan: Plan, queue: str) -> LaunchedCampaign:
    campaign = plan.campaign
    count = f"{len(campaign.ids)} configuration{'s' * (len(campaign.ids) != 1)}"
    return LaunchedCampaign(
        id=plan.id,
        name=f"{campaign.host.formula}, {campaign.host.n_sites} sites, {count}",
        engine=plan.engine.name,
        settings_hash=plan.settings_hash,
        weights=campaign.identity,
        keys=campaign.keys,
        configuration_ids=campaign.ids,
        sizes=tuple(len(configuration.edits) for configuration in campaign.configurations),
        controls=tuple(sorted(campaign.controls)),
        launched=now(),
        queue=queue,
    )


def missing_flows(plan: Plan, begun: Collection[str], stage: int = 0) -> Iterator[tuple[Campaign, Flow]]:
    """Yield the parts of a stage of a campaign that nothing has begun, and their flows, made when asked for.

    Each prediction job may predict for all parts of its group, of `batch_size` configurations: the first to run does.
    """
    campaign = plan.stages[stage]
    left = [
        configuration
        for configuration, identity in zip(campaign.configurations, campaign.ids, strict=True)
        if identity not in begun
    ]
    for group in replace(campaign, configurations=tuple(left)).parts(plan.maker.batch_size):
        for part in group.parts(WORKFLOW_SIZE):
            own = set(part.ids)
            ahead = [
                configuration
                for configuration, name in zip(group.configurations, group.ids, strict=True)
                if name not in own
            ]
            flow = plan.maker.workflow(part, ahead)
            _name_work(flow, plan)
            yield part, flow


def _name_work(flow: Flow, plan: Plan) -> None:
    """Put the key of its configuration on each relaxation and on the jobs that it will make."""
    for job, _ in flow.iterflow():  # type: ignore[no-untyped-call]
        if CONFIGURATION in job.metadata:
            job.update_metadata({KEY: plan.keys[job.metadata[CONFIGURATION]]})


@dataclass(frozen=True)
class Launched:
    """Counts of a launch; each configuration counts once.

    Attributes
    ----------
    workflows
        Id of each workflow that was added: its smallest fw_id, or the db_id of a job in jobflow-remote.
    added
        Number of configurations in them.
    waiting
        Number that the queue had already, waiting or running.
    done
        Number whose relaxations are recorded.
    failed
        Number with a relaxation that failed; left to `definet retry`.
    elsewhere
        Number being relaxed according to the record store, outside this queue: by another campaign, or lost.
    deferred
        Number that will be added after the relaxation of the host, which was added now.
    later
        Number in later stages, which are added when the stages before have ended.
    """

    workflows: tuple[str, ...]
    added: int
    waiting: int
    done: int
    failed: int
    elsewhere: int
    deferred: int = 0
    later: int = 0


def summary(
    plan: Plan,
    progress: Progress,
    waiting: Collection[str],
    added: Collection[str],
    *,
    deferred: bool = False,
) -> Launched:
    """Return the counts of a launch that added these workflows."""
    there = set(waiting)
    rest: tuple[Any, ...] = (progress.recorded, progress.failed, progress.relaxing)
    done, failed, elsewhere = (len(set(some) - there) for some in rest)
    new = len(plan.campaign.ids) - len(there) - done - failed - elsewhere
    if deferred:
        return Launched(tuple(added), 0, len(there), done, failed, elsewhere, deferred=new)
    following = {identity for stage in plan.stages[plan.open_stage(progress) + 1 :] for identity in stage.ids}
    later = len(following - there - progress.begun)
    return Launched(tuple(added), new - later, len(there), done, failed, elsewhere, later=later)
