"""The metadata of an engine's job: with them, its document alone is enough to make the record."""

from __future__ import annotations

import json
import os
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from definet_flows.errors import InputError
from definet_flows.ledger import combined, read_document
from definet_flows.schemas import (
    PRISTINE,
    SCHEMA_VERSION,
    AnyRun,
    DefectRecord,
    Frozen,
    Host,
    HostNote,
    HostRun,
    Provenance,
    RelaxedHost,
    SiteMap,
    dump,
)
from definet_flows.stores.locking import session
from definet_flows.stores.versions import parse
from definet_flows.workflows.campaign.local import holds_run
from definet_flows.workflows.recording.ends import place_rows
from definet_flows.workflows.recording.provenance import local_folder, location, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from definet_flows.stores import Records

RECORD_METADATA = "definet_record"
"""Key under which the job of a relaxation carries its record, in the state before the run: see `carry`."""

HOST_METADATA = "definet_host"
"""Key under which the job that relaxes a pristine host carries a BegunHost."""

_REMOTE = "jfremote_in.json"
"""File that jobflow-remote leaves in the folder of each job."""


def owner() -> str:
    """Return the uuid of the job at work: the same if a queue runs it again."""
    return CURRENT_JOB.job.uuid if CURRENT_JOB.job is not None else str(uuid.uuid4())


def queued() -> bool:
    """Say whether a queue runs the jobs of this flow, each in a process of its own."""
    return (CURRENT_JOB.job is not None and "fw_id" in CURRENT_JOB.job.metadata) or Path(_REMOTE).exists()


def owned(record: AnyRun, by: str, store: str | None) -> AnyRun:
    """Return the record with its owner; where a single process runs the whole flow, with its lease too."""
    place: dict[str, Any] = {"owner": by, "hostname": socket.gethostname(), "pid": None, "session": None}
    if not queued():
        here = Path.cwd()
        folder = next((str(path) for path in (here, here.parent) if holds_run(path)), str(here))
        place |= {"pid": os.getpid(), "session": session(store, by, folder)}
    return record.model_copy(update={"provenance": record.provenance.model_copy(update=place)})


def carry(record: DefectRecord) -> dict[str, str]:
    """Return the entry of a record in the metadata of its relaxation's job.

    The record itself is text: FireWorks and its database walk through every number of a document dozens of times.
    """
    return {"id": record.id, "start": record.start, "document": json.dumps(dump(record), separators=(",", ":"))}


def carried(metadata: Mapping[str, Any]) -> DefectRecord:
    """Return the record that the metadata of a relaxation's job hold."""
    return parse(json.loads(metadata[RECORD_METADATA]["document"]), DefectRecord)


class BegunHost(Frozen):
    """A pristine host whose relaxation has begun."""

    schema_version: int = SCHEMA_VERSION
    host: Host
    settings_hash: str
    order: tuple[int, ...]
    """Engine row k holds host site order[k]."""
    provenance: Provenance

    @property
    def id(self) -> str:
        """Identity of the relaxed host."""
        return RelaxedHost.identity(self.host.hash, self.settings_hash)

    def run(self, earlier: HostRun | None) -> HostRun:
        """Return the relaxation as the store keeps it from now on; launches of `earlier` that were killed count."""
        stopped = earlier if earlier is not None and earlier.status != "done" else None
        place = stopped.provenance if stopped is not None else Provenance()
        sites = SiteMap(
            numbers=self.host.numbers,
            markers=str(PRISTINE) * self.host.n_sites,
            unrelaxed=self.host.cartesian,
            last=stopped.sites.last if stopped is not None else None,
            permutation=self.order,
        )
        return HostRun(
            id=HostRun.identity(self.host.hash, self.settings_hash),
            host=HostNote.of(self.host),
            settings_hash=self.settings_hash,
            sites=sites,
            ledger=stopped.ledger if stopped is not None else None,
            provenance=self.provenance.model_copy(update={"hostname": place.hostname, "directory": place.directory}),
        )

    def own(self, records: Records) -> HostRun | None:
        """Return what a store keeps of this relaxation; None if it keeps another job's."""
        found = records.host_run(HostRun.identity(self.host.hash, self.settings_hash))
        return found if found is not None and found.provenance.job_uuid == self.provenance.job_uuid else None

    def finished(self, document: Mapping[str, Any] | BaseModel, run: HostRun | None) -> RelaxedHost:
        """Return the relaxed host from the document of the engine, launches of `run` that were killed counted.

        Raises
        ------
        InputError
            If the relaxation failed.
        """
        outcome = read_document(document, local_folder(document))
        if outcome.error or outcome.ledger is None or outcome.structure is None:
            msg = f"the relaxation of host {self.host.formula} failed: {outcome.error}"
            raise InputError(msg)
        where = {**self.provenance.model_dump(), **location(document), "finished": now()}
        return RelaxedHost(
            id=self.id,
            host=HostNote.of(self.host),
            settings_hash=self.settings_hash,
            relaxed=place_rows(self.host.cartesian, self.order, outcome.structure, self.host.lattice),
            ledger=combined(run.ledger if run else None, outcome.ledger) or outcome.ledger,
            provenance=Provenance(**where),
        )
