"""Crystals in files: read, and written again in the format they came in, with the same atoms in the same order.

CIF is read by gemmi, extended XYZ by ASE; of a POSCAR only the coordinates are exchanged in its text, so that comment,
selective dynamics and velocities stay as they are, and of pymatgen's JSON only the coordinates in its dicts.
"""

from __future__ import annotations

import copy
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import gemmi
import numpy as np
import numpy.typing as npt
from ase import Atoms
from pymatgen.core import Element, Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.schemas import FloatArray

IntArray = npt.NDArray[np.int64]
Moved = Sequence[FloatArray | None]
"""New fractional coordinates of each crystal, [n, 3]; None leaves a crystal as it is."""
Notes = Sequence[Mapping[str, Any]]
"""Properties of each crystal."""

_FORMATS = "CIF (.cif), POSCAR or CONTCAR (also .vasp), extended XYZ (.xyz, .extxyz), pymatgen JSON (.json)"
_FLAT = 1e-3  # Å³; a cell of less volume is none


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
    """

    lattice: FloatArray
    numbers: IntArray
    frac: FloatArray
    charge: float = 0.0

    def structure(self) -> Structure:
        """Return it as pymatgen's Structure, in the same image."""
        charge = self.charge or None
        return Structure(self.lattice, self.numbers.tolist(), self.frac, charge=charge)


class CrystalFile(ABC):
    """The crystals of one file, and what is needed to write it again."""

    crystals: tuple[Crystal, ...]

    @abstractmethod
    def text(self, moved: Moved, notes: Notes) -> str:
        """Return the file's text with new coordinates; formats that have room for them take the notes in."""

    def frames(self, moved: Moved, notes: Notes) -> list[Atoms]:
        """Return the crystals with new coordinates as ASE's Atoms, the notes in `info`."""
        return [
            _annotated(Atoms(numbers=c.numbers, cell=c.lattice, pbc=True), c.frac if new is None else new, note)
            for c, new, note in zip(self.crystals, moved, notes, strict=True)
        ]


def read_crystals(path: Path, data: bytes) -> CrystalFile:
    """Read the crystals of a file; the format is told by its name.

    Parameters
    ----------
    path
        The file; it is not opened.
    data
        Its content.

    Raises
    ------
    InputError
        An unknown format, a file that is none of its format, disorder, no atoms, or numbers that are not finite.
    """
    reader = _reader(path)
    try:
        file = reader(data.decode())
    except InputError:
        raise
    except Exception as error:  # parsers raise whatever they stumble over
        raise InputError(f"cannot be read ({' '.join(str(error).split())[:120] or type(error).__name__})") from error
    if not file.crystals:
        raise InputError("holds no structure")
    for crystal in file.crystals:
        _check(crystal)
    return file


def is_known(path: Path) -> bool:
    """Whether a file's name tells one of the formats."""
    return _kind(path) is not None


def _kind(path: Path) -> Callable[[str], CrystalFile] | None:
    if path.name.startswith(("POSCAR", "CONTCAR")):
        return PoscarFile
    kinds: dict[str, Callable[[str], CrystalFile]] = {
        ".cif": CifFile, ".vasp": PoscarFile, ".poscar": PoscarFile, ".xyz": ExtxyzFile, ".extxyz": ExtxyzFile,
        ".json": JsonFile,
    }  # fmt: skip
    return kinds.get(path.suffix.lower())


def _reader(path: Path) -> Callable[[str], CrystalFile]:
    kind = _kind(path)
    if kind is None:
        raise InputError(f"its name tells no known format: {_FORMATS}")
    return kind


def _check(crystal: Crystal) -> None:
    if len(crystal.numbers) == 0:
        raise InputError("holds no atoms")
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac).all()):
        raise InputError("a coordinate is not a finite number")
    if abs(np.linalg.det(crystal.lattice)) < _FLAT:
        raise InputError("has no cell: three lattice vectors are needed")


# ------------------------------------------------------------------ CIF


