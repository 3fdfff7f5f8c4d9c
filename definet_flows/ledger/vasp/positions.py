"""Positions that a relaxation can go on from, and whether two structures are in the same place."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.io.vasp import Poscar

from definet_flows.ledger.vasp.output.packed import Lines

if TYPE_CHECKING:
    from pathlib import Path

    from pymatgen.core import Structure

    from definet_flows.ledger.vasp.run import VaspRun

_CLOSEST = 0.5  # of the start's shortest distance: nearer atoms are no positions to go on from
_SAME_CELL = 1e-4  # Å
_SAME_END = 1e-3  # Å; a converged run's CONTCAR holds the positions of its last step
_ONE_MOVE = 1.0  # Å; any other run's CONTCAR is at most a move of an optimiser past it


def read_poscar(path: Path | None) -> Structure | None:
    """Return the structure of a POSCAR or CONTCAR; None if it is missing, cut off (even inside a number) or broken."""
    if path is None:
        return None
    source = Lines(path)
    text = "".join(source)
    if source.damage or not text.endswith("\n"):  # VASP ends every line
        return None if source.damage or _cut_in_last_row(text) else _parsed(text)
    return _parsed(text)


def _cut_in_last_row(text: str) -> bool:
    """Return whether the last line of a file without a line end is shorter in a number than the line before."""
    *_, before, last = ["", "", *(line for line in text.splitlines() if line.strip())]
    widths = [[len(word) for word in re.findall(r"\.(\d+)", line)] for line in (before, last)]
    return widths[0] != widths[1]


def _parsed(text: str) -> Structure | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the caller judges what is wrong
            structure: Structure = Poscar.from_str(text).structure
    except Exception:  # noqa: BLE001  # a file cut off anywhere fails in many ways
        return None
    return structure


def trusted(run: VaspRun, start: Structure | None, contcar: Structure | None) -> Structure | None:
    """Return the last positions that a relaxation can go on from; None if unreliable forces led there.

    That is the CONTCAR, if it is sane and does not contradict the run's output; else where the last finished ionic
    step was.
    """
    low = run.energy is None or run.energy <= 0
    if start is None or not run.ionic_steps or run.electronically_converged is False or not run.sound or not low:
        return None
    fits = contcar is not None and not contradicts(run, contcar)
    candidates = (contcar if fits else None, run.final)
    return next((positions for positions in candidates if positions is not None and _sane(positions, start)), None)


def contradicts(run: VaspRun, contcar: Structure) -> bool:
    """Return whether a CONTCAR is not where the run's output says that it ended."""
    if run.final is None:
        return False
    ends = [end for end in (run.final, run.closing) if end is not None]
    limit = _SAME_END if run.finished and run.converged else _ONE_MOVE
    apart = [distance for end in ends if (distance := farthest(contcar, end)) is not None]
    return not apart or min(apart) > limit


def farthest(first: Structure, other: Structure) -> float | None:
    """Return the largest distance of any atom between two structures, Å; None if they list other atoms or cells."""
    if first.species != other.species or not np.allclose(first.lattice.matrix, other.lattice.matrix, atol=_SAME_CELL):
        return None
    delta = first.frac_coords - other.frac_coords
    return float(np.linalg.norm((delta - np.rint(delta)) @ first.lattice.matrix, axis=1).max(initial=0.0))


def _sane(structure: Structure, start: Structure) -> bool:
    """Return whether a relaxation can go on from positions: same atoms, same cell, no two atoms in the same place."""
    if structure.species != start.species or not np.allclose(
        structure.lattice.matrix, start.lattice.matrix, atol=_SAME_CELL
    ):
        return False
    return bool(np.isfinite(structure.frac_coords).all() and _shortest(structure) > _CLOSEST * _shortest(start))


def _shortest(structure: Structure) -> float:
    distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
    return float(distances.min())
