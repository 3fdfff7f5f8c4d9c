"""Relaxations that failed, did not converge or were killed, submitted again from where they stopped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from jobflow import Flow, job

from definet_flows.errors import InputError
from definet_flows.foreign import one_line
from definet_flows.stores import Filter, Records, open_store, portable
from definet_flows.stores.locking import claim, standing
from definet_flows.workflows.campaign.beginning import survive_parents
from definet_flows.workflows.campaign.jobs import resume_relaxation
from definet_flows.workflows.campaign.local import JOBS, JOURNALS, folder_store
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.run import RECORD_FILE, folder_name
from definet_flows.workflows.recording.cases import settings_hash_of
from definet_flows.workflows.recovery.rebuild import KILLED
from definet_flows.workflows.recovery.relaunch import read_claim, stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobflow import Maker

    from definet_flows.schemas import DefectRecord

_EVERYTHING = Filter()


def unfinished(
    records: Records, engine: str | Maker, where: Filter = _EVERYTHING, *, unconverged: bool = False
) -> list[str]:
    """Return the ids of the records to retry: those that failed, or whose process is dead, with this engine's settings.

    Parameters
    ----------
    records
        An open store.
    engine
        The engine that relaxed them, and will again.
    where
        Only these.
    unconverged
        Also those that ended above the force criterion.
    """
    resolved = resolve_engine(engine)
    hashes = {settings_hash_of(resolved, relaxed_host=flag) for flag in (True, False)}
    found = []
    for row in records.ledgers(where):
        stuck = row.status == "done" and row.ledger is not None and not row.ledger.converged
        if row.settings_hash not in hashes:
            continue
        dead = row.status == "running" and bool(standing(records, [row.id])[1])
        if row.status == "failed" or dead or (unconverged and stuck):
            found.append(row.id)
    return sorted(found)


def nothing_to_retry(records: Records, engine: str) -> str:
    """Say that no record is to be retried with an engine, and with which engines of the store some failed."""
    rows = records.record_rows()
    others = sorted({row.engine for row in rows if row.status == "failed" and row.engine != engine})
    failed = f"; records of {', '.join(map(one_line, others))} failed: name it by --engine" if others else ""
    held = sorted({row.engine for row in rows})
    if not failed and held and engine not in held:
        failed = f"; the store holds records of {', '.join(map(one_line, held))}, none of which failed"
    return f"nothing to retry: no record of {engine} failed with these settings{failed}"


def retry_flow(record_ids: Sequence[str], engine: str | Maker, store: str | None) -> Flow:
    """Return the flow that goes on with records, each from its last positions, its attempts still counted.

    Raises
    ------
    InputError
        If there is nothing to go on with.
    """
    if not record_ids:
        msg = "nothing to retry: no record failed with these settings (unconverged records only if asked for)"
        raise InputError(msg)
    resolve_engine(engine)
    store = portable(store)
    jobs = [resume_relaxation(record_id, engine=engine, store=store) for record_id in record_ids]
    ends = survive_parents(ends_of(list(record_ids), store=store, retried=[job.output for job in jobs]))
    return Flow([*jobs, ends], output=ends.output, name=f"retry {len(jobs)}")


@job
def ends_of(record_ids: Sequence[str], *, store: str | None, retried: object) -> dict[str, int]:
    """Return how many relaxations are done, failed again, or did not begin, after the end of all jobs of `retried`."""
    del retried
    with open_store(store, read_only=True) as records:
        found = [records.record(record_id) for record_id in record_ids]
    return dict(Counter[str](record.status for record in found if record is not None))


def collect_killed(records: Records, folder: str | Path) -> list[DefectRecord]:
    """Complete, as failed, the records whose jobs were killed with everything around them; return them.

    Parameters
    ----------
    records
        An open store.
    folder
        Tree of job folders in which nothing runs. The folder of a VASP job names its record; those still
        marked running get the steps and the last positions that the folder holds. Of other engines, the records are
        freed that a run of this tree has begun.
    """
    found: dict[str, DefectRecord] = {}
    for path in sorted(Path(folder).rglob(RECORD_FILE), key=lambda path: path.stat().st_mtime):
        claimed = read_claim(path)
        known = str(claimed.get("record"))
        record = found.get(known) or records.record(known)
        where = str(claimed.get("place") or folder_name(path.parent))
        attempts = record.ledger.attempts if record is not None and record.ledger is not None else ()
        if record is None or record.status == "done" or where in {attempt.directory for attempt in attempts}:
            continue
        if record.status == "running" or known in found:
            found[known] = stopped(record, path.parent, where)
    records.put(*found.values())
    freed = [record for record in _begun_in(records, Path(folder)) if claim(records, _killed(record), record)]
    return [*found.values(), *map(_killed, freed)]


def _killed(record: DefectRecord) -> DefectRecord:
    return record.model_copy(update={"status": "failed", "error": KILLED})


def _begun_in(records: Records, folder: Path) -> Iterator[DefectRecord]:
    """Yield the running records that a job of one of the runs below a folder has begun."""
    running = [record for row in records.record_rows() if row.status == "running" if (record := records.record(row.id))]
    owners = [record.provenance.owner for record in running if record.provenance.owner is not None]
    begun: set[str] = set()
    for path in {path.parent for name in (JOBS, JOURNALS[0]) for path in folder.rglob(name)}:
        with folder_store(path, read_only=True).docs_store as jobs:
            begun |= {job["uuid"] for job in jobs.query({"uuid": {"$in": owners}}, ["uuid"])}
    yield from (record for record in running if record.provenance.owner in begun)
