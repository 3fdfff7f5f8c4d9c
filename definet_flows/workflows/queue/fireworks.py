"""Launch a campaign into a LaunchPad: missing work becomes many small workflows; other work is left alone."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from fireworks import FiretaskBase, Firework, FWAction, Workflow, explicit_serialize
from jobflow import SETTINGS, Flow
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore, MongoStore
from monty.json import MontyDecoder, jsanitize

from definet_flows.errors import InputError
from definet_flows.stores import open_store
from definet_flows.stores.locking import sole_launch
from definet_flows.workflows.queue.fireworks_repair import usable_launchpad
from definet_flows.workflows.queue.plan import KEY, Launched, Plan, enlist, look_up, make_plan, missing_flows, summary
from definet_flows.workflows.queue.routing import DEFAULT_PLACEMENT, Placement, place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fireworks import LaunchPad

__all__ = ["Launched", "Plan", "launch_fireworks", "make_plan"]

ALIVE = ("WAITING", "READY", "RESERVED", "RUNNING", "PAUSED")
"""States of Fireworks that have not ended."""

_NEXT = [("state", 1), ("spec._category", 1), ("spec._priority", -1), ("created_on", 1)]
"""Index of a worker's query: FireWorks' own index has no category, so a worker would read the jobs of others."""

_HOST, _CAMPAIGN = f"{KEY}_host", f"{KEY}_campaign"  # in the spec of the Firework that launches the rest


def _quiet(_: int) -> None:
    """Report nothing."""


def launch_fireworks(
    plan: Plan,
    launchpad: LaunchPad,
    placement: Placement = DEFAULT_PLACEMENT,
    tell: Callable[[int], None] = _quiet,
) -> Launched:
    """Add the missing configurations of a campaign to a LaunchPad, in workflows of at most 100 configurations.

    Two launches at once, of the same campaign or of campaigns that share configurations, run after each other: the
    second launch finds the workflows of the first. A host that is relaxed first is a workflow of its own, whose last
    Firework launches the rest; each workflow of a stage ends with a Firework that launches the next stage, if all
    of this stage has ended.

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

    Raises
    ------
    InputError
        If the LaunchPad cannot be used or was never initialised, or the relaxation of the host failed in it or is
        another campaign's.
    """
    with usable_launchpad():
        _require_initialised(launchpad)
        with sole_launch(plan.maker.store) as still_alone:
            state, waiting = enlist(plan, "fireworks"), _waiting(launchpad, plan)
            if not state.has_host:
                added = _add_host(launchpad, plan, placement)
                return summary(plan, state.progress, waiting, added, deferred=True)
            added, stage = [], plan.open_stage(state.progress)
            for part, flow in missing_flows(plan, state.progress.begun | waiting, stage):
                place(flow, placement.fireworks)
                made = _with_next_stage(flow_to_workflow(flow), plan, placement, stage)
                still_alone()
                added.append(_add(launchpad, made))
                tell(len(part.ids))
    return summary(plan, state.progress, waiting, added)


def _require_initialised(launchpad: LaunchPad) -> None:
    if launchpad.fw_id_assigner.find_one() is None:
        msg = f"the LaunchPad {launchpad.name!r} was never initialised: run `lpad reset` once"
        raise InputError(msg)
    for field in (KEY, _HOST):
        launchpad.fireworks.create_index(f"spec.{field}", sparse=True)
    launchpad.fireworks.create_index(_NEXT)
    _index_outputs()


def _index_outputs() -> None:
    """Index the outputs of jobs: jobflow looks them up by uuid in every job, and makes no index itself."""
    outputs = SETTINGS.JOB_STORE
    if isinstance(outputs.docs_store, MongoStore) and not isinstance(outputs.docs_store, MemoryStore):
        outputs.docs_store.connect()
        outputs.docs_store.ensure_index("uuid")
        outputs.docs_store.close()  # type: ignore[no-untyped-call]


def _waiting(launchpad: LaunchPad, plan: Plan) -> frozenset[str]:
    """Return the ids of those configurations with a Firework that has not ended."""
    names = {key: identity for identity, key in plan.keys.items()}
    query = {f"spec.{KEY}": {"$exists": True}, "state": {"$in": list(ALIVE)}}
    found = {raw["spec"][KEY] for raw in launchpad.fireworks.find(query, {f"spec.{KEY}": 1})}
    return frozenset(names[key] for key in found if key in names)


def _add(launchpad: LaunchPad, made: Workflow) -> str:
    """Add a workflow to a LaunchPad so that no worker can meet half of it; return its smallest fw_id.

    `add_wf` would offer the first job before the workflow exists. `bulk_add_wfs` writes the workflow first, then its
    Fireworks in their order: last first, so that the Firework which can run comes when all are there.
    """
    workflow = Workflow(made.fws[::-1], made.links, name=made.name, metadata=made.metadata)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        launchpad.bulk_add_wfs([workflow])
    return str(min(map(int, workflow.id_fw)))


# ------------------------------------------------------------------ a host that is to be relaxed first


def _add_host(launchpad: LaunchPad, plan: Plan, placement: Placement) -> list[str]:
    """Add the relaxation of a host and the Firework that then launches the rest, unless both are under way."""
    query = {f"spec.{_HOST}": plan.host_key, "state": {"$in": list(ALIVE)}}
    known = launchpad.fireworks.find_one(query, {"fw_id": 1, f"spec.{_CAMPAIGN}": 1})
    if known is None:
        flow = Flow([plan.maker.prepared(plan.campaign)], name=f"host {plan.campaign.host.formula}")
        flow.update_metadata({KEY: plan.host_key})
        place(flow, placement.fireworks)
        made = flow_to_workflow(flow)
        last = _rest(plan, placement, made.fws, {_HOST: plan.host_key, _CAMPAIGN: plan.id})
        return [_add(launchpad, Workflow([*made.fws, last], name=made.name))]
    _require_sound(launchpad, known["fw_id"])
    if known["spec"][_CAMPAIGN] != plan.id:
        msg = (
            f"another campaign relaxes this host first, up to Firework {known['fw_id']}: launch again when it has ended"
        )
        raise InputError(msg)
    return []


def _require_sound(launchpad: LaunchPad, fw_id: int) -> None:
    nodes = launchpad.workflows.find_one({"nodes": fw_id}, {"nodes": 1})["nodes"]
    broken = launchpad.fireworks.find_one({"fw_id": {"$in": nodes}, "state": "FIZZLED"}, {"fw_id": 1})
    if broken is not None:
        msg = f"the relaxation of the host failed: look at its folder, then `lpad rerun_fws -i {broken['fw_id']}`"
        raise InputError(msg)


def _with_next_stage(made: Workflow, plan: Plan, placement: Placement, stage: int) -> Workflow:
    """Return the workflow of a part of a stage, with a last Firework that launches the next stage, if there is any.

    It runs whether or not the relaxations succeed: a stage ends with what it has.
    """
    if stage + 1 == len(plan.stages):
        return made
    ends = [made.id_fw[fw_id] for fw_id in made.leaf_fw_ids]
    last = _rest(plan, placement, ends, {"_allow_fizzled_parents": True}, stage)
    return Workflow([*made.fws, last], name=made.name, metadata=made.metadata)


def _rest(
    plan: Plan, placement: Placement, parents: list[Firework], spec: Mapping[str, Any], stage: int = -1
) -> Firework:
    # As text: FireWorks turns dicts of jobflow's and pymatgen's objects into these objects, and not all of them back.
    maker, unit_cell = (json.dumps(jsanitize(part.as_dict(), strict=True)) for part in (plan.maker, plan.unit_cell))
    where = {"campaign": plan.id, "placement": placement.model_dump(mode="json"), "stage": stage}
    task = LaunchRest(maker=maker, unit_cell=unit_cell, **where)
    light = {"_add_launchpad_and_fw_id": True, **spec, **placement.light.fireworks}
    name = f"launch {len(plan.campaign.ids)} of {plan.campaign.host.formula}"
    return Firework([task], spec=light, name=name, parents=parents)


@explicit_serialize
class LaunchRest(FiretaskBase):  # type: ignore[misc]  # fireworks has no types
    """Launch what a campaign may relax now into the LaunchPad that this runs from: its host or a stage has ended."""

    required_params = ("maker", "unit_cell", "campaign", "placement")
    optional_params = ("stage",)

    def run_task(self, fw_spec: Mapping[str, Any]) -> FWAction:
        """Make the campaign again, and add the missing configurations of the stage after the given one.

        While a relaxation of the given stage has not ended, nothing is added: the last of its workflows does it.

        Raises
        ------
        InputError
            If this machine's definet_flows makes another campaign of the same choices, or the host is not recorded.
        """
        del fw_spec
        maker, unit_cell = (MontyDecoder().decode(self[name]) for name in ("maker", "unit_cell"))
        plan = make_plan(maker, unit_cell)
        if plan.id != self["campaign"]:
            msg = (
                "this worker's definet_flows does not enumerate the launched campaign: use the version that launched it"
            )
            raise InputError(msg)
        with open_store(maker.store, read_only=True) as records:
            progress = look_up(plan, records).progress
        if plan.open_stage(progress) <= self.get("stage", -1):
            return FWAction(stored_data={"workflows": [], "added": 0})
        launched = launch_fireworks(plan, self.launchpad, Placement.model_validate(self["placement"]))
        if launched.deferred:
            msg = f"the host is not in record store {maker.store!r}: do all workers' settings name the same store?"
            raise InputError(msg)
        return FWAction(stored_data={"workflows": list(launched.workflows), "added": launched.added})
