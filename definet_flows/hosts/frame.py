"""How a cell lies in the frame of another: which axes, which rotation, how much strain.

Two cells that agree in lengths and angles describe one lattice up to a rotation (or a reflection), so Cartesian
coordinates of the first mean nothing in the second. Fractional coordinates are carried over exactly, vectors by the
rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.hosts.sane import check_cell

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray

IntArray = npt.NDArray[np.int64]

LARGEST_STRAIN = 0.02
"""Relative difference of cell lengths, and of angles in radians, that is still the same cell."""
REVERSED = "-a -b -c"
"""Note on a host whose rows were left-handed: all three are reversed, the crystal stays as it is."""
_ALIKE = 1e-3  # two fits that differ by less are equally good


@dataclass(frozen=True, eq=False)
class Frame:
    """A cell in the frame of a reference cell.

    Attributes
    ----------
    cell
        Rows, Å, [3, 3].
    reference
        Rows, Å, [3, 3].
    axes
        Whole numbers of determinant ±1: rows ``axes @ cell`` are those of `reference`, turned and slightly strained.
    """

    cell: FloatArray
    reference: FloatArray
    axes: IntArray

    @cached_property
    def turned(self) -> FloatArray:
        """Rows of the cell along those of the reference, turned to them, lengths and angles as they are, Å, [3, 3]."""
        from scipy.linalg import polar  # noqa: PLC0415 - a third of a second to import

        rows = self.axes @ self.cell
        rotation, _ = polar(np.linalg.solve(rows, self.reference))
        return np.asarray(rows @ rotation)

    def frac(self, frac: FloatArray) -> FloatArray:
        """Return fractional coordinates in the reference of those in the cell, [n, 3]."""
        return np.asarray(frac @ np.linalg.inv(self.axes))

    def back(self, vectors: FloatArray) -> FloatArray:
        """Return vectors of the reference's frame (Å, [n, 3]) as fractional vectors of the cell."""
        return np.asarray(vectors @ np.linalg.inv(self.turned) @ self.axes)

    @cached_property
    def strain(self) -> float:
        """Largest relative difference of lengths, or of angles in radians."""
        mine, other = Lattice(self.axes @ self.cell), Lattice(self.reference)
        lengths = np.abs(np.array(mine.abc) / np.array(other.abc) - 1).max()
        angles = np.abs(np.radians(np.array(mine.angles) - np.array(other.angles))).max()
        return float(max(lengths, angles))


def same_rows(cell: FloatArray, reference: FloatArray) -> Frame:
    """Return the frame of a cell whose rows are those of the reference, in order.

    Raises
    ------
    InputError
        If lengths or angles differ by more than 2 %.
    """
    frame = Frame(np.asarray(cell), np.asarray(reference), np.eye(3, dtype=np.int64))
    if not frame.strain <= LARGEST_STRAIN:  # a strain that is no number is none either
        found, expected = (" ".join(f"{x:.3f}" for x in Lattice(rows).parameters) for rows in (cell, reference))
        msg = f"the cell ({found}) is not the host's ({expected}): keep the cell fixed"
        raise InputError(msg)
    return frame


def frames(cell: FloatArray, reference: FloatArray) -> list[Frame]:
    """Return every way in which a cell is the reference within 2 %, best fit first; rows as they stand come first.

    The order does not depend on how the cell is turned.
    """
    try:
        check_cell(cell, np.empty((0, 3)))  # pymatgen's search ends in an error, or not at all
    except InputError:
        return []
    ratio = abs(np.linalg.det(cell) / np.linalg.det(reference))
    if abs(ratio - 1) > (1 + LARGEST_STRAIN) ** 3 - 1:  # the search below takes long between unlike cells
        return []
    mappings = Lattice(cell).find_all_mappings(
        Lattice(reference), ltol=LARGEST_STRAIN, atol=float(np.degrees(LARGEST_STRAIN)), skip_rotation_matrix=True
    )
    every = [Frame(cell, reference, np.asarray(mapping[2], dtype=np.int64)) for mapping in mappings]
    identity = np.eye(3)
    return sorted(
        (frame for frame in every if frame.strain <= LARGEST_STRAIN),
        key=lambda frame: (round(frame.strain / _ALIKE), not np.array_equal(frame.axes, identity), *(-frame.axes).flat),
    )


def right_handed(structure: Structure) -> tuple[Structure, str]:
    """Return the same crystal with right-handed rows, and what was done to them ("" for nothing).

    Left-handed rows are all reversed, and the fractional coordinates with them: no atom moves, and lengths, angles,
    the order of the axes and what a supercell means stay as they are.
    """
    if np.linalg.det(structure.lattice.matrix) > 0:
        return structure, ""
    turned = Structure(Lattice(-structure.lattice.matrix), structure.species, -structure.frac_coords)
    turned.properties = dict(structure.properties)
    return turned, REVERSED
