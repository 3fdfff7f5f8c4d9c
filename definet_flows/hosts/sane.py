"""What is read is finite, and of a size that memory holds, before any library sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from definet_flows.schemas import FloatArray

_FLAT = 1e-3  # Å³; a cell of less volume is none
_THIN = 0.05  # Å; smallest distance between opposite faces of a cell
_DENSE = 0.3  # Å³ for each atom; hydrogen at 500 GPa has 1
_LONG = 10_000.0  # Å; a longer lattice vector is a typing error
_WIDE = 1e8  # Å³
_FAR = 1e6  # fractional; beyond it a float does not say where in the cell an atom is
_MOST_ATOMS = 100_000
_LARGEST_FILE = 2**30  # bytes


def check_cell(lattice: FloatArray, frac_coords: FloatArray, subject: str = "") -> None:
    """Refuse a crystal that libraries answer with a crash or with all of the memory.

    Parameters
    ----------
    lattice
        Rows, Å, [3, 3].
    frac_coords
        Fractional coordinates, [n, 3].
    subject
        What the message begins with, such as "host 'POSCAR'".

    Raises
    ------
    InputError
        Numbers that are not finite, a cell that is flat, endless or too dense, too many atoms.
    """
    flaw = _flaw(np.asarray(lattice, dtype=float), np.asarray(frac_coords, dtype=float).reshape(-1, 3))
    if flaw:
        raise InputError(f"{subject} {flaw}".strip())


def _flaw(lattice: FloatArray, frac: FloatArray) -> str:
    if len(frac) > _MOST_ATOMS:
        return f"holds {len(frac)} atoms, more than {_MOST_ATOMS}: give a smaller cell"
    if not np.isfinite(lattice).all():
        return f"has no cell: its lattice {lattice.tolist()} is not made of finite numbers"
    broken = np.flatnonzero(~np.isfinite(frac).all(axis=1))
    if len(broken):
        return f"has a coordinate that is not a finite number, of atom {broken[0]} (counted from 0)"
    longest = np.abs(lattice).max()  # a component: the square of 1e300 is infinite
    if longest > _LONG:
        return f"has a lattice vector of {longest:g} Å, more than {_LONG:g} Å: shorten the cell or its vacuum"
    return _misshapen(lattice, frac)


def _misshapen(lattice: FloatArray, frac: FloatArray) -> str:
    volume = abs(float(np.linalg.det(lattice)))
    if volume < _FLAT:
        return "has no cell: three lattice vectors that span a volume are needed"
    if volume > _WIDE:
        return f"has a cell of {volume:.3g} Å³, more than {_WIDE:g} Å³: shorten the cell or its vacuum"
    height = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0).max()
    if height < _THIN or volume < _DENSE * len(frac):
        return f"has a cell too small for {len(frac)} atoms ({volume:.3g} Å³, {height:.2g} Å high): are its units Å?"
    far = np.abs(frac).max(axis=1, initial=0.0)
    if len(far) and far.max() > _FAR:
        return f"has an atom {far.max():.3g} cells away, atom {far.argmax()} (counted from 0): mend its coordinates"
    return ""


def check_file(path: Path) -> None:
    """Refuse a file of structures that would not fit into memory.

    Raises
    ------
    InputError
        A file of more than 1 GiB.
    """
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise InputError(f"is larger than 1 GiB ({size / 1e9:.1f} GB): split it")
