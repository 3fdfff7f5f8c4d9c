"""Relaxations that others publish as extended XYZ: frames of unrelaxed positions with an array of relaxed positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from definet_flows.errors import InputError
from definet_flows.hosts.atoms import decode
from definet_flows.hosts.xyz import read_frames
from definet_flows.schemas import FloatArray, Ledger
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.crystals import crystal_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ase import Atoms

RELAXED = "relaxed_positions"
"""Array with the ends of a relaxation, Å, in the order of the atoms."""

_NAMES = ("name", "defect")  # entries of `info` that name a frame
_ENERGIES = ("relaxed_energy", "energy")
_DIGITS = 9  # of a number of atoms
_MOST_STEPS = 10**9


@dataclass(frozen=True, eq=False)
class RelaxedFrame:
    """A finished relaxation as a file has it.

    Attributes
    ----------
    label
        File, number of the frame from 0, and its own name if it has one.
    crystal
        The unrelaxed structure.
    moved
        Relaxed minus unrelaxed positions by the nearest image, fractional, [n_atoms, 3].
    functional
        By what method it was relaxed, in the file's own words.
    ledger
        Steps, energy (eV) and convergence as the file tells them; notes say what it does not tell.
    host, split
        What the file calls the host, and the part of the data that it puts the frame in; empty where it does not tell.
    """

    label: str
    crystal: Crystal
    moved: FloatArray
    functional: str
    ledger: Ledger
    host: str = ""
    split: str = ""


@dataclass
class RelaxedFrames:
    """The frames of a file, and why others are left out."""

    found: list[RelaxedFrame] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def read_relaxed_frames(path: Path) -> RelaxedFrames:
    """Read the relaxations in a file; a frame that cannot be used costs the others nothing.

    Raises
    ------
    InputError
        If the file cannot be read, or begins with no frame.
    """
    try:
        texts, rest = _split(decode(path.read_bytes()))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not texts:
        raise InputError(f"{path} holds no frame of extended XYZ: {rest or 'it is empty'}")
    frames = RelaxedFrames()
    for k, text in enumerate(texts):
        label = f"{path.absolute()} frame {k}"
        try:
            atoms = _atoms(text)
            name = next((str(atoms.info[key]) for key in _NAMES if key in atoms.info), "")
            label = f"{label} ({name})" if name else label
            frames.found.append(_frame(label, atoms))
        except InputError as error:
            frames.left_out[label] = str(error)
    if rest:
        frames.left_out[f"{path.absolute()} after frame {len(texts) - 1}"] = rest
    return frames


def _split(text: str) -> tuple[list[str], str]:
    """Return the text of each frame, and why what follows is no frame: one damaged frame shall not cost the others."""
    lines = text.replace("\r\n", "\n").split("\n")
    frames: list[str] = []
    k = 0
    while k < len(lines):
        count = lines[k].strip().removeprefix("\ufeff")
        if count and not (count.isdecimal() and len(count) <= _DIGITS):
            return frames, f"line {k + 1}, {count[:40]!r}, is no number of atoms: what follows is not read"
        if count:
            frames.append("\n".join([count, *lines[k + 1 : k + 2 + int(count)], ""]))
        k += 2 + int(count) if count else 1
    return frames, ""


def _atoms(text: str) -> Atoms:
    try:
        (atoms,) = read_frames(text)
    except InputError:
        raise
    except Exception as error:  # ASE raises whatever it stumbles over
        raise InputError(f"cannot be read ({' '.join(str(error).split())[:120] or type(error).__name__})") from error
    return atoms


def _frame(label: str, atoms: Atoms) -> RelaxedFrame:
    functional = " ".join(str(atoms.info.get("functional", "")).split())
    if not functional:
        msg = "states no functional: add functional=..., so that relaxations by different methods are never mixed"
        raise InputError(msg)
    named = {key: str(atoms.info.get(key, "")) for key in ("host", "split")}
    return RelaxedFrame(label, crystal_of(atoms), _moved(atoms), functional, _ledger(atoms), **named)


def _moved(atoms: Atoms) -> FloatArray:
    """Return relaxed minus unrelaxed positions, fractional, [n, 3]."""
    relaxed = atoms.arrays.get(RELAXED)
    if relaxed is None:
        raise InputError(f"has no array {RELAXED}: add where the atoms ended, Å, as {RELAXED}:R:3 in Properties")
    if relaxed.shape != atoms.positions.shape or relaxed.dtype.kind not in "fi":
        raise InputError(f"{RELAXED} is no table of three numbers for each atom: write it as {RELAXED}:R:3")
    end = atoms.copy()  # type: ignore[no-untyped-call]
    end.positions = relaxed
    try:
        crystal_of(end, charge=0.0)
    except InputError as error:
        raise InputError(f"{RELAXED}: {error}") from None
    moved = (relaxed - atoms.positions) @ np.linalg.inv(np.array(atoms.cell))
    return np.asarray(moved - np.rint(moved))


# ------------------------------------------------------------------ what the file tells


def _ledger(atoms: Atoms) -> Ledger:
    """Return what a frame tells of its relaxation; what it does not tell is None, never zero."""
    told: dict[str, Any] = {**(atoms.calc.results if atoms.calc is not None else {}), **atoms.info}
    steps, converged = _steps(told), told.get("converged")
    if converged is not None and not isinstance(converged, bool | np.bool_):
        raise InputError(f"converged={str(converged)[:40]} is neither T nor F")
    key = next((key for key in _ENERGIES if told.get(key) is not None), None)
    notes = [
        "ionic steps unknown: the file does not tell them"
        if steps is None
        else "ionic steps as the file tells them, a last single point perhaps among them",
        "convergence unknown: the file tells none and calls the positions relaxed"
        if converged is None
        else "convergence as the file tells it",
        *(["energy: that of the frame, taken for the energy of the end"] if key == _ENERGIES[-1] else []),
    ]
    return Ledger(
        ionic_steps=steps,
        converged=converged is None or bool(converged),
        force_criterion=None,
        energy=None if key is None else _number(told, key),
        notes=tuple(notes),
    )


def _steps(told: Mapping[str, Any]) -> int | None:
    if told.get("ionic_steps") is None:
        return None
    steps = _number(told, "ionic_steps")
    if not (1 <= steps <= _MOST_STEPS and steps == int(steps)):
        msg = f"ionic_steps={steps:g} is no number of force evaluations: give a whole number above zero, or none"
        raise InputError(msg)
    return int(steps)


def _number(told: Mapping[str, Any], key: str) -> float:
    value = told[key]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number) or isinstance(value, bool | np.bool_):
        raise InputError(f"{key}={str(value)[:40]} is no number: mend it, or leave it out")
    return number
