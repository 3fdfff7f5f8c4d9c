"""Defects of a configuration as a cluster of places, and the operations that map clusters onto each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from definet_flows.schemas import FloatArray
from definet_flows.starts.fields.crystal import Cell, Crystal

IntArray = npt.NDArray[np.int64]
Key = tuple[int, ...]

_WHOLE = 1e-6
_TIE = 1e-3  # Å; images that differ in distance by less are equally near
_MOST_PAIRS = 30  # of a configuration, the nearest; equations of more would not fit into memory
_ELEMENTS = 128  # more than there are
_STEPS = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3)))
_WIDE, _MIDDLE = 1 << 12, 1 << 11  # cells of a cluster lie within this many of each other


@dataclass(frozen=True, eq=False)
class Cluster:
    """Defects that belong together, in the infinite crystal.

    Attributes
    ----------
    basis, cells
        Places, [n] and [n, 3].
    new
        Atomic number placed there, 0 for a vacancy, [n].
    """

    crystal: Crystal
    basis: IntArray
    cells: IntArray
    new: IntArray

    def __len__(self) -> int:
        return len(self.basis)

    @property
    def kinds(self) -> tuple[Key, ...]:
        """What its defects are, wherever they stand to each other."""
        return tuple(sorted(self.part([k]).canonical[0] for k in range(len(self))))

    def part(self, which: list[int]) -> Cluster:
        """Return some of the defects."""
        return Cluster(self.crystal, self.basis[which], self.cells[which], self.new[which])

    @cached_property
    def canonical(self) -> tuple[Key, list[Mapping]]:
        """Key that all symmetry images share, and the operations that take the cluster to its canonical image."""
        return self.canonical_under(np.arange(len(self.crystal.rotations)))

    def canonical_under(self, operations: IntArray) -> tuple[Key, list[Mapping]]:
        """Return the same for some of the crystal's operations, which must be a group."""
        crystal = self.crystal
        basis = crystal.basis_to[operations][:, self.basis]
        cells = np.einsum("ib,gbc->gic", self.cells, crystal.turns[operations])
        cells += crystal.shifts[operations][:, self.basis]
        tables = []
        for first in range(len(self)):
            code = basis * _ELEMENTS + self.new
            for apart in np.moveaxis(cells - cells[:, first : first + 1] + _MIDDLE, 2, 0):
                code = code * _WIDE + apart
            tables.append(np.sort(code, axis=1))
        table = np.concatenate(tables)
        best = table[np.lexsort(table.T[::-1])[0]]
        same = [divmod(int(row), len(operations)) for row in np.flatnonzero((table == best).all(axis=1))]
        maps = [Mapping(int(operations[k]), cells[k, first]) for first, k in same]
        return tuple(best.tolist()), maps


@dataclass(frozen=True, eq=False)
class Mapping:
    """A space-group operation: operation g of the crystal, then a shift back by whole cells.

    Attributes
    ----------
    g
        Index of the crystal's operation.
    offset
        Cells that the shift takes off, [3].
    """

    g: int
    offset: IntArray

    def forth(self, crystal: Crystal, basis: IntArray, cells: IntArray) -> tuple[IntArray, IntArray]:
        """Return where places go."""
        basis, cells = crystal.forth(self.g, basis, cells)
        return basis, cells - self.offset

    def back(self, crystal: Crystal, basis: IntArray, cells: IntArray) -> tuple[IntArray, IntArray]:
        """Return the places that go to those given."""
        return crystal.back(self.g, basis, cells + self.offset)


def operations_of(cell: Cell) -> IntArray:
    """Return the crystal's operations that keep a supercell's lattice, [n]."""
    changes = cell.matrix @ cell.crystal.turns @ np.linalg.inv(cell.matrix)
    return np.flatnonzero(np.abs(changes - np.rint(changes)).max(axis=(1, 2)) < _WHOLE)


def gathered(cell: Cell, cluster: Cluster) -> Iterator[Cluster]:
    """Yield the cluster in one piece, around each of its defects in turn: every other at its nearest image."""
    for first in range(len(cluster)):
        around = cluster.part([first])
        basis, cells, row, _ = nearest_images(cell, around, cluster.basis, cluster.cells)
        chosen = [int(np.flatnonzero(row == k)[0]) for k in range(len(cluster))]
        yield Cluster(cluster.crystal, basis[chosen], cells[chosen], cluster.new)


def pairs_at(cell: Cell, pair: Cluster) -> list[Cluster]:
    """Return a pair with its second defect at the nearest image to the first, at each where several are that near."""
    basis, cells, _, _ = nearest_images(cell, pair.part([0]), pair.basis[1:], pair.cells[1:])
    first_basis, first_cells = pair.basis[:1], pair.cells[:1]
    return [
        Cluster(pair.crystal, np.append(first_basis, b), np.concatenate([first_cells, [n]]), pair.new)
        for b, n in zip(basis, cells, strict=True)
    ]


def parts(cell: Cell, cluster: Cluster) -> list[tuple[list[int], list[Cluster]]]:
    """Return each defect and the nearest pairs: which defects, and the placements that periodic images allow."""
    singles = [([k], [cluster.part([k])]) for k in range(len(cluster))]
    pairs = [
        (list(two), pairs_at(cell, cluster.part(list(two)))) for two in itertools.combinations(range(len(cluster)), 2)
    ]
    return singles + sorted(pairs, key=lambda pair: round(_length(pair[1][0]), 3))[:_MOST_PAIRS]


def _length(pair: Cluster) -> float:
    ends = pair.crystal.positions(pair.basis, pair.cells)
    return float(np.linalg.norm(ends[1] - ends[0]))


def nearest_images(
    cell: Cell, cluster: Cluster, basis: IntArray, cells: IntArray
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Return the periodic images of places that are nearest to a cluster: inside its Wigner-Seitz cell.

    Returns
    -------
    basis, cells, row
        Place of each image, and the row of the place given that it is an image of, [n_images].
    weight
        1, or 1/k where k images are equally near, [n_images].
    """
    crystal = cell.crystal
    reduced = reduced_vectors(cell)
    centers = crystal.positions(cluster.basis, cluster.cells)
    apart = (crystal.basis[basis] + cells - crystal.basis[cluster.basis[0]] - cluster.cells[0]) @ np.linalg.inv(reduced)
    moved = -np.rint(apart).astype(np.int64)[:, None] + _STEPS[None]  # [n, 125, 3]
    images = cells[:, None] + moved @ reduced
    away = crystal.positions(basis[:, None], images)[:, :, None] - centers[None, None]
    distance = np.linalg.norm(away, axis=-1).min(2)
    row, image = np.nonzero(distance < distance.min(1, keepdims=True) + _TIE)
    weight = 1.0 / np.bincount(row, minlength=len(basis))[row]
    return basis[row], images[row, image], row, weight


def reduced_vectors(cell: Cell) -> IntArray:
    """Return short vectors of the supercell's lattice, in primitive vectors, rows, [3, 3]."""
    from pymatgen.core import Lattice  # noqa: PLC0415

    short = Lattice(cell.matrix @ cell.crystal.lattice).get_lll_reduced_lattice().matrix
    return np.rint(short @ np.linalg.inv(cell.crystal.lattice)).astype(np.int64)
