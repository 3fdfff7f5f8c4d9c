"""Records from the outputs of engines in a JobStore: after the last jobs of a campaign died, or records were lost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from maggma.core import Builder
from monty.json import MontyDecoder

from definet_flows.errors import InputError
from definet_flows.schemas import DefectRecord, Pair, RelaxedHost
from definet_flows.stores import update_pairs
from definet_flows.stores.locking import claim, standing
from definet_flows.stores.versions import parse
from definet_flows.workflows.campaign.local import JOBS, folder_store, holds_run, run_folders
from definet_flows.workflows.campaign.outputs import configured_store, job_store_fault
from definet_flows.workflows.recording.begun import HOST_METADATA, RECORD_METADATA, BegunHost, carried
from definet_flows.workflows.recording.ends import finished
from definet_flows.workflows.recording.provenance import from_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from jobflow import JobStore

    from definet_flows.stores import Records

_D = TypeVar("_D", DefectRecord, RelaxedHost)
KILLED = "its process was killed: `definet retry` goes on with it"
"""Error of a record whose relaxation ended with the process that ran it."""

_RECORD_ID = f"metadata.{RECORD_METADATA}.id"


@dataclass(frozen=True)
class Begun:
    """An engine's job in a JobStore whose document is not recorded yet."""

    uuid: str
    completed: str | None
    start: DefectRecord | BegunHost
    """Record or host before the run; the record of the store if the store says that this job runs."""


class RecordBuilder(Builder):
    """
    Make the records of a JobStore's raw outputs (VASP, force-field and ASE documents) that a record store lacks.

    The records equal those that the flow's own last jobs write. Complete records are left alone, so a second run writes
    nothing; a failed record is replaced only by a document that says that the relaxation is done. Pairs of
    two finished relaxations are completed, too.

    Parameters
    ----------
    jobs
        jobflow's JobStore, or a part of it.
    records
        An open record store.

    Examples
    --------
    >>> with open_store("campaign") as records:  # doctest: +SKIP
    ...     RecordBuilder(SETTINGS.JOB_STORE, records).build()
    """

    def __init__(self, jobs: JobStore, records: Records) -> None:
        super().__init__(sources=[jobs], targets=[records.store])
        self.jobs = jobs
        self.records = records

    def build(self) -> list[DefectRecord | RelaxedHost]:
        """Make the missing records; return them, without pairs.

        maggma's own `run` does the same and logs every item.
        """
        self.jobs.connect()
        made = [document for document in map(self.process_item, self.get_items()) if document is not None]
        self.update_targets(made)
        return made

    def get_items(self) -> Iterator[Begun]:
        """Yield the jobs whose documents are not recorded yet."""
        yield from self._hosts()
        known = {row.id: row.status for row in self.records.record_rows()}
        criteria = {_RECORD_ID: {"$exists": True}, "output": {"$ne": None}}
        found = self.jobs.query(criteria, ["uuid", "completed_at", _RECORD_ID])
        waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for job in found:
            identity = job["metadata"][RECORD_METADATA]["id"]
            if known.get(identity) != "done":
                waiting[identity].append(job)
        for identity, jobs in waiting.items():
            stored = self.records.record(identity)
            latest = max(jobs, key=lambda job: str(job.get("completed_at")))
            own = next((job for job in jobs if stored and job["uuid"] == stored.provenance.job_uuid), None)
            chosen = latest if stored is None else own
            if chosen is None:  # another job has this relaxation in hand
                continue
            running = stored if stored is not None and stored.status == "running" else self._carried(chosen["uuid"])
            yield Begun(chosen["uuid"], chosen.get("completed_at"), running)

    def _hosts(self) -> Iterator[Begun]:
        key = f"metadata.{HOST_METADATA}"
        for job in self.jobs.query({key: {"$exists": True}, "output": {"$ne": None}}, ["uuid", "completed_at", key]):
            begun = parse(job["metadata"][HOST_METADATA], BegunHost)
            if self.records.host(begun.id) is None:
                yield Begun(job["uuid"], job.get("completed_at"), begun)

    def _carried(self, uuid: str) -> DefectRecord:
        key = f"metadata.{RECORD_METADATA}"
        job = next(self.jobs.query({"uuid": uuid, key: {"$exists": True}}, [key], sort={"index": -1}))
        return carried(job["metadata"])

    def process_item(self, item: Begun) -> DefectRecord | RelaxedHost | None:
        """Return the record that the flow lacks; None if it has nothing new."""
        output = self.jobs.get_output(item.uuid, which="last", load=True)
        document = MontyDecoder().process_decoded(output)
        if isinstance(item.start, BegunHost):
            try:
                return _timed(item.start.finished(document, item.start.own(self.records)), item.completed)
            except InputError:
                return None  # it failed: the flow ended there
        made = finished(item.start, document)
        stored = self.records.record(made.id)
        if stored is not None and stored.status == "failed" and made.status == "failed":
            return None
        return _timed(made, item.completed)

    def update_targets(self, items: Iterable[DefectRecord | RelaxedHost]) -> None:
        """Write records, each alone, then the pairs that are missing."""
        for document in items:
            self.records.put(document)
        self._complete_pairs()
        if not self.records.complete:
            self.records.rebuild_pages()

    def _complete_pairs(self) -> None:
        known = {pair.id for pair in self.records.pair_rows()}
        done: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for row in self.records.record_rows():
            if row.status == "done":
                done[row.pairing][row.start].append(row.id)
        for (configuration_id, settings_hash), ids in done.items():
            pairs = {Pair.identity(unrelaxed, other) for unrelaxed in ids["unrelaxed"] for other in ids["predicted"]}
            if pairs - known:
                update_pairs(self.records, configuration_id, settings_hash)


