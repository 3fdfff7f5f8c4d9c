"""Recorded relaxations of one crystal, and the fields made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from definet_flows.errors import InputError
from definet_flows.schemas import FloatArray, Host
from definet_flows.starts.fields.carry import Field, Laid, lay_configuration
from definet_flows.starts.fields.charges import split
from definet_flows.starts.fields.clusters import Cluster, Key, gathered, operations_of, pairs_at
from definet_flows.starts.fields.crystal import Cell, Crystal, inserted_points, lay
from definet_flows.starts.fields.errors import bend, spread
from definet_flows.starts.fields.fit import Fit, Recorded, TermKey, fit
from definet_flows.starts.proposals import Evidence

_FEWEST = 3  # records of complexes that show a single defect's field where no record of it alone exists
_PAIR = 2


@dataclass(frozen=True, eq=False)
class Source:
    """A field of a defect or a pair, with the records that it comes from."""

    field: Field
    group: Group
    records: tuple[str, ...]
    charge: int
    only: Recorded | None
    """The record, if it is a single record."""


class Group:
    """Records in supercells of one lattice, and the fields fitted to them."""

    def __init__(self, cell: Cell, recorded: Sequence[Recorded], *, pairs: bool) -> None:
        self._pairs = pairs
        self.cell = cell
        self.energies: dict[Key, dict[int, float | None]] = {}
        for record in recorded:
            if len(record.laid.cluster) == 1:
                key = record.laid.cluster.canonical[0]
                self.energies.setdefault(key, {})[record.charge] = record.energy
        self.recorded = tuple(replace(record, charges=self._split(record)) for record in recorded)

    def _split(self, record: Recorded) -> tuple[int, ...]:
        cluster, anywhere = record.laid.cluster, {0: None, record.charge: None}
        keys = [cluster.part([k]).canonical[0] for k in range(len(cluster))]
        return split(record.charge, [self.energies.get(key, anywhere) for key in keys])

    @cached_property
    def fit(self) -> Fit:
        """What least squares make of the records.

        A complex whose charge its defects cannot have by their own records says nothing of them; it counts as a whole.
        """
        return fit([record for record in self.recorded if sum(record.charges) == record.charge], pairs=self._pairs)

    @cached_property
    def terms(self) -> dict[TermKey, Source]:
        """The fields of defects and pairs that the records show."""
        by_id = {record.record_id: record for record in self.recorded}
        found = {}
        for (key, charges), (field, records) in self.fit.fields.items():
            alone = len(field.cluster) > 1 or sum(charges) in self.energies.get(key, {})
            if alone or len(set(records)) >= _FEWEST:
                only = by_id[records[0]] if len(set(records)) == 1 else None
                found[key, charges] = Source(field, self, tuple(records), sum(charges), only)
        return found


class Library:
    """What is recorded of a host's crystal.

    Parameters
    ----------
    host
        A supercell of the crystal.
    evidence
        Relaxations; those of another crystal are left out.
    pairs
        Whether pairs have fields of their own.
    """

    def __init__(self, host: Host, evidence: Iterable[Evidence], *, pairs: bool = True) -> None:
        self.pairs = pairs
        crystal = Crystal.of(host)
        cells: dict[str, Cell | None] = {}
        hashes: dict[int, str] = {}
        laid: list[tuple[Evidence, Cell]] = []
        for item in evidence:
            if not item.configuration.edits:
                continue
            known = hashes.setdefault(id(item.host), item.host.hash)
            if known not in cells:
                cells[known] = lay(item.host, crystal)
            cell = cells[known]
            if cell is not None:
                laid.append((item, cell))
        points = [cell.point(inserted_points(item.host, item.configuration)) for item, cell in laid]
        self.crystal = crystal.with_places(np.concatenate([np.zeros((0, 3)), *points]))
        own = lay(host, self.crystal)
        if own is None:
            raise InputError(
                f"host {host.formula} is not made of copies of its primitive cell; build it with make_host"
            )
        self.cell = own
        places = {id(cell): replace(cell, crystal=self.crystal) for _, cell in laid}
        self._wholes: dict[Key, list[Recorded]] = {}
        self._doubts: dict[str, tuple[float, float]] = {}
        self.groups = self._grouped([_recorded(item, places[id(cell)]) for item, cell in laid])

    def _grouped(self, recorded: Sequence[Recorded]) -> list[Group]:
        lattices: list[tuple[Cell, dict[tuple[Key, int], Recorded]]] = []
        for record in recorded:
            near = next((kept for cell, kept in lattices if cell.has_lattice_of(record.cell)), None)
            if near is None:
                near = {}
                lattices.append((record.cell, near))
            operations = operations_of(record.cell)  # of two images under another operation, one cell has both
            found = pieces(record.cell, record.laid.cluster)
            place = min(piece.canonical_under(operations)[0] for piece in found), record.charge
            if place not in near or _lower(record, near[place]):
                near[place] = record
        for _, kept in lattices:
            for record in kept.values():
                for key in {piece.canonical[0] for piece in pieces(record.cell, record.laid.cluster)}:
                    self._wholes.setdefault(key, []).append(record)
        return [Group(cell, list(kept.values()), pairs=self.pairs) for cell, kept in lattices]

    def wholes(self, cell: Cell, cluster: Cluster) -> list[tuple[Recorded, Cluster]]:
        """Return records of the same defects as a whole, each with the piece that its field goes around.

        In the order of trust: records in the same supercell lattice, then in larger cells, then in smaller.
        """
        found = [
            (record, piece) for piece in pieces(cell, cluster) for record in self._wholes.get(piece.canonical[0], ())
        ]
        return sorted(found, key=lambda pair: _trust(pair[0].cell, cell))

    def around(self, record: Recorded, piece: Cluster) -> Field:
        """Return a record's whole field, around the defects that a piece is an image of."""
        own = next(p for p in pieces(record.cell, record.laid.cluster) if p.canonical[0] == piece.canonical[0])
        return Field.around(own, record.laid.rows, record.values, np.eye(3))

    @cached_property
    def terms(self) -> dict[TermKey, list[Source]]:
        """Fields of defects and pairs of all groups."""
        found: dict[TermKey, list[Source]] = {}
        for group in self.groups:
            for key, source in group.terms.items():
                found.setdefault(key, []).append(source)
        return found

    def term(self, key: TermKey, cell: Cell) -> Source | None:
        """Return the field of a defect or a pair that is to be trusted most in a supercell."""
        return min(self.terms.get(key, ()), key=lambda source: _trust(source.group.cell, cell), default=None)

    @cached_property
    def charges(self) -> dict[Key, dict[int, float | None]]:
        """Charges in which each single defect is recorded, with its energy in the largest cell, eV."""
        found: dict[Key, dict[int, float | None]] = {}
        for group in sorted(self.groups, key=lambda group: group.cell.size):
            for key, charges in group.terms:
                if len(charges) == 1:
                    energy = group.energies.get(key, {}).get(charges[0])
                    found.setdefault(key, {})[charges[0]] = energy
        return found

    def doubt(self, record: Recorded, *, carried: bool) -> float:
        """Return the expected error of a record's field elsewhere, as a share of its motion; see `errors`."""
        if record.record_id not in self._doubts:
            key = min(piece.canonical[0] for piece in pieces(record.cell, record.laid.cluster))
            others = {
                other.charge: self.around(other, piece)
                for piece in pieces(record.cell, record.laid.cluster)
                for other in self._wholes.get(key, ())
                if piece.canonical[0] == key
                and other.charge != record.charge
                and other.cell.has_lattice_of(record.cell)
            }
            self._doubts[record.record_id] = spread(record), bend(record, others)
        own, line = self._doubts[record.record_id]
        return max(own, line) if carried else own


