"""Rounding noise removed: atoms and lattice put exactly onto the symmetry they nearly have."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import spglib
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError

SYMPREC = 0.01
"""Å; the tolerance where none is given."""

_LOOSER = (0.02, 0.05, 0.1)  # Å
_LARGEST = 1.0  # Å

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
        # spglib 2.x announces that later versions raise errors; both ways are handled here
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


def higher_symmetry(structure: Structure, symprec: float) -> str:
    """Return a line on the higher space group that a looser tolerance would give; "" if there is none up to 0.1 Å.

    A host that is a little off its symmetry has many times the configurations.
    """
    cell = structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers
    order = len(space_group(*cell, symprec).rotations)
    for looser in _LOOSER:
        if looser <= symprec:
            continue
        with suppress(InputError):
            dataset = space_group(*cell, looser)
            if len(dataset.rotations) > order:
                times = len(dataset.rotations) / order
                return f"{dataset.international} within {looser:g} Å ({times:.3g} times as many operations)"
    return ""


def check_symprec(symprec: float) -> None:
    """Refuse a tolerance that is out of range.

    Raises
    ------
    InputError
        If it is not above 0 and at most 1 Å.
    """
    if not 0 < symprec <= _LARGEST:
        msg = f"symprec={symprec:g} Å: give a tolerance above 0 and at most {_LARGEST:g} Å, such as 0.01"
        raise InputError(msg)


def symmetrize(structure: Structure, symprec: float) -> tuple[Structure, str]:
    """Return the structure averaged over its space group, and a line with the tolerance and largest shift.

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
    from scipy.linalg import sqrtm  # noqa: PLC0415 - a third of a second to import

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
    from scipy.spatial import cKDTree  # noqa: PLC0415 - a third of a second to import

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
