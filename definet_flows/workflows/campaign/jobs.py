"""Thin jobs: each reads ids and small inputs, does a single thing, and writes to the record store it opens by name.

The settings of the machine that runs the job say which store a name means.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import CURRENT_JOB, Flow, Job, JobOrder, OnMissing, Response, job

from definet_flows.errors import InputError
from definet_flows.foreign import one_line
from definet_flows.hosts import to_structure
from definet_flows.schemas import Provenance, RelaxedHost, Supercell
from definet_flows.stores import Filter, open_store, savings, update_pairs
from definet_flows.stores.locking import claim, lease_of, may_begin
from definet_flows.workflows.campaign.local import folder_store, holds_run, run_folders
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.campaign.prediction import complete, failed_prediction, prediction_of
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.recording.begun import (
    HOST_METADATA,
    RECORD_METADATA,
    BegunHost,
    carry,
    owned,
    owner,
    queued,
)
from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine, settings_hash_of
from definet_flows.workflows.recording.ends import finished
from definet_flows.workflows.recording.provenance import now, versions
from definet_flows.workflows.recording.resume import next_structure, resumed
from definet_flows.workflows.recovery.rebuild import stored_end
from definet_flows.workflows.recovery.relaunch import lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobflow import JobStore, Maker
    from pydantic import BaseModel

    from definet_flows.schemas import Configuration, DefectRecord, Host, Start, Status
    from definet_flows.stores import Records

logger = logging.getLogger(f"jobflow.{__name__}")  # jobflow's handler shows it, and `log=False` silences it


def survive_parents(child: Job) -> Job:
    """Let a job run although a job that it waits for failed; it then gets None from it."""
    child.config.on_missing_references = OnMissing.NONE
    return child


# ------------------------------------------------------------------ the host


@job
def prepare_host(host: Host, engine: str | Maker, store: str | None, *, relax: bool) -> Pristine | Response[Pristine]:
    """Return host and base; relax the host first if asked to, unless the store has it relaxed by this engine."""
    if not relax:
        return Pristine(host=host, base=host.cartesian, source="as given")
    resolved = resolve_engine(engine)
    with open_store(store) as records:
        known = records.host(RelaxedHost.identity(host.hash, resolved.settings_hash))
        if next(records.find(Supercell, {"id": Supercell.identity(host.hash)}), None) is None:
            records.put(Supercell.of(host))  # the network is shown the host as given, not the relaxed base
    if known is not None:
        return Pristine(host=host, base=known.relaxed, source="reused")
    relaxation = resolved.relaxation(to_structure(host))
    relaxation.append_name(f" {host.formula} host")
    begun = BegunHost(
        host=host,
        settings_hash=resolved.settings_hash,
        order=resolved.site_order(to_structure(host)),
        provenance=Provenance(versions=versions(), started=now(), job_uuid=relaxation.output.uuid),
    )
    relaxation.update_metadata({HOST_METADATA: begun.model_dump(mode="json")}, dynamic=False)
    recording = record_host(relaxation.output, begun=begun, store=store)
    return Response(replace=Flow([relaxation, recording], output=recording.output, name=f"relax {host.formula} host"))


@job
def record_host(document: Mapping[str, Any] | BaseModel, *, begun: BegunHost, store: str | None) -> Pristine:
    """Write the relaxed host; the base is the host that the store then holds."""
    relaxed = begun.finished(document)
    if not relaxed.ledger.converged:
        logger.warning("host %s: its relaxation did not converge; its last positions are the base", begun.host.formula)
    with open_store(store) as records:
        if records.host(relaxed.id) is None:  # another campaign may have been faster: all share its base
            records.put(relaxed)
        kept = records.host(relaxed.id) or relaxed
    return Pristine(host=begun.host, base=kept.relaxed, source="relaxed")


# ------------------------------------------------------------------ prediction


@job
def predict_batch(
    pristine: Pristine,
    configurations: Sequence[Configuration],
    *,
    model: str,
    weights: str,
    store: str | None,
    allow_unseen_host: bool,
    ahead: Sequence[Configuration] = (),
) -> dict[str, int]:
    """Predict and judge all configurations, and write the predictions; stored predictions are only judged.

    Parameters
    ----------
    ahead
        Configurations of other workflows, predicted too if anything has to be: the first of several workflows that
        gets a GPU then serves them all.

    Returns
    -------
    dict
        Number of configurations, of those predicted now, and of each verdict.
    """
    checkpoint = checkpoint_of(model, store, weights)
    if checkpoint.sha256 != weights:
        msg = f"model {model!r} has sha256 {checkpoint.sha256[:12]}… here, {weights[:12]}… where the flow was made"
        raise InputError(msg)
    with open_store(store) as records:
        stored = [prediction_of(records, pristine, configuration, weights) for configuration in configurations]
        if any(known is None or known.displacements is None for known in stored):
            configurations = [*configurations, *ahead]
            stored += [prediction_of(records, pristine, configuration, weights) for configuration in ahead]
        predictions = complete(checkpoint, pristine, configurations, stored, allow_unseen_host=allow_unseen_host)
        records.put(*predictions)
    asked = sum(known is None or known.displacements is None for known in stored)
    verdicts = Counter[str](prediction.gate.verdict for prediction in predictions)
    return {"configurations": len(predictions), "predicted": asked, **verdicts}


# ------------------------------------------------------------------ relaxation


@job
def relax_configuration(
    pristine: Pristine | None,
    configuration: Configuration,
    *,
    engine: str | Maker,
    weights: str,
    store: str | None,
    control: bool,
    predicted: object,
) -> list[dict[str, Any]] | Response[list[dict[str, Any]]]:
    """Relax a configuration from each start whose relaxation the store does not have yet.

    Parameters
    ----------
    pristine
        Host and base; None if the host's relaxation failed.
    control
        Relax from the unrelaxed structure too where the prediction is fit.
    predicted
        Output of the prediction job: this job waits for it, and runs without it if it failed.

    Returns
    -------
    list
        For each start "record" (its id), "start", "status" at this moment and whether it was "reused".
    """
    del predicted
    if pristine is None:
        msg = "no base to place defects on: the relaxation of the host failed"
        raise InputError(msg)
    with open_store(store) as records:
        prediction = prediction_of(records, pristine, configuration, weights)
        if prediction is None:  # the verdict of these weights; the record may be shared with others, which it names
            prediction = failed_prediction(pristine, configuration, weights)
            records.put(prediction)
        planned = PlannedConfiguration(pristine, configuration, resolve_engine(engine), weights, prediction)
        known, mine = [], []
        for start in planned.starts(control=control):
            earlier = _ended(records, records.record(planned.record_id(start)))
            begun = None if _done(earlier) else _begun(records, planned, start, earlier, store)
            if begun is not None:
                mine.append(begun)
            else:
                now = records.record(planned.record_id(start))
                known.append(_summary(planned.record_id(start), start, now.status if now else "running", reused=True))
        if any(start["status"] == "done" for start in known):  # a run killed between record and pair left no pair
            update_pairs(records, planned.configuration_id, planned.settings_hash)
    return _joined(known, mine)


def _done(record: DefectRecord | None) -> bool:
    return record is not None and record.status == "done"


def _ended(records: Records, record: DefectRecord | None) -> DefectRecord | None:
    """Return the record, completed if a run that was killed had stored the end of its relaxation."""
    if record is None or record.status != "running" or not may_begin(records, record, owner()):
        return record
    found = stored_end(record, _outputs(records, record))
    if found is None or not claim(records, found, record):
        return record
    logger.info("%s, %s start: its end was stored before its process was killed", record.name, record.start)
    return found


def _outputs(records: Records, record: DefectRecord) -> Iterator[JobStore]:
    """Yield the JobStores that may hold the end of a relaxation whose process is dead."""
    if CURRENT_JOB.store is not None:
        yield CURRENT_JOB.store
    if queued():
        return
    lease = lease_of(records, record)
    folders = {Path(lease.folder)} if lease is not None and lease.folder else set[Path]()
    for folder in sorted({*folders, *run_folders()}):
        if not holds_run(folder):
            continue
        outputs = folder_store(folder, read_only=True)
        try:
            outputs.connect()
            yield outputs
        except InputError as error:
            logger.warning("the outputs in %s are not looked at: %s", folder, error)
        finally:
            outputs.close()  # type: ignore[no-untyped-call]


def _begun(
    records: Records, planned: PlannedConfiguration, start: Start, earlier: DefectRecord | None, store: str | None
) -> tuple[Job, Job] | None:
    """Return the jobs of a relaxation, marked as running; None if another job relaxes it, or has done so."""
    if not may_begin(records, earlier, owner()):
        return None
    relaxation = _relaxation(planned, start, earlier, store)
    running = owned(planned.running(start, relaxation.output.uuid, earlier), owner(), store)
    return _recorded(relaxation, running, store) if _begin(records, running, earlier) else None


def _begin(records: Records, record: DefectRecord, earlier: DefectRecord | None) -> bool:
    """Mark a record as running, unless another job relaxes it; say whether it was marked."""
    if may_begin(records, earlier, owner()) and claim(records, record, earlier):
        return True
    logger.info("%s, %s start: another job relaxes it, nothing is begun", one_line(record.name), record.start)
    return False


def _joined(
    known: list[dict[str, Any]], relaxations: list[tuple[Job, Job]]
) -> list[dict[str, Any]] | Response[list[dict[str, Any]]]:
    """Return the response of a job that begins relaxations: the jobs that wait for it wait for them too.

    A single relaxation is a detour, which spares a queue the job that jobflow adds to every replacement. Two need that
    job, which ties them together: jobflow warns of flows that fall apart. Where no queue runs them, each is recorded
    before the next begins.
    """
    if not relaxations:
        return known
    if len(relaxations) == 1:
        record = relaxations[0][0].metadata[RECORD_METADATA]
        running = _summary(record["id"], record["start"], "running", reused=False)
        return Response(output=[*known, running], detour=Flow(list(relaxations[0])))
    jobs: list[Job | Flow] = [job for pair in relaxations for job in pair]
    if not queued():
        survive_parents(relaxations[1][0])
    order = JobOrder.AUTO if queued() else JobOrder.LINEAR
    return Response(replace=Flow(jobs, output=known + [recording.output for _, recording in relaxations], order=order))


def _summary(record_id: str, start: Start, status: Status, *, reused: bool) -> dict[str, Any]:
    """Return the summary of a relaxation; `reused`: this flow does not relax it."""
    return {"record": record_id, "start": start, "status": status, "reused": reused}


def _relaxation(planned: PlannedConfiguration, start: Start, earlier: DefectRecord | None, store: str | None) -> Job:
    """Return the job of a relaxation; a relaxation that failed earlier goes on from its last positions."""
    stopped = earlier is not None and earlier.sites is not None and earlier.sites.last is not None
    structure = next_structure(earlier, planned.engine) if earlier and stopped else planned.structure(start)
    return planned.engine.relaxation(structure, planned.record_id(start), store)


def _recorded(relaxation: Job, record: DefectRecord, store: str | None) -> tuple[Job, Job]:
    """Return the job of a relaxation, and the job that completes its record."""
    relaxation.append_name(f" {record.name} {record.start}")
    relaxation.update_metadata({RECORD_METADATA: carry(record)}, dynamic=False)
    recording = survive_parents(
        record_relaxation(relaxation.output, record_id=record.id, store=store, job_uuid=relaxation.uuid)
    )
    recording.name = f"record {record.name} {record.start}"
    return relaxation, recording


@job
def resume_relaxation(
    record_id: str, *, engine: str | Maker, store: str | None
) -> list[dict[str, Any]] | Response[list[dict[str, Any]]]:
    """Go on with the relaxation of a record that failed or did not converge, from its last positions."""
    resolved = resolve_engine(engine)
    with open_store(store) as records:
        record = records.record(record_id)
        if record is None:
            msg = f"no record {record_id} in store {records.name!r}"
            raise InputError(msg)
        relaxation = resolved.relaxation(next_structure(record, resolved), record.id, store)
        running = owned(resumed(record, relaxation.output.uuid), owner(), store)
        mine = _begin(records, running, record)
    if not mine:
        return [_summary(record_id, record.start, "running", reused=True)]
    return _joined([], [_recorded(relaxation, running, store)])


@job
def record_relaxation(
    document: Mapping[str, Any] | BaseModel | None, *, record_id: str, store: str | None, job_uuid: str | None = None
) -> dict[str, Any]:
    """Complete the record of a relaxation, and its pair if the relaxation from the other start is done.

    Parameters
    ----------
    document
        The document that the engine returned; None if its job failed.
    job_uuid
        The engine's job; None in flows of earlier versions.
    """
    with open_store(store) as records:
        record = _completed(records, record_id, document, job_uuid)
        update_pairs(records, record.configuration_id, record.settings_hash)
    return {"record": record_id, "start": record.start, "status": record.status, "reused": False}


def _completed(
    records: Records, record_id: str, document: Mapping[str, Any] | BaseModel | None, job_uuid: str | None
) -> DefectRecord:
    """Complete a record from the document of its engine, unless another job has meanwhile; return the stored record."""
    while True:
        running = records.record(record_id)
        if running is None:
            msg = f"record {record_id} is not in store {records.name!r}: do all workers name the same store?"
            raise InputError(msg)
        theirs = job_uuid is not None and running.provenance.job_uuid != job_uuid
        if theirs and running.status == "done":
            return running
        record = (lost(running) if document is None else None) or finished(running, document)
        if theirs and record.status != "done":
            return running
        if claim(records, record, running):
            return record


# ------------------------------------------------------------------ totals


@job
def totals(
    configuration_ids: Sequence[str],
    *,
    pristine: Pristine | None,
    engine: str | Maker,
    relax_host: bool,
    weights: str,
    store: str | None,
    relaxed: Sequence[list[dict[str, Any]] | None] = (),
    batches: Sequence[dict[str, Any] | None] = (),
) -> dict[str, Any]:
    """Count the relaxations that were run and reused, and the steps that pre-relaxation saved.

    Parameters
    ----------
    relaxed
        Outputs of `relax_configuration`; None where it failed.
    batches
        Outputs of `totals` for the parts of a campaign.

    Returns
    -------
    dict
        "host" (source of the base), "relaxations_run", "relaxations_reused" (the host not counted), "saving" (share
        of ionic steps, None if unknown), "message" (a single line), "savings" (all figures).
    """
    starts = [start for part in relaxed if part for start in part if start]
    parts = [part for part in batches if part]
    reused = sum(start["reused"] for start in starts)
    counts = {
        "relaxations_run": len(starts) - reused + sum(part["relaxations_run"] for part in parts),
        "relaxations_reused": reused + sum(part["relaxations_reused"] for part in parts),
    }
    where = Filter(
        configuration_ids=tuple(configuration_ids),
        settings_hash=settings_hash_of(resolve_engine(engine), relaxed_host=relax_host),
        weights=weights,
    )
    with open_store(store) as records:
        found = savings(records, where)
    ran = f"relaxations: {counts['relaxations_run']} run, {counts['relaxations_reused']} reused"
    message = f"{ran}; {found.message}"
    logger.info(message)
    host = None if pristine is None else pristine.source
    figures = {"saving": found.saving, "message": message, "savings": found.model_dump(mode="json")}
    return {"host": host, **counts, **figures}
