"""The parts of a VASP input that depend on the structure: site order, moments, charge, dipole; no jobflow here.

Both relaxations of a pair must share every input but the positions, so all that depends on positions (the atoms
next to the defects, the slab's asymmetry) is read off the unrelaxed structure once, by `mark_defects`, and travels
with both starts.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pymatgen.core import Element, Structure
from pymatgen.io.vasp import PotcarSingle
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from definet_flows.errors import InputError
from definet_flows.hosts.layer import VACUUM_ERROR, layer_gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from definet_flows.schemas import FloatArray

SpinPreset = Literal["parity", "paper"]

HIGH_SPIN = {
    "Ce": 5.0,
    "Co": 5.0,
    "Cr": 5.0,
    "Fe": 5.0,
    "Mn": 5.0,
    "Mo": 5.0,
    "Ni": 5.0,
    "V": 5.0,
    "W": 5.0,
    "Eu": 10.0,
}
"""Starting moments of magnetic ions, μB: the Materials Project's (pymatgen's MPRelaxSet), with Co high-spin too."""
OTHER_ION = 0.6
"""Starting moment of every other ion under the preset `paper`, μB (pymatgen's default)."""

CONTINUED = "continued"
"""Property of a structure whose relaxation goes on from where it stopped: nothing is done to its positions."""

_NEAR = "near_defect"
_ASYMMETRIC = "asymmetric_slab"
_SHELL = 1.25  # times the shortest distance from the defect site: its first shell, distortions included
_MIRROR = 0.1  # Å; a slab whose faces differ by less has no dipole worth correcting


def site_order(structure: Structure) -> tuple[int, ...]:
    """Return the rows of a structure with equal species together, in order of first appearance.

    Row k of the files of VASP is row `site_order(structure)[k]` of `structure`.
    """
    symbols = [site.specie.symbol for site in structure]
    rank = {symbol: k for k, symbol in enumerate(dict.fromkeys(symbols))}
    return tuple(sorted(range(len(symbols)), key=lambda row: rank[symbols[row]]))


def net_charge(structure: Structure) -> float:
    """Return the charge that `Structure.set_charge` gave, elementary charges; 0 where none was given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a charged defect has a charge beside neutral atoms
        return float(structure.charge)


def group_species(structure: Structure) -> Structure:
    """Return the structure with its rows in `site_order`; charge and marks are kept, moments of its own dropped."""
    rows = list(site_order(structure))
    near = structure.site_properties.get(_NEAR)
    return Structure(
        structure.lattice,
        [structure[row].specie.symbol for row in rows],
        structure.frac_coords[rows],
        charge=net_charge(structure),
        site_properties={_NEAR: [near[row] for row in rows]} if near else None,
        properties=structure.properties,
    )


def mark_defects(start: Structure, unrelaxed: Structure, defects: FloatArray) -> Structure:
    """Return `start` with the marks that the input set takes from the unrelaxed structure.

    Parameters
    ----------
    start
        Where the relaxation starts.
    unrelaxed
        The unrelaxed defect cell; its rows correspond to those of `start`.
    defects
        Fractional coordinates of the defect sites, vacant ones included, [n_defects, 3].
    """
    lattice = unrelaxed.lattice
    distances = lattice.get_all_distances(np.atleast_2d(defects), unrelaxed.frac_coords)
    shortest = np.where(distances > 1.0, distances, np.inf).min(axis=1, keepdims=True)  # an atom on the site apart
    near = (distances < _SHELL * shortest).any(axis=0)
    marked = start.copy(site_properties={**start.site_properties, _NEAR: [bool(x) for x in near]})
    marked.properties = {**start.properties, _ASYMMETRIC: is_asymmetric_slab(unrelaxed)}
    return marked


def is_asymmetric_slab(structure: Structure) -> bool:
    """Say whether a cell is a slab in vacuum, along any of its axes, whose two faces differ.

    The faces are alike if some symmetry operation turns the layer over; only then is there no dipole.
    """
    if _ASYMMETRIC in structure.properties:
        return bool(structure.properties[_ASYMMETRIC])
    axis, gap, _ = layer_gap(structure)
    if gap < VACUUM_ERROR:
        return False
    operations = SpacegroupAnalyzer(structure, symprec=_MIRROR).get_symmetry_operations()
    return not any(round(float(operation.rotation_matrix[axis, axis])) == -1 for operation in operations)


def odd_electrons(symbols: Iterable[str], charge: float, potcars: Mapping[str, str]) -> bool:
    """Say whether the number of valence electrons of a cell is odd; no POTCAR file is read.

    Cores are closed shells, so atomic numbers and the charge tell it. The names of two kinds of POTCARs tell of an atom
    that is otherwise: f electrons in the core (`Er_3`: a valence of 3 beyond closed shells), a fraction of a hydrogen
    (`H.75`).

    Parameters
    ----------
    symbols
        Element of each atom.
    charge
        Net charge, elementary charges.
    potcars
        Name of the POTCAR of each element, such as {"Mo": "Mo_sv"}; of one that is not named, its symbol.
    """
    valence = sum(count * _unpaired(potcars.get(one, one), one) for one, count in Counter(symbols).items())
    return round(valence - charge) % 2 == 1


def _unpaired(potcar: str, symbol: str) -> float:
    """Return the valence electrons of an atom, but for a whole number of pairs."""
    element, (name, _, valence) = Element(symbol), potcar.partition("_")
    if fraction := re.fullmatch(r"H(\d?\.\d+)", name):
        return float(fraction[1])
    return int(valence) if element.is_lanthanoid and valence.isdecimal() else element.Z


def starting_moments(structure: Structure, preset: SpinPreset, total: float | None = None, *, odd: bool) -> list[float]:
    """Return the starting moment of each site, μB.

    Parameters
    ----------
    structure
        Marked by `mark_defects`; without marks every atom counts as next to the defect.
    preset
        `parity`: an odd number starts with 1 μB shared by the defect atoms and their first shells, an even
        number with none. `paper`: magnetic ions high-spin and ferromagnetic.
    total
        Sum of the moments instead of 1 or 0 (`parity` only), μB.
    odd
        Whether the number of electrons in the cell is odd, net charge included.
    """
    if preset == "paper":
        return [HIGH_SPIN.get(site.specie.symbol, OTHER_ION) for site in structure]
    near = np.array(structure.site_properties.get(_NEAR) or [True] * len(structure), dtype=bool)
    shared = float(odd) if total is None else total
    return [float(x) for x in near * shared / max(near.sum(), 1)]


def rattle_vectors(n_atoms: int, amplitude: float, seed: int) -> FloatArray:
    """Return displacements of length `amplitude` in random directions, Å, [n_atoms, 3].

    They depend on nothing but the arguments: numpy has frozen this generator's stream for all versions.
    """
    directions = np.random.RandomState(seed).normal(size=(n_atoms, 3))
    vectors: FloatArray = directions * amplitude / np.linalg.norm(directions, axis=1, keepdims=True)
    return vectors


def rattled(structure: Structure, amplitude: float, seed: int) -> Structure:
    """Return the structure with its atoms moved by `rattle_vectors`: both starts of a pair get the same."""
    moved = structure.copy()
    for row, vector in enumerate(rattle_vectors(len(structure), amplitude, seed)):
        moved.translate_sites([row], vector, frac_coords=False, to_unit_cell=False)
    return moved


@cache
def valence_electrons(symbol: str, functional: str) -> float:
    """Return the number of valence electrons (ZVAL) of a POTCAR.

    Raises
    ------
    InputError
        If there is no such POTCAR on this machine.
    """
    try:
        return float(PotcarSingle.from_symbol_and_functional(symbol, functional).nelectrons)
    except (ValueError, OSError) as error:
        msg = f"no POTCAR {symbol} of the set {functional}: set PMG_VASP_PSP_DIR in ~/.config/.pmgrc.yaml ({error})"
        raise InputError(msg) from None
