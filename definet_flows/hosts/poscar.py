"""POSCAR: lattice, elements, coordinates and what may move, with the lines they stand on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from definet_flows.errors import InputError
from definet_flows.hosts.atoms import atomic_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from definet_flows.schemas import FloatArray

_HEAD = 8  # lines before the coordinates, without "Selective dynamics"
_VASP4 = "has no line of element symbols before the numbers of atoms (VASP 4): add it, such as 'Mo S'"
_SYMBOL = re.compile(r"([A-Z][a-z]?)(?:[_/].*)?")  # Mo, Mo_pv, Ga_d, Mo/0b3c...: a POTCAR's name begins with the symbol
_THREE = 3
_MOST = 1_000_000  # atoms


@dataclass(frozen=True, eq=False)
class PoscarText:
    """A POSCAR, read.

    Attributes
    ----------
    lines
        Its lines.
    first
        Index of the first line of coordinates.
    rows
        Lattice vectors as they are written, without the scale, [3, 3].
    cartesian
        Whether coordinates are Cartesian.
    lattice
        Rows, Å, [3, 3].
    numbers
        Atomic numbers, [n].
    frac
        Fractional coordinates, [n, 3].
    fixed
        Which fractional coordinates selective dynamics holds, [n, 3]; None without it.
    """

    lines: tuple[str, ...]
    first: int
    rows: FloatArray
    cartesian: bool
    lattice: FloatArray
    numbers: npt.NDArray[np.int64]
    frac: FloatArray
    fixed: npt.NDArray[np.bool_] | None


def read_poscar(text: str) -> PoscarText:
    """Return what a POSCAR of VASP 5 or later holds; a note behind ! or # on a line of the head is passed over.

    Raises
    ------
    InputError
        No line of element symbols, an unknown symbol, a malformed number or line, or atoms that are missing.
    """
    lines = tuple(text.split("\n"))
    if len(lines) < _HEAD:
        msg = f"cannot be read (it has {len(lines)} lines, a POSCAR has at least {_HEAD})"
        raise InputError(msg)
    rows = np.array([_numbers(line, "a lattice vector") for line in lines[2:5]])
    lattice = rows * _scale(lines[1], rows)
    numbers = _species(lines[5], lines[6])
    selective = lines[7].strip()[:1] in {"S", "s"}
    first = _HEAD + selective
    cartesian = lines[first - 1].strip()[:1] in set("CcKk") if len(lines) >= first else False
    listed = [line for line in lines[first : first + len(numbers)] if line.strip()]
    if len(listed) < len(numbers):
        msg = f"lists {len(listed)} of {len(numbers)} atoms"
        raise InputError(msg)
    values = np.array([_numbers(line, "an atom's coordinates") for line in listed]).reshape(-1, 3)
    frac = values @ np.linalg.inv(rows) if cartesian else values
    fixed = np.array([_flags(line) for line in listed]).reshape(-1, 3) if selective else None
    return PoscarText(lines, first, rows, cartesian, lattice, numbers, frac, fixed)


def _words(line: str) -> list[str]:
    return re.split(r"[!#]", line, maxsplit=1)[0].split()


def _numbers(line: str, what: str) -> list[float]:
    try:
        x, y, z = (float(word) for word in line.split()[:3])
    except ValueError:
        msg = f"{' '.join(line.split())[:60]!r} is not {what}: three numbers are needed"
        raise InputError(msg) from None
    return [x, y, z]


def _species(symbols: str, counts: str) -> npt.NDArray[np.int64]:
    """Return the atomic numbers of the atoms in order."""
    names = _words(symbols)
    if not names or all(_is_number(name) for name in names):
        raise InputError(_VASP4)
    matches = [_SYMBOL.fullmatch(name) for name in names]
    elements = [atomic_number(m[1] if m else name) for m, name in zip(matches, names, strict=True)]
    words = _words(counts)
    if len(words) != len(elements) or not all(word.isdecimal() for word in words):
        shown = " ".join(counts.split())[:60]
        msg = f"{shown!r} is not a number of atoms for each of {' '.join(names)}: give {len(names)} whole numbers"
        raise InputError(msg)
    if sum(map(int, words)) > _MOST:
        msg = f"states {sum(map(int, words)):.3g} atoms: no more than {_MOST:,} are read"
        raise InputError(msg)
    return np.repeat(np.array(elements, dtype=np.int64), [int(word) for word in words])


def _flags(line: str) -> list[bool]:
    """Return which coordinates an atom's line holds fixed."""
    words = [word.strip(".")[:1].upper() for word in line.split()[3:6]]
    if len(words) < _THREE or not set(words) <= {"T", "F"}:
        msg = f"{' '.join(line.split())[:60]!r} has no three flags T or F, which selective dynamics needs"
        raise InputError(msg)
    return [word == "F" for word in words]


def _scale(line: str, rows: FloatArray) -> FloatArray:
    """Return the factors of the lattice vectors' Cartesian components; a negative number alone is the volume in Å³."""
    words = _words(line)
    many = len(words) >= _THREE and _is_number(words[2])
    given = np.array([_number(word) for word in (words[:3] if many else words[:1])])
    if len(given) == 1 and given[0] < 0:
        volume = abs(np.linalg.det(rows))
        given = np.cbrt(-given / volume) if volume else given
    if len(given) == 0 or not (given > 0).all():
        msg = f"{' '.join(line.split())[:60]!r} is no scale: give a positive number, three, or minus the volume in Å³"
        raise InputError(msg)
    return np.asarray(given)


def _number(word: str) -> float:
    return float(word) if _is_number(word) else float("nan")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def moved_text(poscar: PoscarText, frac: FloatArray) -> str:
    """Return the text with other fractional coordinates, [n, 3]; all else as it was.

    Left-handed lattice vectors, which VASP refuses, are reversed: no atom moves by it.
    """
    lines = list(poscar.lines)
    sign = float(np.sign(np.linalg.det(poscar.lattice)))
    if sign < 0:
        lines[2:5] = ["".join(f"{x:22.16f}" for x in row) for row in (-poscar.rows).tolist()]
    values: Sequence[Sequence[float]] = (frac @ poscar.rows if poscar.cartesian else sign * frac).tolist()
    for k, row in enumerate(values, poscar.first):
        tail = re.sub(r"^\s*\S+\s+\S+\s+\S+", "", lines[k])
        lines[k] = "".join(f"{x:20.14f}" for x in row) + tail
    return "\n".join(lines)
