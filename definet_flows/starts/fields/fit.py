"""Fields of single defects and of pairs, fitted to all recorded relaxations in one supercell.

Displacement of a row = sum over defects of the field of each + sum over pairs of what the pair has beyond them. A pair
pays for its field, so that singles explain what they can. Defects and pairs that operations of the supercell map onto
each other share one field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import lsmr

from definet_flows.schemas import FloatArray
from definet_flows.starts.fields.carry import Field, Laid, Rows
from definet_flows.starts.fields.clusters import Cluster, Key, Mapping, operations_of, parts
from definet_flows.starts.fields.crystal import Cell, Crystal

IntArray = npt.NDArray[np.int64]

_FREE = 1e-4  # penalty of a single defect's field, in equations
_PAIR = 0.02  # penalty of a pair's field, in equations
_STEPS = 300
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recorded relaxation on the crystal.

    Attributes
    ----------
    charges
        Charge taken for each defect, elementary charges, [n_defects].
    values
        Displacements in the crystal's frame, Å, [n_rows, 3].
    """

    record_id: str
    laid: Laid
    charge: int
    values: FloatArray
    energy: float | None = None
    charges: tuple[int, ...] = ()

    @property
    def cell(self) -> Cell:
        """The supercell it was relaxed in."""
        return self.laid.rows.cell


Kinds = tuple[Key, ...]
"""What two defects are, wherever they stand to each other."""

TermKey = tuple[Key, tuple[int, ...]]
"""Canonical cluster and the sorted charges of its defects."""


@dataclass(eq=False)
class Term:
    """A single defect or a pair in a supercell, in its canonical placement there."""

    cluster: Cluster
    rows: Rows
    maps: list[Mapping]
    orientation: FloatArray
    first: int
    records: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Fit:
    """Fields of one supercell lattice.

    Attributes
    ----------
    fields
        Of each defect and pair, with the ids of the records that show it.
    error
        Mean |component| error of a complex whose pairs are recorded, left out of the fit, Å; None if unknown.
    error_per_pair
        The same of a complex whose pairs are not recorded, over the square root of their number.
    error_of_kinds
        The same of a single pair that is not recorded, by the kinds of its two defects, at any distance, Å.
    """

    fields: dict[TermKey, tuple[Field, list[str]]]
    error: float | None = None
    error_per_pair: float | None = None
    error_of_kinds: dict[Kinds, float] = field(default_factory=dict)


def fit(recorded: Sequence[Recorded], *, pairs: bool = True) -> Fit:
    """Return the fields that records of one supercell lattice show."""
    cell = recorded[0].cell
    design = _Design(cell, operations_of(cell), pairs=pairs)
    for record in recorded:
        design.add(record)
    return design.solve()


