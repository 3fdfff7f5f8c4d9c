"""Crystals in files: read, and written again in the format they came in, with the same atoms in the same order.

CIF is read by gemmi, extended XYZ by ASE; of a POSCAR only the coordinates are exchanged in its text, so that comment,
selective dynamics and velocities stay as they are, and of pymatgen's JSON only the coordinates in its dicts.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core import Element, Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.hosts.atoms import atomic_number, check_distances, decode, numbers_of, plain, structure_of
from definet_flows.hosts.cif import read_cif
from definet_flows.hosts.poscar import moved_text, read_poscar
from definet_flows.hosts.sane import check_cell
from definet_flows.hosts.xyz import read_frames
from definet_flows.schemas import FloatArray
from definet_flows.schemas.configuration import MOST_CHARGED
from definet_flows.structures.crystal import Crystal, Held, held_by
from definet_flows.structures.labels import charge_of, drop_labels, drop_results

Moved = Sequence[FloatArray | None]
"""New fractional coordinates of each crystal, [n, 3]; None leaves a crystal as it is."""
Notes = Sequence[Mapping[str, Any]]
"""Properties of each crystal."""

_FORMATS = "CIF (.cif), POSCAR or CONTCAR (also .vasp), extended XYZ (.xyz, .extxyz), pymatgen JSON (.json)"
_WHOLE = 1e-3  # elementary charges


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
    """Read the crystals of a file; its name gives the format.

    Parameters
    ----------
    path
        The file; it is not opened.
    data
        Its content.

    Raises
    ------
    InputError
        An unknown format, a file that does not follow its format, disorder, no atoms, or numbers that are not finite.
    """
    reader = _reader(path)
    try:
        file = reader(decode(data))
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
    """Whether a file's name is that of a known format."""
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
        raise InputError(f"its name is that of no known format: {_FORMATS}")
    return kind


def _check(crystal: Crystal) -> None:
    if len(crystal.numbers) == 0:
        raise InputError("holds no atoms")
    if not crystal.numbers.all():
        atomic_number("X")
    check_cell(crystal.lattice, crystal.frac)
    if not abs(crystal.charge) <= MOST_CHARGED:
        raise InputError(f"states a charge of {crystal.charge:g} e: at most {MOST_CHARGED} are taken")
    check_distances(structure_of(crystal.lattice, crystal.numbers, crystal.frac))


# ------------------------------------------------------------------ CIF


def parse_cif(text: str) -> Crystal:
    """Return the only crystal of a CIF file, symmetry written out.

    Raises
    ------
    ValueError, RuntimeError
        By gemmi, if the text is no CIF.
    InputError
        If it is disordered.
    """
    cif = read_cif(text)
    return Crystal(cif.lattice, cif.numbers, cif.frac)


