"""What finished relaxations from elsewhere share: the canonical placement, the running record, the better end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from definet_flows.defects import Recovered, canonical, nodes, site_operations, unrelaxed_positions
from definet_flows.schemas import (
    INSERTED,
    Configuration,
    DefectRecord,
    FloatArray,
    Host,
    HostNote,
    Provenance,
    RelaxedHost,
    SiteMap,
    Supercell,
)
from definet_flows.workflows.recovery.ingest_chains import NOT_UNRELAXED

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from definet_flows.stores.records import Records
    from definet_flows.structures.match import Found

_SAME_ENERGY = 1e-3  # eV; runs that end nearer ended at the same energy


@dataclass
class Ingested:
    """Records of finished relaxations.

    Attributes
    ----------
    records
        By id. Of two relaxations of a configuration with the same settings, the `better`.
    others
        The worse relaxations, by the id of the record that they would have.
    left_out
        Why a folder, file or frame gave no record of its own.
    hosts
        The supercells of the records, by their hash: other than the records they know their sites as given.
    pristine
        Runs of a supercell without a defect, by id. Of two with the same settings, the lower.
    splits
        The part of the data (train, val, test) that a file puts a frame in, by where the frame lies; where it tells it.
    """

    records: dict[str, DefectRecord] = field(default_factory=dict)
    others: dict[str, list[DefectRecord]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, Found] = field(default_factory=dict)
    pristine: dict[str, RelaxedHost] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)

    def take(self, record: DefectRecord) -> None:
        """Keep a record, or leave out whichever of it and the record of the same id is worse."""
        known = self.records.get(record.id)
        kept, other = (record, None) if known is None else better(known, record)
        self.records[record.id] = kept
        if other is not None:
            self.others.setdefault(record.id, []).append(other)
            self.left_out[str(other.provenance.directory)] = why_worse(kept, other)

    def take_host(self, found: RelaxedHost) -> None:
        """Keep a run of the pristine host, or leave out whichever of it and another with its settings is higher."""
        known = self.pristine.get(found.id, found)
        kept, other = (found, known) if is_lower(found, known) else (known, found)
        self.pristine[found.id] = kept
        if other is not kept:
            self.left_out[str(other.provenance.directory)] = f"the host itself again, as in {kept.provenance.directory}"


def write_with_hosts(records: Records, found: Ingested, new: Iterable[DefectRecord]) -> None:
    """Write records with their supercells as given, and pristine hosts that a store lacks or has higher."""
    cells = [Supercell.of(place.host) for place in found.hosts.values()]
    missing = [cell for cell in cells if next(records.find(Supercell, {"id": cell.id}), None) is None]
    stored = {identity: records.host(identity) for identity in found.pristine}
    bulk = [run for run in found.pristine.values() if (known := stored[run.id]) is None or is_lower(run, known)]
    records.put(*missing, *bulk, *new)


# ------------------------------------------------------------------ the running record


@dataclass(frozen=True, eq=False)
class Placement:
    """A structure that was read as a configuration, moved to the configuration's canonical placement.

    The same configuration has the same id from any source.

    Attributes
    ----------
    configuration
        In its canonical placement; with inserted atoms as it was placed.
    rows
        The row of the table that holds atom k of the structure, [n_atoms].
    rotation
        Takes vectors of the structure's placement there, [3, 3].
    unrelaxed
        Sites of all rows, Cartesian, Å, [n_rows, 3].
    """

    configuration: Configuration
    rows: npt.NDArray[np.int64]
    rotation: FloatArray
    unrelaxed: FloatArray

    def moved(self, vectors: FloatArray) -> FloatArray:
        """Return where the atoms are, Cartesian, Å, [n_atoms, 3], given how far they are from their sites, Å."""
        return np.asarray(self.unrelaxed[self.rows] + vectors @ self.rotation.T)


def placement(host: Host, recovered: Recovered) -> Placement:
    """Return a recovered structure in its canonical placement."""
    configuration, rows, rotation = _canonical(host, recovered.configuration)
    return Placement(configuration, rows[recovered.permutation], rotation, unrelaxed_positions(host, configuration))


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


def begun(host: Host, placed: Placement, settings: str, engine: str, where: Provenance) -> DefectRecord:
    """Return the running record of a relaxation from the unrelaxed start, which `completed` completes."""
    numbers, markers = nodes(host, placed.configuration)
    identity = placed.configuration.id_in(host.hash)
    return DefectRecord(
        id=DefectRecord.identity(identity, settings, "unrelaxed", None),
        configuration_id=identity,
        settings_hash=settings,
        engine=engine,
        start="unrelaxed",
        status="running",
        host=HostNote.of(host),
        name=placed.configuration.name,
        n_defects=len(placed.configuration.edits),
        configuration=placed.configuration,
        sites=SiteMap(
            numbers=tuple(numbers.tolist()),
            markers="".join(map(str, markers)),
            unrelaxed=placed.unrelaxed,
            permutation=tuple(placed.rows.tolist()),
        ),
        provenance=where,
    )


# ------------------------------------------------------------------ of two ends


def better(first: DefectRecord, other: DefectRecord) -> tuple[DefectRecord, DefectRecord]:
    """Return two relaxations of a configuration, the better first; of equals, `first` is.

    It ended, lower, from the unrelaxed start. Where an energy is unknown, the end nearer to the start counts as the
    end of a relaxation from there.
    """
    apart = abs(_energy(first) - _energy(other))
    known = np.isfinite(apart)

    def rank(record: DefectRecord) -> tuple[bool, float, bool, float]:
        energy = _energy(record) if known and apart > _SAME_ENERGY else 0.0
        return not _is_converged(record), energy, not _from_unrelaxed(record), 0.0 if known else _way(record)

    return (other, first) if rank(other) < rank(first) else (first, other)


def why_worse(kept: DefectRecord, other: DefectRecord) -> str:
    """Return why a relaxation is left out beside the better."""
    again, higher = f"{other.name} with these settings again", _energy(other) - _energy(kept)
    if _is_converged(kept) and not _is_converged(other):
        return f"{again}: {'not converged' if other.status == 'done' else other.error or other.status}"
    if higher > _SAME_ENERGY:
        return f"{again}: ended {higher:.3f} eV higher"
    start = "" if _from_unrelaxed(other) or not _from_unrelaxed(kept) else ", but not from the unrelaxed start"
    if not np.isfinite(higher) and _way(other) > _way(kept):
        farther = f"no energies to compare, and its end is farther from the start ({_way(other):.3f} Å on average)"
        return f"{again}: {farther} than that of {kept.provenance.directory} ({_way(kept):.3f} Å){start}"
    return f"{again}: the same end as in {kept.provenance.directory}{start}"


def is_lower(found: RelaxedHost, other: RelaxedHost) -> bool:
    """Say whether a run of the pristine host ended lower than another."""
    energy, known = found.ledger.energy, other.ledger.energy
    return energy is not None and (known is None or known - energy > _SAME_ENERGY)


def _is_converged(record: DefectRecord) -> bool:
    return record.status == "done" and record.ledger is not None and record.ledger.converged


def _energy(record: DefectRecord) -> float:
    return record.ledger.energy if record.ledger is not None and record.ledger.energy is not None else np.inf


def _from_unrelaxed(record: DefectRecord) -> bool:
    return record.ledger is not None and not any(note.startswith(NOT_UNRELAXED) for note in record.ledger.notes)


def _way(record: DefectRecord) -> float:
    """Return the root mean square displacement of the rows, Å, their mean shift removed."""
    sites = record.sites
    if sites is None or sites.relaxed is None:
        return np.inf
    moved = sites.relaxed - sites.unrelaxed
    return float(np.sqrt(((moved - moved.mean(axis=0)) ** 2).sum(axis=1).mean()))