def _trust(source: Cell, target: Cell) -> tuple[bool, int]:
    return not source.has_lattice_of(target), -source.size


def pieces(cell: Cell, cluster: Cluster) -> list[Cluster]:
    """Return the ways in which periodic images of the defects make a cluster in one piece."""
    if len(cluster) == _PAIR:
        return pairs_at(cell, cluster)
    return list(gathered(cell, cluster)) if len(cluster) > _PAIR else [cluster]


def _lower(record: Recorded, other: Recorded) -> bool:
    """Whether a record ends lower than another; any energy is better than none."""
    return record.energy is not None and (other.energy is None or record.energy < other.energy)


def _recorded(item: Evidence, cell: Cell) -> Recorded:
    laid, missing = lay_configuration(cell, item.host, item.configuration)
    if laid is None:
        raise InputError(f"record {item.record_id}: no place for {', '.join(missing)}")
    values = np.asarray(item.displacements, dtype=np.float64)
    if values.shape != laid.off.shape or not np.isfinite(values[laid.atoms]).all():
        msg = f"record {item.record_id}: displacements of shape {values.shape} for {len(laid.off)} rows, or not finite"
        raise InputError(f"{msg}: give one finite row for each site and inserted atom")
    return Recorded(
        item.record_id, laid, item.configuration.charge, at_rest(laid, values) @ cell.turn + laid.off, item.energy
    )


def at_rest(laid: Laid, values: FloatArray) -> FloatArray:
    """Return displacements ([n_rows, 3], Å) without their mean over the atoms; vacancies at zero."""
    out = np.zeros_like(values)
    out[laid.atoms] = values[laid.atoms] - values[laid.atoms].mean(0)
    return out
