"""Repair of a LaunchPad after killed workers: nothing waits for the dead, nothing finished is redone.

Only Fireworks of this package are looked at, by query: a LaunchPad may be shared with other projects.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from fireworks import FWAction
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore, MongoStore
from pymongo.errors import PyMongoError

from definet_flows.errors import InputError
from definet_flows.schemas import content_hash
from definet_flows.workflows.queue.kinds import KINDS
from definet_flows.workflows.queue.ours import CARRIED, TASK, half_written, of_functions, our_fireworks, workflows_of
from definet_flows.workflows.queue.plan import KEY
from definet_flows.workflows.queue.routing import DEFAULT_PLACEMENT, Placement, place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fireworks import LaunchPad
    from jobflow import Flow, JobStore

DEAD_AFTER = 4 * 3600.0
"""Seconds without a sign of life after which FireWorks takes a run for lost; its workers give a sign each hour."""

LOST_AT_MOST = 3
"""Runs of a job that may be lost before it counts as failed: a cause that lies in the job ends each run."""

_PATIENCE = 30.0  # s; a living worker writes the end of a job, and locks its workflow, for less
_ENDED = ("COMPLETED", "FIZZLED")
_BOOKKEEPING = of_functions(function for function, kind in KINDS.items() if kind in ("light", "record"))


@contextmanager
def usable_launchpad() -> Iterator[None]:
    """Turn errors of a LaunchPad's database into an InputError."""
    try:
        yield
    except PyMongoError as error:
        msg = f"the LaunchPad is not usable ({type(error).__name__}): check host, user and role in my_launchpad.yaml"
        raise InputError(msg) from None


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
    given_up
        Relaxations and predictions lost too often: taken as failed, and recorded so by the jobs that wait for them.
    """

    rerun: int
    kept: int
    dropped: int
    given_up: int = 0
    silences: tuple[float, ...] = field(default=(), compare=False)
    """Seconds since the last sign of life of the worker of each Firework that counts as running, longest first."""


def mend(
    launchpad: LaunchPad, outputs: JobStore, dead_after: float = DEAD_AFTER, patience: float = _PATIENCE
) -> Mended:
    """Repair a LaunchPad after killed workers.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign.
    outputs
        jobflow's JobStore, shared by all workers.
    dead_after
        Seconds without a sign of life after which a run counts as lost; 0 if it is known that no worker lives.
    patience
        Seconds after which a half-written document counts as abandoned.

    Raises
    ------
    InputError
        If the LaunchPad's database cannot be used.
    """
    with usable_launchpad():
        return _mend(launchpad, outputs, dead_after, patience)


def _mend(launchpad: LaunchPad, outputs: JobStore, dead_after: float, patience: float) -> Mended:
    dropped = _mend_writes(launchpad, patience)
    running = {"fw_id": {"$in": sorted(our_fireworks(launchpad, {"state": "RUNNING"}))}}
    _, lost, torn = launchpad.detect_lostruns(expiration_secs=dead_after, query=running)
    kept = [fw_id for fw_id in lost if _finish(launchpad, outputs, fw_id)]
    for fw_id in torn:
        launchpad._refresh_wf(fw_id)  # noqa: SLF001 - as `lpad detect_lostruns --refresh`
    given_up = [fw_id for fw_id in lost if fw_id not in kept and _give_up(launchpad, fw_id)]
    _drop_half_outputs(launchpad, outputs)
    rerun = [fw_id for fw_id in lost if fw_id not in {*kept, *given_up}] + _failed_bookkeeping(launchpad)
    for fw_id in rerun:
        launchpad.rerun_fw(fw_id)
    return Mended(len(rerun), len(kept), dropped, len(given_up), _silences(launchpad))


def _silences(launchpad: LaunchPad) -> tuple[float, ...]:
    """Return how long ago the workers of running Fireworks gave their last sign of life, s, the longest first."""
    running = sorted(our_fireworks(launchpad, {"state": "RUNNING"}))
    found = launchpad.launches.find({"fw_id": {"$in": running}, "state": "RUNNING"}, {"state_history": 1})
    signs = [
        entry["updated_on"] for launch in found for entry in launch["state_history"] if entry["state"] == "RUNNING"
    ]
    at = datetime.now(UTC)
    return tuple(sorted(((at - _utc(sign)).total_seconds() for sign in signs), reverse=True))


def _utc(sign: datetime | str) -> datetime:
    """Return a time of FireWorks, which writes UTC without saying so."""
    moment = datetime.fromisoformat(sign) if isinstance(sign, str) else sign
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def add_retries(launchpad: LaunchPad, flow: Flow, placement: Placement = DEFAULT_PLACEMENT) -> int:
    """Add the flow of `retry_flow` to a LaunchPad; return the smallest fw_id."""
    flow.update_metadata({KEY: content_hash("retry", flow.uuid)})  # marks the jobs that its jobs make, too
    place(flow, placement.fireworks)
    workflow = flow_to_workflow(flow)
    launchpad.bulk_add_wfs([workflow])
    return min(map(int, workflow.id_fw))


@dataclass(frozen=True)
class _Left:
    """Documents of a worker that dies while it writes the end of a job; a living worker has them for a moment.

    Attributes
    ----------
    locked
        (_id, updated_on) of locked workflows.
    reserved
        (_id, updated_on) of Fireworks reserved for a worker or a queue that never received them.
    loose
        Fireworks that no workflow knows yet.
    torn
        (_id and updated_on of the workflow, Firework) where the Firework has ended and its workflow does not say so:
        the jobs that wait for it would wait for ever.
    """

    locked: frozenset[tuple[Any, Any]]
    reserved: frozenset[tuple[Any, Any]]
    loose: frozenset[int]
    torn: frozenset[tuple[Any, Any, int]]

    def __and__(self, other: _Left) -> _Left:
        reserved = self.reserved & other.reserved
        return _Left(self.locked & other.locked, reserved, self.loose & other.loose, self.torn & other.torn)

    def __bool__(self) -> bool:
        return bool(self.locked or self.reserved or self.loose or self.torn)


def _mend_writes(launchpad: LaunchPad, patience: float) -> int:
    """Complete the half-written documents of dead workers; return how many half-written jobs were dropped."""
    left = _left(launchpad)
    if not left:
        return 0
    time.sleep(patience)
    left &= _left(launchpad)
    for identity, updated in left.locked:
        launchpad.workflows.update_one({"_id": identity, "updated_on": updated}, {"$unset": {"locked": True}})
    for identity, updated in left.reserved:
        query = {"_id": identity, "updated_on": updated, "state": "RESERVED"}
        launchpad.fireworks.update_one(query, {"$set": {"state": "READY"}})
    launchpad.fireworks.delete_many({"fw_id": {"$in": sorted(left.loose)}})
    for _, _, fw_id in left.torn:  # so that its end is taken note of again, with the children that it brought
        launchpad.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "RUNNING"}})
        launchpad._refresh_wf(fw_id)  # noqa: SLF001 - as `lpad detect_lostruns --refresh`
    return len(left.loose)


def _left(launchpad: LaunchPad) -> _Left:
    ours = our_fireworks(launchpad)
    states = {int(raw["fw_id"]): raw["state"] for raw in launchpad.fireworks.find({}, {"fw_id": 1, "state": 1})}
    locked, known, torn = set(), set(), set()
    for raw in workflows_of(launchpad, ours, {"nodes": 1, "fw_states": 1, "updated_on": 1, "locked": 1}):
        at = (raw["_id"], raw["updated_on"])
        known.update(raw["nodes"])
        if "locked" in raw:
            locked.add(at)
        recorded = {int(name): state for name, state in raw["fw_states"].items()}
        ended = [fw_id for fw_id in raw["nodes"] if fw_id in ours and states.get(fw_id) in _ENDED]
        torn |= {(*at, fw_id) for fw_id in ended if recorded.get(fw_id) != states[fw_id]}
    # a proper reservation gets its launch a moment later
    taken = launchpad.fireworks.find({"state": "RESERVED", "launches": []}, {"fw_id": 1, "updated_on": 1})
    reserved = frozenset((raw["_id"], raw["updated_on"]) for raw in taken if raw["fw_id"] in ours)
    loose = half_written(launchpad, ours - known)
    return _Left(frozenset(locked), reserved, frozenset(loose), frozenset(torn))


def _finish(launchpad: LaunchPad, outputs: JobStore, fw_id: int) -> bool:
    """Take a relaxation as ended if its output was stored before its worker died; say whether it was."""
    raw = launchpad.fireworks.find_one({"fw_id": fw_id}, {"spec._tasks": 1, "launches": 1})
    job = raw["spec"]["_tasks"][0].get("job", {"metadata": {}})
    if not set(CARRIED) & set(job["metadata"]) or not _has(outputs, job["uuid"], job["index"]):
        return False
    launchpad.complete_launch(raw["launches"][-1], FWAction(), "COMPLETED")
    return True


def _give_up(launchpad: LaunchPad, fw_id: int) -> bool:
    """Take a relaxation or a prediction as failed if it was lost too often; say whether it was."""
    query = {"fw_id": fw_id, TASK: {"$exists": True}, "$nor": [_BOOKKEEPING]}
    raw = launchpad.fireworks.find_one(query, {"launches": 1, "archived_launches": 1})
    if raw is None or len(raw["launches"]) + len(raw.get("archived_launches", ())) < LOST_AT_MOST:
        return False
    reason = (
        f"its process ended {LOST_AT_MOST} times without a word, killed or crashed: see the folders of its launches"
    )
    launchpad.complete_launch(raw["launches"][-1], FWAction(stored_data={"_exception": reason}), "FIZZLED")
    return True


def _drop_half_outputs(launchpad: LaunchPad, outputs: JobStore) -> None:
    """Drop the half-stored output of a failed relaxation: the job that records the failure could not read it."""
    ours = [{f"{TASK}.metadata.{key}": {"$exists": True}} for key in CARRIED]
    query = {"state": "FIZZLED", "$or": ours}
    for raw in launchpad.fireworks.find(query, {"spec._tasks.job.uuid": 1, "spec._tasks.job.index": 1}):
        job = raw["spec"]["_tasks"][0]["job"]
        if not _has(outputs, job["uuid"], job["index"]):
            outputs.docs_store.remove_docs({"uuid": job["uuid"], "index": job["index"]})


def _has(outputs: JobStore, uuid: str, index: int) -> bool:
    """Say whether a job's output is stored whole: jobflow writes the document first, then its references."""
    if isinstance(outputs.docs_store, MongoStore) and not isinstance(outputs.docs_store, MemoryStore):
        outputs.connect()
    try:
        return outputs.query_one({"uuid": uuid, "index": index}, load=True) is not None
    except KeyError:
        return False


def _failed_bookkeeping(launchpad: LaunchPad) -> list[int]:
    """Return the failed Fireworks that only write down; a failed prediction was answered for by its children."""
    return sorted(our_fireworks(launchpad, {"state": "FIZZLED", **_BOOKKEEPING}))
