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
from definet_flows.schemas import DefectRecord, Host, Provenance, RelaxedHost, content_hash
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.match import Found, HostFinder
from definet_flows.workflows.engines.vasp.run import folder_name
from definet_flows.workflows.recording.ends import completed
from definet_flows.workflows.recording.provenance import location
from definet_flows.workflows.recovery.ingest_chains import NOT_UNRELAXED, Relaxation, relaxations
from definet_flows.workflows.recovery.ingest_folders import find_places, read_run
from definet_flows.workflows.recovery.ingest_pristine import pristine_host
from definet_flows.workflows.recovery.ingest_record import Ingested, Placement, begun, placement
from definet_flows.workflows.recovery.ingest_start import ON_SITE, farthest_off_site

if TYPE_CHECKING:
    from definet_flows.ledger import Outcome, VaspRun

ENGINE = "vasp"


def ingest(host: Host | HostFinder, directory: str | Path) -> Ingested:
    """Read every relaxation in a tree: folders with a vasprun.xml or an OUTCAR, and single files NAME.OUTCAR and so on.

    The configuration is read off the first structure, and rows are the host's own sites. A run that begins where
    another ended, with the same settings and charge, continues it: both are a single relaxation. A relaxation that
    begins elsewhere than on the host's sites has a note that says so. Runs with different functionals, cutoffs,
    smearing or k-points get different settings hashes, which no campaign of this package shares. Runs of the host
    itself, static ones too, are kept as pristine hosts.

    Parameters
    ----------
    host
        The bulk supercell of all of them; or what finds each run's supercell, in any origin, orientation and axes.
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
    whole, parts = relaxations([run for run in runs if not run.static])
    found.left_out |= parts
    for relaxation in (*whole, *(Relaxation((run,)) for run in runs if run.static)):
        try:
            _take(found, host, relaxation)
        except InputError as error:
            found.left_out[str(relaxation.runs[-1].place)] = str(error)
    return found


def read_record(host: Host, folder: Path) -> DefectRecord:
    """Return the record of a folder, or of a file.

    Raises
    ------
    InputError
        If it holds no relaxation of a defect of this host.
    """
    relaxation = Relaxation((read_run(folder, folder),))
    where, recovered = _located(host, relaxation)
    if not recovered.configuration.edits:
        msg = f"{folder} is the host itself, without a defect"
        raise InputError(msg)
    return _record(where.host, recovered, relaxation)


def _take(found: Ingested, host: Host | HostFinder, relaxation: Relaxation) -> None:
    """Add the record of a relaxation, or the pristine host of a run without a defect. Raises as `read_record`."""
    where, recovered = _located(host, relaxation)
    if recovered.configuration.edits:
        found.take(_record(where.host, recovered, relaxation))
    else:
        found.take_host(_pristine(where.host, recovered, relaxation))
    found.hosts[where.host.hash] = where


def _located(host: Host | HostFinder, relaxation: Relaxation) -> tuple[Found, Recovered]:
    """Return the supercell of a run, and its first structure as a configuration."""
    first, charge = relaxation.first, relaxation.runs[0].charge.value
    assert first.initial is not None  # noqa: S101 - `read_run` reads no other
    if isinstance(host, HostFinder):
        cell = first.initial
        numbers = np.array(cell.atomic_numbers, dtype=np.int64)
        return host.find(Crystal(np.array(cell.lattice.matrix), numbers, cell.frac_coords, charge=charge))
    initial = first.initial.copy()
    initial.set_charge(charge)
    return Found(host, ""), recover(host, initial)


def _record(host: Host, recovered: Recovered, relaxation: Relaxation) -> DefectRecord:
    last, outcome = relaxation.runs[-1], relaxation.outcome
    if last.static:
        raise InputError(last.static)
    off = farthest_off_site(host, recovered)
    if off > ON_SITE and not relaxation.begins and outcome.ledger is not None:
        why = f"atoms begin up to {off:.2f} Å off the host's sites, displaced or by an earlier run that is not here"
        note = f"{NOT_UNRELAXED}: {why}"
        outcome = replace(outcome, ledger=outcome.ledger.model_copy(update={"notes": (*outcome.ledger.notes, note)}))
    return _completed(host, recovered, relaxation.first, outcome, folder_name(last.place))


def _pristine(host: Host, recovered: Recovered, relaxation: Relaxation) -> RelaxedHost:
    last, outcome = relaxation.runs[-1], relaxation.outcome
    end = outcome.structure if outcome.error is None else None
    placed = None if end is None else _placed(host, recovered, end, placement(host, recovered))
    settings, where = settings_of(relaxation.first), folder_name(last.place)
    return pristine_host(host, recovered, placed, outcome.ledger, settings, where, static=bool(last.static))


def settings_of(run: VaspRun) -> str:
    """Return the settings hash of a run from elsewhere."""
    return content_hash("ingested", run.surface)


def _completed(host: Host, recovered: Recovered, first: VaspRun, outcome: Outcome, where: str) -> DefectRecord:
    """Return the record, moved to the canonical placement: the same configuration has the same id from any source."""
    placed = placement(host, recovered)
    record = begun(host, placed, settings_of(first), ENGINE, Provenance(**location({"dir_name": where})))
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
