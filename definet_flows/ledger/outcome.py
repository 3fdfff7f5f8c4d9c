"""The result of every engine, and the small quantities of a ledger."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from definet_flows.schemas import Ledger

SYMPREC = 0.01
"""Tolerance of the point groups, Å: well below any distortion, well above the noise of a relaxation's end."""


@dataclass(frozen=True)
class Outcome:
    """End and cost of a relaxation.

    Attributes
    ----------
    structure
        The relaxed structure, sites in the engine's order; of a failed run the last sound structure, None without.
    ledger
        Steps, energies, forces, convergence; None if a failed run computed nothing.
    trajectory_length
        Frames of the stored trajectory, each a force evaluation; None if none is stored or loaded.
    error
        Why the run failed.
    """

    structure: Structure | None
    ledger: Ledger | None
    trajectory_length: int | None
    error: str | None = None


def largest_force(forces: npt.ArrayLike | None) -> float | None:
    """Return the largest norm of the forces on single atoms, eV/Å; `forces` is [n_atoms, 3]."""
    if forces is None:
        return None
    vectors = np.asarray(forces, dtype=np.float64).reshape(-1, 3)
    return float(np.linalg.norm(vectors, axis=1).max()) if len(vectors) else None


def is_converged(max_force: float | None, criterion: float) -> bool:
    """Return whether the final largest force is known and at or below the criterion, both in eV/Å."""
    return max_force is not None and max_force <= criterion


def core_hours(processor_seconds: float | None) -> float | None:
    """Return the processor time of a relaxation with an ASE calculator, h; None if it is unknown."""
    return None if processor_seconds is None else processor_seconds / 3600


def repeats_last_frame(energies: Sequence[float] | None, forces: npt.ArrayLike | None) -> bool:
    """Return whether the last frame repeats the frame before it.

    A step of an optimiser moves atoms, so a frame with bitwise the same energy and forces is no
    second force evaluation: atomate2 adds the last frame again when the optimiser has stopped.
    """
    if energies is None or forces is None or len(energies) < 2:  # noqa: PLR2004
        return False
    frames = np.asarray(forces, dtype=np.float64)
    return bool(energies[-1] == energies[-2] and np.array_equal(frames[-1], frames[-2]))


def point_group(structure: Structure | None) -> str | None:
    """Return the point group (Hermann-Mauguin, such as `3m`) of a cell with its defects, to `SYMPREC`."""
    if structure is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spglib's notices on cells too distorted to have a symmetry
            symbol: str = SpacegroupAnalyzer(structure, symprec=SYMPREC).get_point_group_symbol()
    except SymmetryUndeterminedError:
        return None
    return symbol.strip()
