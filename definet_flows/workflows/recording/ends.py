"""From the document of an engine to the record of a relaxation. Pure: no jobs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from definet_flows.errors import InputError
from definet_flows.hosts.frame import same_rows
from definet_flows.ledger import combined, read_document
from definet_flows.schemas import DefectRecord, FloatArray, Provenance, SiteMap
from definet_flows.workflows.recording.provenance import local_folder, location, now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from pydantic import BaseModel
    from pymatgen.core import Structure

    from definet_flows.ledger import Outcome
    from definet_flows.schemas import AnyRun


def finished(record: DefectRecord, document: Mapping[str, Any] | BaseModel | None) -> DefectRecord:
    """Return a running record completed from the document of its engine; `failed` if that is not usable."""
    where = Provenance(**{**record.provenance.model_dump(), **location(document), "finished": now()})
    try:
        outcome = read_document(_present(document, record), local_folder(document))
    except InputError as error:
        return record.model_copy(update={"provenance": where, "status": "failed", "error": str(error)})
    return completed(record.model_copy(update={"provenance": where}), outcome)


def completed(record: AnyRun, outcome: Outcome) -> AnyRun:
    """Return a running record with an outcome: `done`, or `failed` with its error and where it stopped."""
    assert record.sites is not None  # noqa: S101 - `PlannedConfiguration.running` gives every record its table
    update: dict[str, Any] = {"ledger": combined(record.ledger, outcome.ledger), "error": outcome.error}
    rows = None
    try:
        if outcome.structure is not None:
            rows = relaxed_rows(record.host.lattice, record.sites, outcome.structure)
        elif outcome.error is None:
            update["error"] = "the engine returned no structure"
    except InputError as error:
        update["error"] = str(error)
    if update["error"] is None:
        sites = record.sites.model_copy(update={"relaxed": rows, "last": None})
        return record.model_copy(update={**update, "sites": sites, "status": "done"})
    if rows is not None:
        update["sites"] = record.sites.model_copy(update={"last": rows})
    return record.model_copy(update={**update, "status": "failed"})


def _present(document: Mapping[str, Any] | BaseModel | None, record: DefectRecord) -> Mapping[str, Any] | BaseModel:
    if document is None:
        msg = f"the engine's job {record.provenance.job_uuid} left no document: see its folder or log"
        raise InputError(msg)
    return document


def relaxed_rows(lattice: npt.ArrayLike, sites: SiteMap, structure: Structure) -> FloatArray:
    """Return the relaxed positions of all rows, Å, [n_rows, 3]; a placeholder keeps its unrelaxed row.

    Raises
    ------
    InputError
        If the structure does not hold the atoms that the engine was given, in its order, in their cell.
    """
    expected = [sites.numbers[row] for row in sites.permutation]
    if list(structure.atomic_numbers) != expected:
        msg = f"the engine returned {structure.formula}, not the {len(expected)} atoms it was given, in its own order"
        raise InputError(msg)
    return place_rows(sites.unrelaxed, sites.permutation, structure, lattice)


def place_rows(
    unrelaxed: FloatArray, permutation: Sequence[int], structure: Structure, lattice: npt.ArrayLike
) -> FloatArray:
    """Return `unrelaxed` with row permutation[k] moved to where atom k of an engine's structure is, Å, [n_rows, 3].

    The engine may have turned the cell, or reversed left-handed rows: fractional coordinates are compared, in the
    nearest periodic image.

    Raises
    ------
    InputError
        If the structure's cell is not `lattice` within 2 %.
    """
    frame = same_rows(structure.lattice.matrix, np.asarray(lattice, dtype=float))
    rows = list(permutation)
    moved = structure.frac_coords - unrelaxed[rows] @ np.linalg.inv(frame.reference)
    table = unrelaxed.copy()
    table[rows] += (moved - np.rint(moved)) @ frame.turned
    return table
