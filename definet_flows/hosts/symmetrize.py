"""Rounding noise removed: atoms and lattice put exactly onto the symmetry they nearly have."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import spglib
from pymatgen.core import Lattice, Structure
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.schemas import FloatArray

_LARGE = 1e9  # operations times pairs of atoms; the mean of fewer keeps its last digit, hence the ids of old records


def space_group(
    lattice: FloatArray, frac_coords: FloatArray, numbers: Sequence[int], symprec: float
) -> spglib.SpglibDataset:
    """Return spglib's symmetry dataset of a cell.

    Raises
    ------
    InputError
        If spglib finds no space group within `symprec` Å.
    """
    with warnings.catch_warnings():
        # spglib 2.x announces that errors will be raised one day; both ways are handled here
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            cell = (lattice.tolist(), frac_coords.tolist(), list(numbers))
            dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
        except spglib.SpglibError:
            dataset = None
    if dataset is None:
        msg = f"no space group found within symprec={symprec:g} Å; change symprec or check for overlapping atoms"
        raise InputError(msg)
    return dataset


def symmetrize(structure: Structure, symprec: float) -> tuple[Structure, str]:
    """Return the structure averaged over its space group, and a line that tells the tolerance and largest shift.

    Setting, orientation, origin and site order stay as they are. The metric is averaged over the point
    operations (the lattice follows by a pure stretch), the positions over all operations.

    Raises
    ------
    InputError
        If spglib finds no space group within `symprec` Å.
    """
    dataset = space_group(structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers, symprec)
    lattice = _average_metric(structure.lattice.matrix, dataset.rotations)
    coords = _average_positions(structure, dataset.rotations, dataset.translations)
    shift = structure.lattice.get_cartesian_coords(coords - structure.frac_coords)
    largest = float(np.linalg.norm(shift, axis=1).max())
    result = Structure(Lattice(lattice), structure.species, coords)
    result.properties = dict(structure.properties)
    note = f"{dataset.international} within {symprec:g} Å, largest shift {largest:.5f} Å"
    return result, note


def _average_metric(lattice: FloatArray, rotations: npt.NDArray[np.int32]) -> FloatArray:
    """Rows L -> L F with F symmetric, so that L F F L^T is the mean of W^T (L L^T) W."""
    metric = lattice @ lattice.T
    mean = np.mean([w.T @ metric @ w for w in rotations], axis=0)
    inverse = np.linalg.inv(lattice)
    return np.asarray(lattice @ np.real(sqrtm(inverse @ mean @ inverse.T)))


def _average_positions(structure: Structure, rotations: npt.NDArray[np.int32], translations: FloatArray) -> FloatArray:
    """Return the mean of the images; of a large supercell first over its translations, then over a rotation of each."""
    if len(rotations) * len(structure) ** 2 < _LARGE:
        return _mean_image(structure, structure.frac_coords, rotations, translations)
    pure = (rotations == np.eye(3)).all(axis=(1, 2))
    frac = _mean_image(structure, structure.frac_coords, rotations[pure], translations[pure])
    _, each = np.unique(rotations, axis=0, return_index=True)
    return _mean_image(structure, frac, rotations[each], translations[each])


def _mean_image(
    structure: Structure, frac: FloatArray, rotations: npt.NDArray[np.int32], translations: FloatArray
) -> FloatArray:
    numbers = np.array(structure.atomic_numbers)
    groups = [np.flatnonzero(numbers == z) for z in np.unique(numbers)]
    trees = [cKDTree(frac[group] % 1.0 % 1.0, boxsize=np.ones(3)) for group in groups]
    total = np.zeros_like(frac)
    for rotation, translation in zip(rotations, translations, strict=True):
        image = frac @ rotation.T + translation
        for group, tree in zip(groups, trees, strict=True):
            partner = group[tree.query(image[group] % 1.0 % 1.0)[1]]
            delta = image[group] - frac[partner]
            total[partner] += delta - np.rint(delta)
    return np.asarray(frac + total / len(rotations))
