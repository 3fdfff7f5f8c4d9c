"""A crystal as it was read: its atoms in their order, frame and image, and which of them stay where they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pymatgen.core import Structure

from definet_flows.schemas import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Held:
    """Which coordinates of which atoms stay where they are.

    Attributes
    ----------
    mask
        [n, 3]
    cartesian
        Whether the columns are x, y, z (ASE) and not a, b, c (selective dynamics).
    """

    mask: BoolArray
    cartesian: bool = False

    def left_of(self, step: FloatArray, lattice: FloatArray) -> FloatArray:
        """Return a step, fractional, [n, 3], without what would move a held coordinate."""
        if not self.cartesian:
            return np.where(self.mask, 0.0, step)
        return np.asarray(np.where(self.mask, 0.0, step @ lattice) @ np.linalg.inv(lattice))

    @property
    def atoms(self) -> int:
        """Number of atoms of which at least one coordinate is held."""
        return int(self.mask.any(axis=1).sum())


def held_by(mask: BoolArray, *, cartesian: bool = False) -> Held | None:
    """Return which coordinates are held, from a mask [n, 3]; None if none is."""
    return Held(mask, cartesian) if mask.any() else None


@dataclass(frozen=True, eq=False)
class Crystal:
    """One crystal as it is written in its file.

    Attributes
    ----------
    lattice
        Rows, Å, [3, 3].
    numbers
        Atomic numbers, [n].
    frac
        Fractional coordinates in the image they are written in, [n, 3].
    charge
        Net charge, elementary charges.
    held
        What is to stay where it is; None: nothing.
    note
        What a reader must know.
    """

    lattice: FloatArray
    numbers: IntArray
    frac: FloatArray
    charge: float = 0.0
    held: Held | None = None
    note: str = ""

    def structure(self) -> Structure:
        """Return it as pymatgen's Structure, in the same image."""
        charge = self.charge or None
        return Structure(self.lattice, self.numbers.tolist(), self.frac, charge=charge)

    def moved(self, step: FloatArray) -> FloatArray:
        """Return the fractional coordinates after a step, fractional, [n, 3]; what is held has not moved."""
        return self.frac + (step if self.held is None else self.held.left_of(step, self.lattice))
