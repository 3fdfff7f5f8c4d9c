"""Finished relaxations by VASP, from any source, read into records of a host."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from definet_flows.defects import Recovered, canonical, nodes, recover, site_operations, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.hosts.frame import same_rows
from definet_flows.schemas import (
    INSERTED,
    Configuration,
    DefectRecord,
    FloatArray,
    Host,
    HostNote,
    Provenance,
    SiteMap,
    content_hash,
)
from definet_flows.workflows.engines.vasp.run import folder_name
from definet_flows.workflows.recording.ends import completed
from definet_flows.workflows.recording.provenance import location
from definet_flows.workflows.recovery.ingest_chains import NOT_UNRELAXED, Relaxation, relaxations
from definet_flows.workflows.recovery.ingest_folders import find_places, read_run
from definet_flows.workflows.recovery.ingest_start import ON_SITE, farthest_off_site

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.ledger import Outcome, VaspRun

ENGINE = "vasp"
_SAME_ENERGY = 1e-3  # eV; runs that end nearer ended at the same energy


@dataclass
class Ingested:
    """Records of a tree of folders.

    Attributes
    ----------
    records
        By id. Of two relaxations of a configuration with the same settings, the relaxation that ended lower; if both
        ended alike, the relaxation from the unrelaxed start.
    left_out
        Why a folder or file gave no record of its own.
    """

    records: dict[str, DefectRecord] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def ingest(host: Host, directory: str | Path) -> Ingested:
    """Read every relaxation in a tree: folders with a vasprun.xml or an OUTCAR, and single files NAME.OUTCAR and so on.

    The configuration is read off the first structure, and rows are the host's own sites. A run that begins where
    another ended, with the same settings and charge, continues it: both are a single relaxation. A relaxation that
    begins elsewhere than on the host's sites has a note that says so. Runs with different functionals, cutoffs,
    smearing or k-points get different settings hashes, which no campaign of this package shares.

    Parameters
    ----------
    host
        The bulk supercell of all of them.
    directory
        The tree.

    Raises
    ------
    InputError
        If there is no such folder, or nothing in it.
    """
    places = find_places(Path(directory))
    if not places.found:
        looks = "; ".join(f"{path}: {reason}" for path, reason in list(places.left_out.items())[:1])
        msg = f"no vasprun.xml and no OUTCAR in {directory}: name a tree of finished VASP relaxations"
        raise InputError(f"{msg} ({looks})" if looks else msg)
    found, runs = Ingested(left_out=places.left_out), []
    for place in places.found:
        try:
            runs.append(read_run(place, Path(directory)))
        except InputError as error:
            found.left_out[str(place)] = str(error)
    whole, parts = relaxations(runs)
    found.left_out |= parts
    for relaxation in whole:
        try:
            record = _record(host, relaxation)
        except InputError as error:
            found.left_out[str(relaxation.runs[-1].place)] = str(error)
            continue
        known = found.records.get(record.id)
        kept, other = (record, None) if known is None else _better(known, record)
        found.records[record.id] = kept
        if other is not None:
            found.left_out[str(other.provenance.directory)] = _why_worse(kept, other)
    return found


def _better(first: DefectRecord, other: DefectRecord) -> tuple[DefectRecord, DefectRecord]:
    """Return two relaxations of a configuration, the better first: it ended, lower, from the unrelaxed start."""
    apart = abs(_energy(first) - _energy(other))
    tie = apart <= _SAME_ENERGY or not np.isfinite(apart)

    def rank(record: DefectRecord) -> tuple[bool, float, bool]:
        return not _is_converged(record), 0.0 if tie else _energy(record), not _from_unrelaxed(record)

    return (other, first) if rank(other) < rank(first) else (first, other)


def _why_worse(kept: DefectRecord, other: DefectRecord) -> str:
    again, higher = f"{other.name} with these settings again", _energy(other) - _energy(kept)
    if _is_converged(kept) and not _is_converged(other):
        return f"{again}: {'not converged' if other.status == 'done' else other.error or other.status}"
    if higher > _SAME_ENERGY:
        return f"{again}: ended {higher:.3f} eV higher"
    start = "" if _from_unrelaxed(other) or not _from_unrelaxed(kept) else ", but not from the unrelaxed start"
    return f"{again}: the same end as in {kept.provenance.directory}{start}"


def _is_converged(record: DefectRecord) -> bool:
    return record.status == "done" and record.ledger is not None and record.ledger.converged


def _energy(record: DefectRecord) -> float:
    return record.ledger.energy if record.ledger is not None and record.ledger.energy is not None else np.inf


def _from_unrelaxed(record: DefectRecord) -> bool:
    return record.ledger is not None and not any(note.startswith(NOT_UNRELAXED) for note in record.ledger.notes)


def read_record(host: Host, folder: Path) -> DefectRecord:
    """Return the record of a folder, or of a file.

    Raises
    ------
    InputError
        If it holds no relaxation of a defect of this host.
    """
    return _record(host, Relaxation((read_run(folder, folder),)))


def _record(host: Host, relaxation: Relaxation) -> DefectRecord:
    folder, outcome = relaxation.runs[-1].place, relaxation.outcome
    first = relaxation.first
    assert first.initial is not None  # noqa: S101 - `read_run` reads no other
    initial = first.initial.copy()
    initial.set_charge(relaxation.runs[0].charge.value)
    recovered = recover(host, initial)
    if not recovered.configuration.edits:
        msg = f"{folder} holds the host itself, without a defect"
        raise InputError(msg)
    off = farthest_off_site(host, recovered)
    if off > ON_SITE and not relaxation.begins and outcome.ledger is not None:
        why = f"atoms begin up to {off:.2f} Å off the host's sites, displaced or by an earlier run that is not here"
        note = f"{NOT_UNRELAXED}: {why}"
        outcome = replace(outcome, ledger=outcome.ledger.model_copy(update={"notes": (*outcome.ledger.notes, note)}))
    return _completed(host, recovered, first, outcome, folder_name(folder))


def _completed(host: Host, recovered: Recovered, first: VaspRun, outcome: Outcome, where: str) -> DefectRecord:
    """Return the record, moved to the canonical placement: the same configuration has the same id from any source."""
    configuration, rows, rotation = _canonical(host, recovered.configuration)
    numbers, markers = nodes(host, configuration)
    unrelaxed = unrelaxed_positions(host, configuration)
    settings = content_hash("ingested", first.surface)
    record = DefectRecord(
        id=DefectRecord.identity(configuration.id_in(host.hash), settings, "unrelaxed", None),
        configuration_id=configuration.id_in(host.hash),
        settings_hash=settings,
        engine=ENGINE,
        start="unrelaxed",
        status="running",
        host=HostNote.of(host),
        name=configuration.name,
        n_defects=len(configuration.edits),
        configuration=configuration,
        sites=SiteMap(
            numbers=tuple(numbers.tolist()),
            markers="".join(map(str, markers)),
            unrelaxed=unrelaxed,
            permutation=tuple(rows[recovered.permutation].tolist()),
        ),
        provenance=Provenance(**location({"dir_name": where})),
    )
    if outcome.structure is None:
        nowhere = outcome.error or "no trustworthy positions in the output"
        return completed(record, type(outcome)(None, outcome.ledger, None, nowhere))
    try:
        end = _placed(host, recovered, outcome.structure, unrelaxed[rows[recovered.permutation]], rotation)
    except InputError as changed:
        return completed(record, type(outcome)(None, outcome.ledger, None, str(changed)))
    whole = outcome.ledger is None or outcome.ledger.attempts[-1].finished
    error = outcome.error or (None if whole else "the output is cut off")
    return completed(record, type(outcome)(end, outcome.ledger, outcome.trajectory_length, error))


def _placed(host: Host, recovered: Recovered, end: Structure, sites: FloatArray, rotation: FloatArray) -> Structure:
    """Return the end of a run in the host's cell: each atom as far from its site (Å, [n, 3]) as in the run's own cell.

    Raises
    ------
    InputError
        If the run's cell changed by more than 2 %.
    """
    begun = recovered.frame
    frame = same_rows(begun.axes @ end.lattice.matrix, begun.reference)
    placed = unrelaxed_positions(host, recovered.configuration)[recovered.permutation]
    moved = begun.frac(end.frac_coords) - (placed + recovered.shift) @ np.linalg.inv(begun.reference)
    vectors = (moved - np.rint(moved)) @ frame.turned
    return Structure(host.lattice, end.species, sites + vectors @ rotation.T, coords_are_cartesian=True)


def _canonical(host: Host, configuration: Configuration) -> tuple[Configuration, npt.NDArray[np.int64], FloatArray]:
    """Return the canonical placement, the row that each row goes to, and the rotation that takes it there.

    Configurations with inserted atoms stay as they are placed.
    """
    rows = np.arange(host.n_sites + sum(edit.marker == INSERTED for edit in configuration.edits))
    if len(rows) > host.n_sites:
        return configuration, rows, np.eye(3)
    wanted = canonical(host, configuration)
    target = {(edit.site, edit.new) for edit in wanted.edits}
    operations = site_operations(host)
    for permutation, rotation in zip(operations.permutations, operations.rotations, strict=True):
        if {(int(permutation[edit.site or 0]), edit.new) for edit in configuration.edits} == target:
            return wanted, np.asarray(permutation, dtype=np.int64), rotation
    msg = f"no symmetry operation of {host.formula} takes {configuration.name} to its canonical placement"
    raise AssertionError(msg)
