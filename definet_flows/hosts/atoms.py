"""Checks of every structure, whatever file it comes from: elements, one atom at a place; and a file's text."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Structure

from definet_flows.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.schemas import FloatArray

CLOSEST = 0.5
"""Å; two atoms nearer than this are the same atom written twice."""

_ISOTOPES = {"D": "deuterium", "T": "tritium"}
_LISTED = 3  # pairs of atoms that a message names


def decode(data: bytes) -> str:
    """Return a file's text; bytes that are not UTF-8 (a name in a comment) survive a writing with "surrogateescape".

    UTF-16 is read where its byte order mark is followed by text of two bytes for a letter.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in data:
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "surrogateescape")


def plain(text: str) -> str:
    """Return text without byte order mark, what is not UTF-8 replaced; for parsers that take nothing else."""
    return text.removeprefix("\ufeff").encode("utf-8", "replace").decode("utf-8")


def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element's symbol.

    Raises
    ------
    InputError
        An isotope, which would become hydrogen in silence, or no element (a dummy atom `X`, a vacancy `Vac`).
    """
    if symbol in _ISOTOPES:
        msg = f"{symbol} ({_ISOTOPES[symbol]}) is an isotope, which is not distinguished from hydrogen here: write H"
        raise InputError(msg)
    if not Element.is_valid_symbol(symbol):
        msg = f"{symbol!r} is no element: take dummy atoms and vacancies out, correct the symbol"
        raise InputError(msg)
    return int(Element(symbol).Z)


def numbers_of(structure: Structure) -> npt.NDArray[np.int64]:
    """Return the atomic numbers of an ordered structure, [n].

    Raises
    ------
    InputError
        Disorder, an isotope, or a dummy atom.
    """
    for site in structure:
        if not site.is_ordered:
            msg = f"is disordered at site {site.species_string}; order it first (pymatgen: enumlib, SQS)"
            raise InputError(msg)
    symbols = (getattr(getattr(specie, "element", specie), "value", specie.symbol) for specie in structure.species)
    return np.array([atomic_number(symbol) for symbol in symbols], dtype=np.int64)


def check_distances(structure: Structure) -> None:
    """Refuse a structure in which two atoms are at one place, or an atom nowhere.

    Raises
    ------
    InputError
        Naming the atoms, counted from 1.
    """
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        msg = "has a coordinate that is not a finite number"
        raise InputError(msg)
    centers, points, _, lengths = structure.get_neighbor_list(CLOSEST)
    near = sorted({(int(i), int(j)) for i, j in zip(centers, points, strict=True) if i <= j})
    if not near:
        return
    names = [
        f"{structure[i].specie.symbol} {i + 1} and {structure[j].specie.symbol} {j + 1}" for i, j in near[:_LISTED]
    ]
    more = f" and {len(near) - _LISTED} more pairs" if len(near) > _LISTED else ""
    msg = (
        f"has two atoms closer than {CLOSEST} Å ({', '.join(names)}{more}, {min(lengths):.3f} Å); remove the duplicate"
    )
    raise InputError(msg)


def structure_of(lattice: FloatArray, numbers: npt.NDArray[np.int64], frac: FloatArray) -> Structure:
    """Return a Structure of arrays as they are, in the same image."""
    return Structure(lattice, numbers.tolist(), frac)
