"""What killed workers leave in a LaunchPad, put right: nothing waits for the dead, nothing finished is redone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fireworks import FWAction
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore, MongoStore

from definet_flows.workflows.begun import HOST_METADATA, RECORD_METADATA
from definet_flows.workflows.jobs import predict_batch
from definet_flows.workflows.placement import DEFAULT_PLACEMENT, Placement, place

if TYPE_CHECKING:
    from fireworks import LaunchPad
    from jobflow import Flow, JobStore

DEAD_AFTER = 4 * 3600.0
"""Seconds without a sign of life after which FireWorks takes a run for lost; its workers give one each hour."""

_PATIENCE = 30.0  # s; a living worker writes the end of a job, and locks its workflow, for less
_ENDED = ("COMPLETED", "FIZZLED")
_OURS = ("definet_flows.workflows.jobs", "definet_flows.workflows.retry", "jobflow.core.job")
_TASK = "spec._tasks.0.job"


@dataclass(frozen=True)
class Mended:
    """Numbers of Fireworks.

    Attributes
    ----------
    rerun
        Lost while they ran, or bookkeeping that failed: to run again.
    kept
        Lost after their output was stored: taken as ended.
    dropped
        Half-written children of a worker that was killed; its job makes them again.
    """

    rerun: int
    kept: int
    dropped: int


def mend(
    launchpad: LaunchPad, outputs: JobStore, dead_after: float = DEAD_AFTER, patience: float = _PATIENCE
) -> Mended:
    """Put right what killed workers left in a LaunchPad.

    Parameters
    ----------
    launchpad
        Of the campaign.
    outputs
        jobflow's JobStore, a shared one.
    dead_after
        Seconds without a sign of life after which a run counts as lost; 0 if it is known that no worker lives.
    patience
        Seconds after which what is still written by half counts as left so.
    """
    dropped = _mend_writes(launchpad, patience)
    _, lost, torn = launchpad.detect_lostruns(expiration_secs=dead_after)
    kept = [one for one in lost if _finish(launchpad, outputs, one)]
    for one in torn:
        launchpad._refresh_wf(one)  # noqa: SLF001 - what `lpad detect_lostruns --refresh` does
    rerun = [one for one in lost if one not in kept] + _failed_bookkeeping(launchpad)
    for one in rerun:
        launchpad.rerun_fw(one)
    return Mended(len(rerun), len(kept), dropped)


def add_retries(launchpad: LaunchPad, flow: Flow, placement: Placement = DEFAULT_PLACEMENT) -> int:
    """Add the flow of `retry_flow` to a LaunchPad; return the smallest fw_id."""
    place(flow, placement.fireworks)
    workflow = flow_to_workflow(flow)
    launchpad.bulk_add_wfs([workflow])
    return min(map(int, workflow.id_fw))


@dataclass(frozen=True)
class _Left:
    """What a worker leaves that dies while it writes the end of a job; for a moment, what a living one has there too.

    Attributes
    ----------
    locked
        (_id, updated_on) of locked workflows.
    loose
        Fireworks that no workflow knows yet.
    torn
        (_id and updated_on of the workflow, Firework) where the Firework has ended and its workflow does not say so:
        whatever waits for it would wait for ever.
    """

    locked: frozenset[tuple[Any, Any]]
    loose: frozenset[int]
    torn: frozenset[tuple[Any, Any, int]]

    def __and__(self, other: _Left) -> _Left:
        return _Left(self.locked & other.locked, self.loose & other.loose, self.torn & other.torn)


def _mend_writes(launchpad: LaunchPad, patience: float) -> int:
    """Complete what dead workers wrote by half; return how many half-written jobs were dropped."""
    left = _left(launchpad)
    if left == _Left(frozenset(), frozenset(), frozenset()):
        return 0
    time.sleep(patience)
    left &= _left(launchpad)
    for identity, updated in left.locked:
        launchpad.workflows.update_one({"_id": identity, "updated_on": updated}, {"$unset": {"locked": True}})
    launchpad.fireworks.delete_many({"fw_id": {"$in": sorted(left.loose)}})
    for _, _, fw_id in left.torn:  # so that its end is taken note of again, with the children that it brought
        launchpad.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "RUNNING"}})
        launchpad._refresh_wf(fw_id)  # noqa: SLF001 - as `lpad detect_lostruns --refresh`
    return len(left.loose)


def _left(launchpad: LaunchPad) -> _Left:
    locked, known, torn = set(), set(), set()
    fields = {"nodes": 1, "fw_states": 1, "updated_on": 1, "locked": 1}
    states = {int(raw["fw_id"]): raw["state"] for raw in launchpad.fireworks.find({}, {"fw_id": 1, "state": 1})}
    for raw in launchpad.workflows.find({}, fields):
        at = (raw["_id"], raw["updated_on"])
        known.update(raw["nodes"])
        if "locked" in raw:
            locked.add(at)
        told = {int(name): state for name, state in raw["fw_states"].items()}
        ended = [one for one in raw["nodes"] if states.get(one) in _ENDED]
        torn |= {(*at, one) for one in ended if told.get(one) != states[one]}
    return _Left(frozenset(locked), frozenset(set(states) - known), frozenset(torn))


def _finish(launchpad: LaunchPad, outputs: JobStore, fw_id: int) -> bool:
    """Take a relaxation as ended whose output was stored before its worker died; say whether it was."""
    raw = launchpad.fireworks.find_one({"fw_id": fw_id}, {"spec._tasks": 1, "launches": 1})
    job = raw["spec"]["_tasks"][0]["job"]
    if not {RECORD_METADATA, HOST_METADATA} & set(job["metadata"]) or not _has(outputs, job["uuid"], job["index"]):
        return False
    launchpad.complete_launch(raw["launches"][-1], FWAction(), "COMPLETED")
    return True


def _has(outputs: JobStore, uuid: str, index: int) -> bool:
    """Tell whether a job's output is stored whole: jobflow writes the document first, then what it refers to."""
    if isinstance(outputs.docs_store, MongoStore) and not isinstance(outputs.docs_store, MemoryStore):
        outputs.connect()
    try:
        return outputs.query_one({"uuid": uuid, "index": index}, load=True) is not None
    except KeyError:
        return False


def _failed_bookkeeping(launchpad: LaunchPad) -> list[int]:
    """Return the failed Fireworks that only write down; a failed prediction was answered for by its children."""
    query = {
        "state": "FIZZLED",
        f"{_TASK}.function.@module": {"$in": list(_OURS)},
        f"{_TASK}.function.@callable": {"$ne": predict_batch.__name__},
    }
    return [int(raw["fw_id"]) for raw in launchpad.fireworks.find(query, {"fw_id": 1})]
