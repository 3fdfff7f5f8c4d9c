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

_LOCK_PATIENCE = 30.0  # s; a living worker holds the lock of a workflow for less
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
    launchpad: LaunchPad, outputs: JobStore, dead_after: float = DEAD_AFTER, lock_patience: float = _LOCK_PATIENCE
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
    lock_patience
        Seconds after which a workflow that is still locked counts as left locked.
    """
    dropped = _unlock(launchpad, lock_patience)
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


def _unlock(launchpad: LaunchPad, patience: float) -> int:
    """Unlock workflows whose worker died while it wrote to them, drop half-written jobs; return how many."""
    locked, loose = _locked(launchpad), _loose(launchpad)
    if not locked and not loose:
        return 0
    time.sleep(patience)
    left = sorted(loose & _loose(launchpad))
    for identity, updated in locked & _locked(launchpad):
        launchpad.workflows.update_one({"_id": identity, "updated_on": updated}, {"$unset": {"locked": True}})
    launchpad.fireworks.delete_many({"fw_id": {"$in": left}})
    return len(left)


def _locked(launchpad: LaunchPad) -> set[tuple[Any, Any]]:
    found = launchpad.workflows.find({"locked": {"$exists": True}}, {"updated_on": 1})
    return {(raw["_id"], raw["updated_on"]) for raw in found}


def _loose(launchpad: LaunchPad) -> set[int]:
    """Return the Fireworks that no workflow knows: their parent's worker was killed between writing them and it."""
    waiting = {"state": {"$in": ["READY", "WAITING"]}}
    ids = {int(raw["fw_id"]) for raw in launchpad.fireworks.find(waiting, {"fw_id": 1})}
    known = launchpad.workflows.find({"nodes": {"$in": sorted(ids)}}, {"nodes": 1})
    return ids - {node for raw in known for node in raw["nodes"]}


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
