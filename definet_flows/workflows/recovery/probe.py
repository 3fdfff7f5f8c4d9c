"""Ends that a symmetric start may have led to a saddle: a sample is rattled and relaxed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, Maker, Response, job

from definet_flows.errors import InputError
from definet_flows.ledger import read_document
from definet_flows.schemas import DefectRecord, Probe
from definet_flows.stores import Filter, Records, open_store, portable
from definet_flows.stores.analysis.pairs import SAME_DISTANCE, SAME_ENERGY, end_distance
from definet_flows.workflows.campaign.beginning import survive_parents
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.inputs import rattled
from definet_flows.workflows.recording.ends import relaxed_rows
from definet_flows.workflows.recording.provenance import local_folder
from definet_flows.workflows.recording.resume import next_structure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from definet_flows.ledger import Outcome

_EVERYTHING = Filter()

PROBE_METADATA = "definet_probe"
"""Key under which the job that relaxes a rattled end carries the id of its record."""


def symmetric_ends(records: Records, settings_hashes: set[str], sample: int, where: Filter = _EVERYTHING) -> list[str]:
    """Return the ids of at most `sample` converged records that ended symmetric and are not probed yet.

    The order is that of the ids, which are hashes: the sample depends on nothing else and grows with `sample`.
    """
    probed = {probe.record_id for probe in records.probes() if probe.verdict != "failed"}
    found = [
        row.id
        for row in records.ledgers(where)
        if row.status == "done"
        and row.settings_hash in settings_hashes
        and row.ledger is not None
        and row.ledger.converged
        and row.ledger.point_group_end not in (None, "1")
    ]
    return [record_id for record_id in sorted(found)[:sample] if record_id not in probed]


def probe_flow(
    record_ids: Sequence[str], engine: str | Maker, store: str | None, *, rattle: float = 0.03, seed: int = 0
) -> Flow:
    """Return the flow that rattles the ends of records and relaxes them again; its output are the probes' ids.

    Parameters
    ----------
    record_ids
        Ids from `symmetric_ends`.
    engine
        The engine that relaxed them.
    store
        Name of the record store, or path of its file.
    rattle
        Displacement of every atom, Å.
    seed
        Seed of its directions.

    Raises
    ------
    InputError
        If there is nothing to probe.
    """
    if not record_ids:
        msg = "nothing to probe: no converged record with these settings ended symmetric, or the sample is done"
        raise InputError(msg)
    store = portable(store)
    jobs = [probe_end(record_id, engine=engine, store=store, rattle=rattle, seed=seed) for record_id in record_ids]
    ends = survive_parents(probed([job.output for job in jobs]))
    return Flow([*jobs, ends], output=ends.output, name=f"probe {len(jobs)}")


@job
def probed(probes: Sequence[str | None]) -> list[str]:
    """Return the ids of the probes that were written."""
    return [probe for probe in probes if probe is not None]


@job
def probe_end(record_id: str, *, engine: str | Maker, store: str | None, rattle: float, seed: int) -> Response[str]:
    """Rattle the end of a record and relax it again."""
    resolved = resolve_engine(engine)
    with open_store(store) as records:
        record = _record(records, record_id)
    relaxation: Job = resolved.relaxation(rattled(next_structure(record, resolved), rattle, seed))
    relaxation.append_name(f" {record.name} probe")
    relaxation.update_metadata({PROBE_METADATA: record_id}, dynamic=False)
    recording = survive_parents(
        record_probe(relaxation.output, record_id=record_id, store=store, rattle=rattle, seed=seed)
    )
    recording.name = f"record {record.name} probe"
    return Response(replace=Flow([relaxation, recording], output=recording.output))


@job
def record_probe(
    document: Mapping[str, Any] | BaseModel | None, *, record_id: str, store: str | None, rattle: float, seed: int
) -> str:
    """Write the outcome of a rattled end; return the probe's id."""
    with open_store(store) as records:
        record = _record(records, record_id)
        probe = _probe(record, document, rattle, seed)
        records.put(probe)
    return probe.id


def _record(records: Records, record_id: str) -> DefectRecord:
    record = records.record(record_id)
    if record is None:
        msg = f"no record {record_id} in store {records.name!r}"
        raise InputError(msg)
    return record


def _probe(record: DefectRecord, document: Mapping[str, Any] | BaseModel | None, rattle: float, seed: int) -> Probe:
    made = Probe(
        id=Probe.identity(record.id, rattle, seed),
        record_id=record.id,
        configuration_id=record.configuration_id,
        settings_hash=record.settings_hash,
        engine=record.engine,
        name=record.name,
        rattle=rattle,
        seed=seed,
        verdict="failed",
        error="the engine's job left no document",
    )
    if document is None:
        return made
    try:
        outcome = read_document(document, local_folder(document))
        return made.model_copy(update={"ledger": outcome.ledger, "error": outcome.error, **_end(record, outcome)})
    except InputError as error:
        return made.model_copy(update={"error": str(error)})


def _end(record: DefectRecord, outcome: Outcome) -> dict[str, Any]:
    """Return how the probe's end compares with the record's."""
    if outcome.error or outcome.structure is None or outcome.ledger is None or record.sites is None:
        return {}
    rows = relaxed_rows(record.host.lattice, record.sites, outcome.structure)
    again = record.sites.model_copy(update={"relaxed": rows})
    distance, _ = end_distance(record.host.lattice, record.sites, again)
    before = record.ledger.energy if record.ledger else None
    difference = None if before is None or outcome.ledger.energy is None else outcome.ledger.energy - before
    if not outcome.ledger.converged or difference is None:
        verdict = "unconverged"
    elif difference < -SAME_ENERGY:
        verdict = "saddle"
    else:
        verdict = "minimum" if distance < SAME_DISTANCE else "elsewhere"
    return {"distance": distance, "energy_difference": difference, "verdict": verdict}