class CifFile(CrystalFile):
    """A CIF file of one crystal; written in P 1 where it moved, else as it came."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.crystals = (parse_cif(text),)

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return the crystal in P 1 with new coordinates."""
        del notes
        (crystal,), (new,) = self.crystals, moved
        if new is None:
            return self._text
        cell = Lattice(crystal.lattice).parameters
        keys = [*(f"_cell_length_{x}" for x in "abc"), *(f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma"))]
        lines = ["data_predicted", "_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 1"]
        lines += [f"{key} {value:.12g}" for key, value in zip(keys, cell, strict=True)]
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_"]
        lines += [f"_atom_site_{c}" for c in ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")]
        symbols = {z: Element.from_Z(z).symbol for z in set(crystal.numbers.tolist())}
        rows = zip(crystal.numbers.tolist(), new.tolist(), strict=True)
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
        poscar = self._poscar = read_poscar(text)
        held = None if poscar.fixed is None else held_by(poscar.fixed)
        self.crystals = (Crystal(poscar.lattice, poscar.numbers, poscar.frac, held=held),)

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return the text with other coordinates."""
        del notes
        (new,) = moved
        return "\n".join(self._poscar.lines) if new is None else moved_text(self._poscar, new)


# ------------------------------------------------------------------ extended XYZ


class ExtxyzFile(CrystalFile):
    """Frames of extended XYZ; energies and forces of the old positions are dropped."""

    def __init__(self, text: str) -> None:
        self._atoms = read_frames(text)
        self.crystals = tuple(_from_atoms(atoms) for atoms in self._atoms)

    def frames(self, moved: Moved, notes: Notes) -> list[Atoms]:
        """Return the frames with what else they hold; those that moved without what was computed before."""
        frames = []
        for atoms, crystal, new, note in zip(self._atoms, self.crystals, moved, notes, strict=True):
            frame = atoms.copy()  # type: ignore[no-untyped-call]
            if new is not None:
                drop_labels(frame)
            frames.append(_annotated(frame, crystal.frac if new is None else new, note))
        return frames

    def text(self, moved: Moved, notes: Notes) -> str:
        """Return all frames."""
        return extxyz_text(self.frames(moved, notes))


def _from_atoms(atoms: Atoms, charge: float | None = None) -> Crystal:
    return Crystal(
        np.array(atoms.cell),
        np.array(atoms.numbers, dtype=np.int64),
        atoms.cell.scaled_positions(atoms.positions) if atoms.cell.rank == 3 else atoms.positions,  # noqa: PLR2004
        charge_of(atoms.info) if charge is None else charge,
        *_constraints(atoms),
    )


def _constraints(atoms: Atoms) -> tuple[Held | None, str]:
    """Return what ASE's constraints hold, and a note on those that are not followed."""
    from ase.constraints import FixAtoms, FixCartesian  # noqa: PLC0415 - half a second to import

    mask = np.zeros((len(atoms), 3), dtype=bool)
    others = []
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            mask[constraint.index] = True
        elif isinstance(constraint, FixCartesian):
            mask[constraint.index] |= np.asarray(constraint.mask, dtype=bool)
        else:
            others.append(type(constraint).__name__)
    note = f"constraints not followed: {', '.join(others)}" if others else ""
    return held_by(mask, cartesian=True), note


def extxyz_text(frames: Sequence[Atoms]) -> str:
    """Return frames as extended XYZ."""
    import ase.io  # noqa: PLC0415 - half a second to import

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
        self._content = json.loads(plain(text))
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
            drop_results(item["properties"], note)
            for site in item["sites"]:
                drop_results(site.get("properties") or {})
            for site, abc, xyz in zip(item["sites"], new.tolist(), (new @ crystal.lattice).tolist(), strict=True):
                site.update(abc=abc, xyz=xyz)
        return json.dumps(content)


def _from_dict(item: dict[str, Any]) -> Crystal:
    return _from_structure(
        Structure.from_dict({**item, "charge": None}), item.get("charge"), item.get("properties") or {}
    )


def _from_structure(structure: Structure, stated: object, properties: Mapping[str, Any]) -> Crystal:
    """Return a Structure without a charge of its own as a crystal, with the charge that its document states.

    pymatgen writes the sum of oxidation states as the charge where none was set; such a sum is no charge.
    """
    numbers = numbers_of(structure)
    assumed = float(structure.charge)
    told = charge_of({"charge": stated})
    own = stated is not None and abs(told - assumed) > _WHOLE
    charge = charge_of({"charge of the structure": told, **properties} if own else properties)
    note = "" if own or not assumed else f"the sum of its oxidation states, {assumed:+g}, is not taken for its charge"
    flags = structure.site_properties.get("selective_dynamics")
    held = None if flags is None else held_by(np.array([~np.array(flag or (True,) * 3, dtype=bool) for flag in flags]))
    return Crystal(structure.lattice.matrix, numbers, structure.frac_coords, charge, held, note)


# ------------------------------------------------------------------ in memory


def crystal_of(item: Structure | Atoms, charge: float | None = None) -> Crystal:
    """Return a structure in memory as a crystal, by the rules for files of pymatgen's JSON and extended XYZ.

    Parameters
    ----------
    charge
        Net charge, elementary charges; None: what the structure tells.

    Raises
    ------
    InputError
        As `read_crystals`.
    """
    crystal = _from_atoms(item, charge) if isinstance(item, Atoms) else _in_memory(item, charge)
    _check(crystal)
    return crystal


def _in_memory(structure: Structure, charge: float | None) -> Crystal:
    bare = Structure.from_sites(structure.sites)
    if charge is not None:
        return replace(_from_structure(bare, None, {}), charge=charge, note="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen says where the charge is not the sum of oxidation states
        return _from_structure(bare, structure.charge, structure.properties)