def parse_cif(text: str) -> Crystal:
    """Return the one crystal of a CIF file, symmetry written out.

    Raises
    ------
    ValueError, RuntimeError
        By gemmi, if it is none.
    InputError
        If it is disordered.
    """
    block = gemmi.cif.read_string(text).sole_block()
    small = gemmi.make_small_structure_from_block(block)
    sites = small.sites
    symmetric = any(len(list(block.find_values(tag))) > 1 for tag in _SYMMETRY) or small.spacegroup_number > 1
    if symmetric:
        small.determine_and_set_spacegroup("s.h2")
        sites = small.get_all_unit_cell_sites()
    partly = next((site for site in sites if abs(site.occ - 1) > 1e-3), None)  # noqa: PLR2004 - rounding
    if partly is not None:
        raise InputError(f"site {partly.label} is occupied by {partly.occ:g}: a structure has one element on each site")
    numbers = np.array([Element(site.element.name).Z for site in sites], dtype=np.int64)
    frac = np.array([site.fract.tolist() for site in sites]).reshape(-1, 3)
    return Crystal(np.array(small.cell.orth.mat.tolist()).T, numbers, frac)


_SYMMETRY = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")


class CifFile(CrystalFile):
    """A CIF file of one crystal; written in P 1."""

    def __init__(self, text: str) -> None:
        self.crystals = (parse_cif(text),)

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return the crystal in P 1."""
        del notes
        (crystal,), (new,) = self.crystals, moved
        cell = Lattice(crystal.lattice).parameters
        keys = [*(f"_cell_length_{x}" for x in "abc"), *(f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma"))]
        lines = ["data_predicted", "_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 1"]
        lines += [f"{key} {value:.12g}" for key, value in zip(keys, cell, strict=True)]
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_"]
        lines += [f"_atom_site_{c}" for c in ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")]
        symbols = {z: Element.from_Z(z).symbol for z in set(crystal.numbers.tolist())}
        rows = zip(crystal.numbers.tolist(), (crystal.frac if new is None else new).tolist(), strict=True)
        lines += [
            f"{symbols[z]} {symbols[z]}{k} {x:.10f} {y:.10f} {w:.10f} 1" for k, (z, (x, y, w)) in enumerate(rows, 1)
        ]
        return "\n".join([*lines, ""])


# ------------------------------------------------------------------ POSCAR


class PoscarFile(CrystalFile):
    """A POSCAR; everything but the coordinates stays as it is, byte by byte.

    Left-handed lattice vectors, which VASP refuses, are reversed where coordinates are exchanged: no atom moves by it.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        lines = self._lines
        self._rows = np.array([[float(x) for x in line.split()[:3]] for line in lines[2:5]])
        symbols = [re.match(r"[A-Z][a-z]?", word) for word in lines[5].split()]
        if not symbols or None in symbols:
            raise InputError("has no line of element symbols before the numbers of atoms (VASP 4): add it")
        counts = [int(word) for word in lines[6].split()[: len(symbols)]]
        numbers = [Element(m[0]).Z for m in symbols if m]
        self._first = 8 + (lines[7].strip()[:1] in {"S", "s"})
        self._cartesian = lines[self._first - 1].strip()[:1] in set("CcKk")
        coordinates = lines[self._first : self._first + sum(counts)]
        values = np.array([[float(x) for x in line.split()[:3]] for line in coordinates]).reshape(-1, 3)
        if len(values) < sum(counts):
            raise InputError(f"lists {len(values)} of {sum(counts)} atoms")
        frac = values @ np.linalg.inv(self._rows) if self._cartesian else values
        lattice = self._rows * _scale(lines[1], self._rows)
        self.crystals = (Crystal(lattice, np.repeat(numbers, counts).astype(np.int64), frac),)

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return the text with other coordinates."""
        del notes
        (new,) = moved
        if new is None:
            return "\n".join(self._lines)
        lines = list(self._lines)
        sign = float(np.sign(np.linalg.det(self.crystals[0].lattice)))
        if sign < 0:
            lines[2:5] = ["".join(f"{x:22.16f}" for x in row) for row in (-self._rows).tolist()]
        values = new @ self._rows if self._cartesian else sign * new
        for k, row in enumerate(values.tolist(), self._first):
            tail = re.sub(r"^\s*\S+\s+\S+\s+\S+", "", lines[k])
            lines[k] = "".join(f"{x:20.14f}" for x in row) + tail
        return "\n".join(lines)


def _scale(line: str, rows: FloatArray) -> FloatArray:
    """Return the factors of the lattice vectors' components; one negative number is the volume in Å³."""
    words = line.split()
    given = np.array([float(x) for x in (words[:3] if len(words) >= 3 and _is_number(words[2]) else words[:1])])  # noqa: PLR2004
    if len(given) == 1 and given[0] < 0:
        given = np.cbrt(-given / abs(np.linalg.det(rows)))
    return given


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------ extended XYZ