class _Design:
    """Equations of all atoms in all records, one block of three unknowns for each row of each term."""

    def __init__(self, cell: Cell, operations: IntArray, *, pairs: bool) -> None:
        self.cell, self.operations, self.pairs = cell, operations, pairs
        self.terms: dict[TermKey, Term] = {}
        self.unknowns = 0
        self.columns: list[IntArray] = []
        self.blocks: list[FloatArray] = []
        self.counts: list[int] = []
        self.targets: list[FloatArray] = []
        self.members: list[list[Term]] = []

    def add(self, record: Recorded) -> None:
        """Add the equations of a record."""
        laid = record.laid
        basis, cells = (place[laid.atoms] for place in laid.rows.places)
        columns, blocks, members = [], [], []
        for which, placements in parts(self.cell, laid.cluster):
            if len(which) > 1 and not self.pairs:
                break
            cluster = min(placements, key=lambda part: part.canonical_under(self.operations)[0])
            term, mapping = self._term(cluster, tuple(sorted(record.charges[k] for k in which)))
            term.records.append(record.record_id)
            members.append(term)
            row = term.rows.find(*mapping.forth(cluster.crystal, basis, cells))
            scale = (_FREE if len(which) == 1 else _PAIR) ** -0.5
            turn = cluster.crystal.rotations[mapping.g].T * scale
            columns.append(np.where(row < 0, 0, row + term.first))
            blocks.append(turn[None] * (row >= 0)[:, None, None])
        if columns:
            self.columns.append(np.stack(columns, axis=1).ravel())
            self.blocks.append(np.stack(blocks, axis=1).reshape(-1, 3, 3))
            self.counts += [len(columns)] * len(basis)
            self.targets.append(record.values[laid.atoms])
            self.members.append(members)

    def _term(self, cluster: Cluster, charges: tuple[int, ...]) -> tuple[Term, Mapping]:
        key, maps = cluster.canonical_under(self.operations)
        if (key, charges) not in self.terms:
            crystal, mapping = cluster.crystal, maps[0]
            basis, cells = mapping.forth(crystal, cluster.basis, cluster.cells)
            added = crystal.numbers[basis] == 0
            placed = Cluster(crystal, basis, cells, cluster.new)
            rows = Rows(self.cell, basis[added], cells[added])
            stays = placed.canonical_under(self.operations)[1]
            self.terms[key, charges] = Term(placed, rows, stays, crystal.rotations[mapping.g], self.unknowns)
            self.unknowns += len(rows.places[0])
        return self.terms[key, charges], maps[0]

    def solve(self) -> Fit:
        """Return the fields, keyed by the crystal's operations, not the supercell's alone."""
        indptr = np.concatenate([[0], np.cumsum(self.counts)])
        matrix = sparse.bsr_array(
            (np.concatenate(self.blocks), np.concatenate(self.columns), indptr),
            shape=(3 * len(self.counts), 3 * self.unknowns),
        )
        target = np.concatenate(self.targets).ravel()
        scaled = lsmr(matrix, target, damp=1.0, atol=_TOLERANCE, btol=_TOLERANCE, maxiter=_STEPS)[0].reshape(-1, 3)
        found = {}
        for (_, charges), term in self.terms.items():
            values = scaled[term.first : term.first + len(term.rows.places[0])]
            values = values * (_FREE if len(term.cluster) == 1 else _PAIR) ** -0.5
            if len(set(term.records)) > 1:
                values = images(self.cell.crystal, term.rows, term.maps, values).mean(0)
            around = Field.around(term.cluster, term.rows, values, term.orientation)
            found[term.cluster.canonical[0], charges] = (around, term.records)
        return Fit(found, *self._errors(target - matrix @ scaled.ravel(), matrix, scaled))

    def _errors(
        self, residual: FloatArray, matrix: sparse.bsr_array, scaled: FloatArray
    ) -> tuple[float | None, float | None, dict[Kinds, float]]:
        """Return the mean errors of complexes left out of the fit; see `Fit`.

        A pair in a single record is unknown without that record: its field, which leaves nothing of the record to the
        others, belongs to the error. Else a pair in k records changes by one in k: the residual grows by k / (k - 1).
        """
        lonely = np.zeros_like(scaled)
        for term in self.terms.values():
            if len(set(term.records)) == 1:
                rows = slice(term.first, term.first + len(term.rows.places[0]))
                lonely[rows] = scaled[rows]
        without = residual + matrix @ lonely.ravel()
        ends = np.cumsum([target.size for target in self.targets])
        known, unknown, of_kinds = list[float](), list[float](), defaultdict[Kinds, list[float]](list)
        for part, members in zip(np.split(without, ends[:-1]), self.members, strict=True):
            counts = [len(set(term.records)) for term in members]
            alone = [term.cluster for term, count in zip(members, counts, strict=True) if count == 1]
            if len(members) == 1 or 1 in map(len, alone):
                continue  # a single, or a complex with a defect that no other record shows
            size = float(np.abs(part).mean())
            if alone:
                unknown.append(size / len(alone) ** 0.5)
                if len(alone) == 1:
                    of_kinds[alone[0].kinds].append(size)
            else:
                known.append(size * max((k / (k - 1) for k in counts), default=1.0))
        return _mean(known), _mean(unknown), {kinds: float(np.mean(sizes)) for kinds, sizes in of_kinds.items()}


def images(crystal: Crystal, rows: Rows, maps: Sequence[Mapping], values: FloatArray) -> FloatArray:
    """Return a field under the operations that leave its defects as they are, Å, [n_operations, n_rows, 3].

    Parameters
    ----------
    maps
        All operations, of those that keep the supercell, that take the defects to the same placement.
    values
        The field, Å, [n_rows, 3].
    """
    out, first = np.zeros((len(maps), *values.shape)), maps[0]
    places = first.forth(crystal, *rows.places)
    for image, mapping in zip(out, maps, strict=True):
        row = rows.find(*mapping.back(crystal, *places))
        image[row] = values @ (crystal.rotations[mapping.g].T @ crystal.rotations[first.g]).T
    return out


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
