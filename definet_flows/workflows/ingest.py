"""Finished relaxations by VASP, from whatever made them, read into records of one host."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from definet_flows.defects import Recovered, canonical, nodes, recover, site_operations, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.hosts.frame import same_rows
from definet_flows.ledger import read_executions, read_relaxation
from definet_flows.ledger.relaxation import TRIALS
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
from definet_flows.workflows.ends import completed
from definet_flows.workflows.provenance import location
from definet_flows.workflows.vasp_run import folder_name

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.ledger import Outcome, VaspRun

ENGINE = "vasp"
_OUTPUTS = ("vasprun.xml", "OUTCAR")


@dataclass
class Ingested:
    """What a tree of folders held.

    Attributes
    ----------
    records
        By id; of two relaxations of one configuration with the same settings the one that ended lower.
    left_out
        Why a folder gave no record.
    """

    records: dict[str, DefectRecord] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def ingest(host: Host, directory: str | Path) -> Ingested:
    """Read every relaxation in a tree: folders with a vasprun.xml or an OUTCAR, and single files NAME.OUTCAR and so on.

    The start counts as unrelaxed: rows are the host's own sites and the configuration is read off the first
    structure. Runs with different functionals, cutoffs, smearing or k-points get different settings hashes, and none
    shares one with a campaign of this package.

    Parameters
    ----------
    host
        The pristine supercell of all of them.
    directory
        The tree.

    Raises
    ------
    InputError
        If there is no such folder, or nothing in it.
    """
    places = _relaxations(Path(directory))
    if not places:
        msg = f"no vasprun.xml and no OUTCAR in {directory}: name a tree of finished VASP relaxations"
        raise InputError(msg)
    found = Ingested()
    for place in places:
        try:
            record = read_record(host, place)
        except InputError as error:
            found.left_out[str(place)] = str(error)
            continue
        known = found.records.get(record.id)
        if known is None:
            found.records[record.id] = record
            continue
        kept, other = sorted((known, record), key=_rank)
        found.records[record.id] = kept
        found.left_out[str(other.provenance.directory)] = f"{record.name} with these settings again: ended higher"
    return found


def _relaxations(tree: Path) -> list[Path]:
    """Return the folders that hold a relaxation, and the files that are one of several in theirs."""
    outputs = [path for name in _OUTPUTS for path in tree.rglob(f"*{name}*") if path.is_file()]
    folders = {path.parent for path in outputs if path.name.startswith(_OUTPUTS) and not path.parent.match(TRIALS)}
    return sorted(folders | {path for path in outputs if not path.name.startswith(_OUTPUTS)})


def _rank(record: DefectRecord) -> tuple[bool, float]:
    ledger = record.ledger
    return record.status != "done" or ledger is None or not ledger.converged, (ledger and ledger.energy) or 0.0


def read_record(host: Host, folder: Path) -> DefectRecord:
    """Return the record of one folder, or of one file.

    Raises
    ------
    InputError
        If it holds no relaxation of a defect of this host.
    """
    where = folder_name(folder)
    if several := [path.name for path in sorted(folder.glob("vasprun.xml*"))][1:]:
        msg = f"{folder} holds {several[0]} beside another vasprun.xml: give each run a folder of its own"
        raise InputError(msg)
    first, outcome = read_executions(folder)[0].run, read_relaxation(folder, where=where)
    if first.initial is None:
        msg = f"{folder}: the output breaks off before the first structure"
        raise InputError(msg)
    initial = first.initial.copy()
    initial.set_charge(round(first.charge or 0.0))
    recovered = recover(host, initial)
    if not recovered.configuration.edits:
        msg = f"{folder} holds the host itself, without a defect"
        raise InputError(msg)
    return _completed(host, recovered, first, outcome, where)


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
        return completed(record, type(outcome)(None, outcome.ledger, None, "no trustworthy positions in the output"))
    try:
        end = _placed(host, recovered, outcome.structure, unrelaxed[rows[recovered.permutation]], rotation)
    except InputError as changed:
        return completed(record, type(outcome)(None, outcome.ledger, None, str(changed)))
    error = None if outcome.ledger is None or outcome.ledger.attempts[-1].finished else "the output is cut off"
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
