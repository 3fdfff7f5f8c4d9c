"""Covalent radii, Å: Cordero's (doi:10.1039/b801115j), of graphitic carbon, and of Mn, Fe and Co in high spin.

They are the radii of pymatgen's `CovalentRadius`, whose module loads most of scipy.
"""

from __future__ import annotations

from ase.data import covalent_radii

_OTHERS = {6: 0.73, 25: 1.50, 26: 1.42, 27: 1.38}  # ASE has diamond's carbon, and low spin
_LAST = 96  # Cordero's last element


def covalent_radius(number: int) -> float:
    """Return the covalent radius of an element by its atomic number, Å; elements beyond curium get curium's."""
    number = min(number, _LAST)
    return float(_OTHERS.get(number, covalent_radii[number]))
