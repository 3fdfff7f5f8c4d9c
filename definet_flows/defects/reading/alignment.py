"""Rigid shift of a whole structure against its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.defects.sites.symmetry import periodic_tree, primitive_cell

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from definet_flows.schemas import FloatArray, Host

_SHIFTED = 0.3  # Å; less than this is relaxation, not a shift
_NEAR = 0.5  # Å; an atom this near a site of its element speaks for a trial shift
_ANCHORS = 8  # atoms put onto sites in turn; at least one atom of them is no defect


def rigid_shift(host: Host, structure: Structure) -> FloatArray:
    """Return by how much a structure is shifted against its host, Cartesian, Å, [3]; zero below 0.3 Å.

    Each trial shift puts one atom onto a site of its element in a primitive cell (the host's other translations change
    nothing); the shift that brings most atoms near a site of their element is refined by the median displacement.
    """
    matcher = _Matcher(host, structure)
    zero = np.zeros(3)
    if 2 * matcher.score(zero) > len(structure) and np.linalg.norm(matcher.median(zero)) < _SHIFTED:
        return zero
    trials = [zero, *_trials(host, structure)]
    best = max(trials, key=lambda shift: (matcher.score(shift), -float(np.linalg.norm(shift))))
    shift = best + matcher.median(best)
    return np.asarray(shift) if np.linalg.norm(shift) >= _SHIFTED else zero


def _trials(host: Host, structure: Structure) -> list[FloatArray]:
    """Return the shortest shifts that put an atom onto a site of its element, Cartesian, Å."""
    unit = primitive_cell(host)
    cartesian = structure.frac_coords @ np.array(host.lattice)
    found = []
    for atom in np.unique(np.linspace(0, len(structure) - 1, _ANCHORS).astype(int)):
        sites = unit.frac_coords[np.array(unit.atomic_numbers) == structure.atomic_numbers[atom]]
        target = unit.lattice.get_fractional_coords(cartesian[atom])
        if len(sites):
            found += list(pbc_shortest_vectors(unit.lattice, sites, target)[:, 0])
    return found


class _Matcher:
    """Displacements of atoms from the nearest sites of their elements, for trial shifts (Cartesian, Å)."""

    def __init__(self, host: Host, structure: Structure) -> None:
        self.cell = np.array(host.lattice)
        sites, numbers = np.array(host.frac_coords) % 1.0 % 1.0, np.array(host.numbers)
        frac, elements = structure.frac_coords, np.array(structure.atomic_numbers)
        self.groups = [
            (frac[elements == z], sites[numbers == z], periodic_tree(sites[numbers == z])) for z in set(host.numbers)
        ]

    def displacements(self, shift: FloatArray) -> FloatArray:
        """Return the displacements of all atoms whose element the host has, Å, [n, 3]."""
        found = []
        for atoms, sites, tree in self.groups:
            moved = (atoms - shift @ np.linalg.inv(self.cell)) % 1.0 % 1.0
            delta = moved - sites[tree.query(moved)[1]]
            found.append((delta - np.rint(delta)) @ self.cell)
        return np.concatenate(found)

    def score(self, shift: FloatArray) -> int:
        return int((np.linalg.norm(self.displacements(shift), axis=1) < _NEAR).sum())

    def median(self, shift: FloatArray) -> FloatArray:
        displacements = self.displacements(shift)
        return np.asarray(np.median(displacements, axis=0)) if len(displacements) else np.zeros(3)
