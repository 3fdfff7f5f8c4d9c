"""Finished relaxations by VASP, from any source, read into records of a host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from definet_flows.defects import Recovered, recover, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.hosts.frame import same_rows
from definet_flows.schemas import DefectRecord, Host, Provenance, content_hash
from definet_flows.workflows.engines.vasp.run import folder_name
from definet_flows.workflows.recording.ends import completed
from definet_flows.workflows.recording.provenance import location
from definet_flows.workflows.recovery.ingest_chains import NOT_UNRELAXED, Relaxation, relaxations
from definet_flows.workflows.recovery.ingest_folders import find_places, read_run
from definet_flows.workflows.recovery.ingest_record import Ingested, Placement, begun, placement
from definet_flows.workflows.recovery.ingest_start import ON_SITE, farthest_off_site

if TYPE_CHECKING:
    from definet_flows.ledger import Outcome, VaspRun

ENGINE = "vasp"


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
        found.take(record)
    return found


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
    placed = placement(host, recovered)
    settings = content_hash("ingested", first.surface)
    record = begun(host, placed, settings, ENGINE, Provenance(**location({"dir_name": where})))
    if outcome.structure is None:
        nowhere = outcome.error or "no trustworthy positions in the output"
        return completed(record, type(outcome)(None, outcome.ledger, None, nowhere))
    try:
        end = _placed(host, recovered, outcome.structure, placed)
    except InputError as changed:
        return completed(record, type(outcome)(None, outcome.ledger, None, str(changed)))
    whole = outcome.ledger is None or outcome.ledger.attempts[-1].finished
    error = outcome.error or (None if whole else "the output is cut off")
    return completed(record, type(outcome)(end, outcome.ledger, outcome.trajectory_length, error))


def _placed(host: Host, recovered: Recovered, end: Structure, canonical: Placement) -> Structure:
    """Return the end of a run in the host's cell: each atom as far from its site as in the run's own cell.

    Raises
    ------
    InputError
        If the run's cell changed by more than 2 %.
    """
    first = recovered.frame
    frame = same_rows(first.axes @ end.lattice.matrix, first.reference)
    placed = unrelaxed_positions(host, recovered.configuration)[recovered.permutation]
    moved = first.frac(end.frac_coords) - (placed + recovered.shift) @ np.linalg.inv(first.reference)
    vectors = (moved - np.rint(moved)) @ frame.turned
    return Structure(host.lattice, end.species, canonical.moved(vectors), coords_are_cartesian=True)