def free_dead(records: Records) -> list[DefectRecord]:
    """Record as failed what is still marked running though its process is known to be dead; return it."""
    _, dead = standing(records, [row.id for row in records.record_rows() if row.status == "running"])
    freed = []
    for record in dead:
        if record.provenance.owner is None:  # of a version without owners
            continue
        failed = record.model_copy(update={"status": "failed", "error": KILLED})
        if claim(records, failed, record):
            freed.append(failed)
    return freed


def stored_end(record: DefectRecord, stores: Iterable[JobStore]) -> DefectRecord | None:
    """Return the record of a relaxation that is done and not recorded; None if no store has its output.

    Parameters
    ----------
    record
        A running record.
    stores
        Connected stores that may hold the output.
    """
    criteria = {"uuid": record.provenance.job_uuid, "output": {"$ne": None}}
    for jobs in stores:
        if record.provenance.job_uuid is None or jobs.query_one(criteria, ["uuid", "completed_at"]) is None:
            continue
        try:
            output = jobs.get_output(record.provenance.job_uuid, which="last", load=True)
        except KeyError:  # half-stored: jobflow writes the document first, then its references
            continue
        made = finished(record, MontyDecoder().process_decoded(output))
        if made.status == "done":
            return made
    return None


def _timed(document: _D, completed: str | None) -> _D:
    """Return a document with the end of its job as its time."""
    if completed is None:
        return document
    place = document.provenance.model_copy(update={"finished": from_local(completed)})
    return document.model_copy(update={"provenance": place})


def job_stores(folder: Path | None) -> list[JobStore]:
    """Return the JobStores of a run's folder, else the configured JobStore, else those of all runs in the data folder.

    Raises
    ------
    InputError
        If there is no JobStore.
    """
    if folder is not None:
        if not holds_run(folder):
            msg = f"{folder} is no folder of a run, it holds no {JOBS}: name the folder that `definet run` has printed"
            raise InputError(msg)
        return [folder_store(folder, read_only=True)]
    configured = configured_store()
    if configured is not None:
        return [configured]
    stores = [folder_store(path, read_only=True) for path in run_folders()]
    if not stores:
        fault = job_store_fault()
        why = f" ({fault})" if fault else ""
        msg = f"no job outputs here{why}: name the folder of a run with --folder, or set JOBFLOW_CONFIG_FILE"
        raise InputError(msg)
    return stores


def nothing_made(sources: Iterable[JobStore]) -> str:
    """Return why the outputs of connected JobStores made no record, in words."""
    ours = {"$or": [{f"metadata.{key}": {"$exists": True}} for key in (RECORD_METADATA, HOST_METADATA)]}
    found = [(source.count(), source.count(ours)) for source in sources]
    every, relaxations = (sum(counts) for counts in zip(*found, strict=True))
    if not every:
        why = "the job store holds no outputs of jobs"
    elif not relaxations:
        why = f"none of the {every} outputs in the job store is of a relaxation that a campaign began"
    else:
        why = f"the {relaxations} relaxations in the job store are recorded already, or another job has them in hand"
    fault = job_store_fault()
    return f"{why}; {fault}, so only runs on this machine were looked at" if fault else why