class ExtxyzFile(CrystalFile):
    """Frames of extended XYZ; energies and forces of the old positions are dropped."""

    def __init__(self, text: str) -> None:
        self._atoms = ase.io.read(io.StringIO(text), index=":", format="extxyz")
        self.crystals = tuple(
            Crystal(
                np.array(atoms.cell),
                np.array(atoms.numbers, dtype=np.int64),
                atoms.cell.scaled_positions(atoms.positions) if atoms.cell.rank == 3 else atoms.positions,  # noqa: PLR2004
                float(atoms.info.get("charge", 0)),
            )
            for atoms in self._atoms
        )

    def frames(self, moved: Moved, notes: Notes) -> list[Atoms]:
        """Return the frames with what else they hold."""
        fracs = (c.frac if new is None else new for c, new in zip(self.crystals, moved, strict=True))
        return [_annotated(a.copy(), f, note) for a, f, note in zip(self._atoms, fracs, notes, strict=True)]

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return all frames."""
        return extxyz_text(self.frames(moved, notes))


def extxyz_text(frames: Sequence[Atoms]) -> str:
    """Return frames as extended XYZ."""
    buffer = io.StringIO()
    ase.io.write(buffer, list(frames), format="extxyz", write_results=False)
    return buffer.getvalue()


def _annotated(atoms: Atoms, frac: FloatArray, note: Mapping[str, Any]) -> Atoms:
    atoms.positions = frac @ np.array(atoms.cell)
    atoms.info.update(
        {key: value for key, value in note.items() if value not in {None, ""}}
    )  # ASE writes "" unreadably
    return atoms


# ------------------------------------------------------------------ pymatgen JSON


class JsonFile(CrystalFile):
    """A Structure as pymatgen writes it, or a list of them."""

    def __init__(self, text: str) -> None:
        self._content = json.loads(text)
        self.crystals = tuple(_from_dict(item) for item in self._items(self._content))

    @staticmethod
    def _items(content: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
        items = content if isinstance(content, list) else [content]
        if not all(isinstance(item, dict) and "lattice" in item and "sites" in item for item in items):
            raise InputError("is no pymatgen Structure, nor a list of them")
        return items

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return the same JSON with other coordinates and the notes among the structures' properties."""
        content = copy.deepcopy(self._content)
        for item, crystal, new, note in zip(self._items(content), self.crystals, moved, notes, strict=True):
            item["properties"] = {**(item.get("properties") or {}), **note}
            if new is None:
                continue
            for site, abc, xyz in zip(item["sites"], new.tolist(), (new @ crystal.lattice).tolist(), strict=True):
                site.update(abc=abc, xyz=xyz)
        return json.dumps(content)


def _from_dict(item: dict[str, Any]) -> Crystal:
    structure = Structure.from_dict(item)
    if not structure.is_ordered:
        raise InputError("is disordered: a structure has one element on each site")
    numbers = np.array(structure.atomic_numbers, dtype=np.int64)
    return Crystal(structure.lattice.matrix, numbers, structure.frac_coords, float(item.get("charge") or 0))
