"""Displacement fields: taken from a supercell, held in the infinite crystal, laid onto another supercell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from definet_flows.defects import nodes
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host
from definet_flows.starts.fields.clusters import Cluster, nearest_images
from definet_flows.starts.fields.crystal import Cell, inserted_points

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a coordinate table as places: the sites of a supercell, then inserted atoms.

    Attributes
    ----------
    added, added_cells
        Places of the inserted atoms, [n_inserted] and [n_inserted, 3].
    """

    cell: Cell
    added: IntArray
    added_cells: IntArray

    @cached_property
    def places(self) -> tuple[IntArray, IntArray]:
        """Basis atom and cell of each row, [n_rows] and [n_rows, 3]."""
        return np.concatenate([self.cell.basis, self.added]), np.concatenate([self.cell.cells, self.added_cells])

    def find(self, basis: IntArray, cells: IntArray) -> IntArray:
        """Return the row at each place, -1 where there is none."""
        rows = self.cell.rows(basis, cells)
        for k, (place, where) in enumerate(zip(self.added, self.added_cells, strict=True)):
            rows[self.cell.same(basis, cells, place, where)] = len(self.cell.basis) + k
        return rows


@dataclass(frozen=True, eq=False)
class Laid:
    """A configuration laid on the crystal.

    Attributes
    ----------
    rows
        Its table's rows as places.
    cluster
        Its defects.
    off
        How far each row begins from its place, in the crystal's frame: zero for sites, Å, [n_rows, 3].
    atoms
        Rows that are atoms, [n_rows].
    """

    rows: Rows
    cluster: Cluster
    off: FloatArray
    atoms: BoolArray


def lay_configuration(cell: Cell, host: Host, configuration: Configuration) -> tuple[Laid | None, list[str]]:
    """Return a configuration laid on the crystal, or None and the names of inserted atoms that have no place in it."""
    crystal = cell.crystal
    markers = nodes(host, configuration)[1]
    inserted = [edit for edit in configuration.edits if edit.site is None]
    points = cell.point(inserted_points(host, configuration))
    found = [crystal.place_of(point) for point in points]
    missing = [edit.name for edit, place in zip(inserted, found, strict=True) if place is None]
    if missing:
        return None, missing
    added = np.array([place[0] for place in found if place], dtype=np.int64)
    added_cells = np.array([place[1] for place in found if place], dtype=np.int64).reshape(-1, 3)
    off = np.zeros((len(markers), 3))
    off[host.n_sites :] = (points - crystal.basis[added] - added_cells) @ crystal.lattice
    edited = [edit for edit in configuration.edits if edit.site is not None]
    sites = [edit.site for edit in edited if edit.site is not None]
    cluster = Cluster(
        crystal,
        np.concatenate([cell.basis[sites], added]),
        np.concatenate([cell.cells[sites], added_cells]),
        np.array([edit.new or 0 for edit in (*edited, *inserted)], dtype=np.int64),
    )
    return Laid(Rows(cell, added, added_cells), cluster, off, markers != VACANCY), []


@dataclass(frozen=True, eq=False)
class Field:
    """Displacements around a cluster in the infinite crystal, zero where its source cell ends.

    Attributes
    ----------
    cluster
        In one piece.
    basis, cells, values
        Places and displacements, Å, in the crystal's frame; a place between several images of the cluster has its
        share, [n], [n, 3] and [n, 3].
    orientation
        Rotation from the frame in which the displacements were recorded, [3, 3].
    """

    cluster: Cluster
    basis: IntArray
    cells: IntArray
    values: FloatArray
    orientation: FloatArray

    @classmethod
    def around(cls, cluster: Cluster, rows: Rows, values: FloatArray, orientation: FloatArray) -> Field:
        """Return a supercell's displacements ([n_rows, 3], Å) as a field around a cluster in it."""
        places = rows.places
        basis, cells, row, weight = nearest_images(rows.cell, cluster, *places)
        return cls(cluster, basis, cells, values[row] * weight[:, None], orientation)

    def onto(self, rows: Rows, cluster: Cluster) -> FloatArray:
        """Return the field around a cluster of another supercell, crystal's frame, Å, [n_rows, 3].

        Of the operations that map the clusters onto each other, that which turns the recorded field least is taken:
        a field without its site's symmetry keeps its direction where it can.
        """
        crystal = self.cluster.crystal
        there = self.cluster.canonical[1][0]
        rotations = crystal.rotations
        came = rotations[there.g] @ self.orientation
        back = max(cluster.canonical[1], key=lambda m: round(float(np.sum(rotations[m.g] * came)), 6))
        places = back.back(crystal, *there.forth(crystal, self.basis, self.cells))
        row = rows.find(*places)
        out = np.zeros((len(rows.places[0]), 3))
        turn = rotations[back.g].T @ rotations[there.g]
        np.add.at(out, row[row >= 0], self.values[row >= 0] @ turn.T)
        return out
