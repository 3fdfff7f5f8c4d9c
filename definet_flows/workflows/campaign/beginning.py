"""How a relaxation begins and ends, as the jobs need it: who may begin, what is stored already, how jobs are joined."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import CURRENT_JOB, Flow, Job, JobOrder, OnMissing, Response

from definet_flows.errors import InputError
from definet_flows.foreign import one_line
from definet_flows.hosts import to_structure
from definet_flows.schemas import HostRun, Provenance
from definet_flows.stores import open_store
from definet_flows.stores.locking import claim, lease_of, may_begin
from definet_flows.workflows.campaign.local import folder_store, holds_run, run_folders
from definet_flows.workflows.recording.begun import RECORD_METADATA, BegunHost, owned, owner, queued
from definet_flows.workflows.recording.ends import finished
from definet_flows.workflows.recording.provenance import now, versions
from definet_flows.workflows.recording.resume import next_structure
from definet_flows.workflows.recovery.rebuild import stored_end
from definet_flows.workflows.recovery.relaunch import lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobflow import JobStore
    from pydantic import BaseModel

    from definet_flows.schemas import DefectRecord, Host, Start, Status
    from definet_flows.stores import Records
    from definet_flows.workflows.engines.base import Engine
    from definet_flows.workflows.recording.cases import PlannedConfiguration

logger = logging.getLogger(f"jobflow.{__name__}")  # jobflow's handler shows it, and `log=False` silences it


def survive_parents(child: Job) -> Job:
    """Let a job run although a job that it waits for failed; it then gets None from it."""
    child.config.on_missing_references = OnMissing.NONE
    return child


def done(record: DefectRecord | None) -> bool:
    """Say whether a relaxation has a finished record."""
    return record is not None and record.status == "done"


def ended(records: Records, record: DefectRecord | None) -> DefectRecord | None:
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


def begin(records: Records, record: DefectRecord, earlier: DefectRecord | None) -> bool:
    """Mark a record as running, unless another job relaxes it; say whether it was marked."""
    if may_begin(records, earlier, owner()) and claim(records, record, earlier):
        return True
    logger.info("%s, %s start: another job relaxes it, nothing is begun", one_line(record.name), record.start)
    return False


def joined(
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
        running = summary(record["id"], record["start"], "running", reused=False)
        return Response(output=[*known, running], detour=Flow(list(relaxations[0])))
    jobs: list[Job | Flow] = [job for pair in relaxations for job in pair]
    if not queued():
        survive_parents(relaxations[1][0])
    order = JobOrder.AUTO if queued() else JobOrder.LINEAR
    return Response(replace=Flow(jobs, output=known + [recording.output for _, recording in relaxations], order=order))


def summary(record_id: str, start: Start, status: Status, *, reused: bool) -> dict[str, Any]:
    """Return the summary of a relaxation; `reused`: this flow does not relax it."""
    return {"record": record_id, "start": start, "status": status, "reused": reused}


def host_relaxation(host: Host, engine: Engine, store: str | None) -> tuple[Job, BegunHost]:
    """Return the job that relaxes a host, and its metadata; it goes on from where a killed launch was."""
    structure = to_structure(host)
    relaxation = engine.relaxation(structure, HostRun.identity(host.hash, engine.settings_hash), store)
    begun = _begun_host(host, engine, relaxation)
    with open_store(store) as records:
        earlier = records.host_run(HostRun.identity(host.hash, engine.settings_hash))
        if may_begin(records, earlier, owner()) and claim(records, owned(begun.run(earlier), owner(), store), earlier):
            return relaxation, begun
    logger.info("host %s: another job relaxes it too, nothing is taken over from that", host.formula)
    alone = engine.relaxation(structure)
    return alone, _begun_host(host, engine, alone)


def _begun_host(host: Host, engine: Engine, relaxation: Job) -> BegunHost:
    return BegunHost(
        host=host,
        settings_hash=engine.settings_hash,
        order=engine.site_order(to_structure(host)),
        provenance=Provenance(versions=versions(), started=now(), job_uuid=relaxation.output.uuid),
    )


def next_relaxation(
    planned: PlannedConfiguration, start: Start, earlier: DefectRecord | None, store: str | None
) -> Job:
    """Return the job of a relaxation; a relaxation that failed earlier goes on from its last positions."""
    stopped = earlier is not None and earlier.sites is not None and earlier.sites.last is not None
    structure = next_structure(earlier, planned.engine) if earlier and stopped else planned.structure(start)
    return planned.engine.relaxation(structure, planned.record_id(start), store)


def completed(
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
