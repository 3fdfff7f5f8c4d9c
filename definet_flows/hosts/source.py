"""Reading a host: a Structure, a file, or a shipped monolayer."""

from __future__ import annotations

import json
import re
import warnings
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from ase import Atoms
from monty.io import zopen
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.hosts.atoms import (
    atomic_number,
    check_distances,
    decode,
    numbers_of,
    plain,
    structure_of,
)
from definet_flows.hosts.cif import read_cif
from definet_flows.hosts.poscar import read_poscar
from definet_flows.hosts.sane import check_cell, check_file
from definet_flows.hosts.xyz import read_frames

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

_SAME = 0.02  # Å, degrees; pymatgen rounds 0.3333 to 1/3


def shipped_hosts() -> tuple[str, ...]:
    """Names of the hosts that come with the package."""
    folder = files("definet_flows.hosts") / "shipped"
    return tuple(sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".cif")))


def load_structure(host: Structure | Atoms | str | Path) -> Structure:
    """Return an ordered structure; `properties` keeps "source" and, where known, "functional".

    Parameters
    ----------
    host
        A Structure, ASE's Atoms, a path to a file (CIF, POSCAR, extended XYZ, or any that pymatgen reads), or the
        name of a shipped host such as "MoS2".

    Raises
    ------
    InputError
        If the file is absent or unreadable, holds several structures, or the structure is disordered or charged, has
        overlapping atoms, or atoms that are no elements.
    """
    if isinstance(host, Structure):
        structure = host.copy()
        structure.properties.setdefault("source", "Structure")
    elif isinstance(host, Atoms):
        structure = _refusing("Atoms", lambda: _from_atoms(host))
        structure.properties["source"] = "Atoms"
    elif not isinstance(host, str | Path):
        msg = f"a host is a Structure, ASE's Atoms, a path or a shipped host's name, not {type(host).__name__}"
        raise InputError(msg)
    elif str(host) in shipped_hosts():
        structure = _shipped(str(host))
    else:
        structure = _from_file(Path(host))
    source = structure.properties["source"]
    _refusing(source, lambda: _check(structure))
    structure.remove_oxidation_states()
    return structure


def _shipped(name: str) -> Structure:
    text = (files("definet_flows.hosts") / "shipped" / f"{name}.cif").read_text(encoding="utf-8")
    structure = _by_pymatgen(text)
    functional = re.search(r"^# functional: (\S+)", text, flags=re.MULTILINE)
    structure.properties = {
        "source": f"definet_flows/hosts/shipped/{name}.cif",
        "functional": functional.group(1) if functional else "",
    }
    return structure


def _from_file(path: Path) -> Structure:
    if not path.is_file():
        names = ", ".join(shipped_hosts())
        msg = f"host {str(path)!r}: no such file, nor one of the shipped hosts ({names})"
        raise InputError(msg)
    structure = _refusing(str(path), lambda: _sized(path))
    structure.properties["source"] = path.name
    return structure


def _refusing(source: str, read: Callable[[], _T]) -> _T:
    """Return what `read` returns; whatever it stumbles over is an InputError that names the host."""
    try:
        return read()
    except InputError as error:
        msg = f"host {source!r} {error}"
        raise InputError(msg) from error
    except Exception as error:  # parsers raise whatever they stumble over
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        msg = f"host {source!r} cannot be read as a structure ({reason}); give a CIF, POSCAR or other pymatgen format"
        raise InputError(msg) from error


def _sized(path: Path) -> Structure:
    check_file(path)
    return _parsed(path)


def _parsed(path: Path) -> Structure:
    name = path.name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    suffix = Path(name).suffix.lower()
    if suffix == ".cif":
        return _from_cif(_text(path))
    if "POSCAR" in name or "CONTCAR" in name or suffix in {".vasp", ".poscar"}:
        poscar = read_poscar(_text(path))
        return structure_of(poscar.lattice, poscar.numbers, poscar.frac)
    if suffix in {".xyz", ".extxyz"}:
        frames = read_frames(_text(path))
        if len(frames) != 1:
            msg = f"holds {len(frames)} structures: keep a single frame"
            raise InputError(msg)
        return _from_atoms(frames[0])
    if suffix == ".json":
        return Structure.from_dict(json.loads(plain(_text(path))))  # `from_str` would drop a charge
    return Structure.from_file(path)


def _text(path: Path) -> str:
    with zopen(path, "rb") as file:
        return decode(file.read())


def _from_atoms(atoms: Atoms) -> Structure:
    if atoms.cell.rank < 3:  # noqa: PLR2004 - three dimensions
        msg = "has no cell: three lattice vectors are needed"
        raise InputError(msg)
    if (atoms.numbers == 0).any():
        atomic_number("X")
    return structure_of(np.array(atoms.cell), atoms.numbers, atoms.cell.scaled_positions(atoms.positions))


def _from_cif(text: str) -> Structure:
    """Return the structure that `read_cif` finds; in pymatgen's order of sites where pymatgen finds the same."""
    cif = read_cif(text)
    mine = Structure(Lattice.from_parameters(*Lattice(cif.lattice).parameters), cif.numbers.tolist(), cif.frac)
    try:
        theirs = _by_pymatgen(cif.text)
    except Exception:  # noqa: BLE001 - pymatgen's parser raises whatever it stumbles over
        return mine
    return theirs if _same_sites(mine, theirs) else mine


def _same_sites(mine: Structure, other: Structure) -> bool:
    """Whether two structures have the same cell and the same atoms on the same places, in any order."""
    if len(mine) != len(other) or not np.allclose(mine.lattice.parameters, other.lattice.parameters, atol=_SAME):
        return False
    distances = mine.lattice.get_all_distances(mine.frac_coords, other.frac_coords)
    numbers = [np.array([getattr(site.specie, "Z", 0) for site in some if site.is_ordered]) for some in (mine, other)]
    if len(numbers[1]) < len(other):
        return False
    partner = distances.argmin(axis=1)
    same = numbers[0] == numbers[1][partner]
    return bool((distances.min(axis=1) < _SAME).all() and same.all() and len(set(partner.tolist())) == len(mine))


def _by_pymatgen(cif: str) -> Structure:
    with warnings.catch_warnings():
        # 0.33333 read as 1/3 is what `symmetrize` would do; that symmetry comes from a symbol is `read_cif`'s matter
        warnings.simplefilter("ignore")
        return Structure.from_str(cif, fmt="cif")


def _check(structure: Structure) -> None:
    if len(structure) == 0:
        msg = "has no atoms"
        raise InputError(msg)
    if charge := structure._charge:  # noqa: SLF001 - `charge` adds up oxidation states
        msg = f"states a charge of {charge:+g}: a host is neutral; give the charges of its defects"
        raise InputError(msg)
    check_cell(structure.lattice.matrix, structure.frac_coords)
    numbers_of(structure)
    check_distances(structure)
