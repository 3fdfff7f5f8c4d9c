"""Supercells: how they are asked for, and how sites are replicated."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Lattice, Structure
from pymatgen.util.coord import lattice_points_in_supercell

from definet_flows.errors import InputError
from definet_flows.hosts.layer import is_layer, layer_axis

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray, Host

IntArray = npt.NDArray[np.int64]

IMAGES_NEAR = 8.0
"""Å between the images of a supercell below which a campaign warns: defects relax each other there."""
IMAGES_APART = 12.0
"""Å between the images of the default supercell, which the warning proposes too."""
_LAYER = 2
_MOST_SITES = 20_000  # a hundred times what DFT relaxes
_LARGEST = 64  # repetitions along one axis; more is a typing error


def parse_supercell(supercell: object, unit: Structure, dimension: int) -> IntArray:
    """Return the supercell matrix [3, 3] that multiplies the unit cell's vectors.

    Raises
    ------
    InputError
        Zeros, negative or broken numbers, a singular matrix, a wrong shape.
    """
    if isinstance(supercell, int) and 0 < supercell < IMAGES_NEAR and not isinstance(supercell, bool):
        size = " ".join([str(supercell)] * 3)
        raise _refused(
            supercell, f"give three repetitions such as {size}, or the distance of images in Å as {supercell}.0"
        )
    distance = wanted_distance(supercell)
    if distance is not None:
        return _by_distance(distance, unit, dimension)
    try:
        given = np.asarray(supercell, dtype=float)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape not in {(3,), (3, 3)}:
        raise _refused(supercell, "give three whole numbers such as 8 8 1, a 3 x 3 matrix, or a distance in Å")
    if not np.array_equal(given, np.rint(given)):
        raise _refused(supercell, "its entries must be whole numbers")
    if np.abs(given).max() > _LARGEST:
        raise _refused(supercell, f"at most {_LARGEST} repetitions along an axis")
    if given.shape == (3,):
        if given.min() < 1:
            raise _refused(supercell, "each repetition must be at least 1")
        given = np.diag(given)
    matrix = np.rint(given).astype(np.int64)
    if round(float(np.linalg.det(matrix))) < 1:
        raise _refused(supercell, "its determinant must be positive")
    _check_sites(supercell, unit, matrix)
    return np.asarray(matrix)


def wanted_distance(supercell: object) -> float | None:
    """Return the distance between images that decides the size, Å: a number, 12 Å for None; None for a given size."""
    if supercell is None:
        return IMAGES_APART
    return float(supercell) if isinstance(supercell, int | float) and not isinstance(supercell, bool) else None


def chosen_in_words(distance: float, unit: Structure, matrix: IntArray, dimension: int) -> str:
    """Say which repetitions a distance between images, Å, has led to, and how far apart the images are."""
    apart = shortest_vector(matrix @ unit.lattice.matrix, _free_axes(unit, dimension))
    size = " x ".join(str(n) for n in np.diag(matrix))
    plane = " in the plane" if dimension == _LAYER else ""
    return f"{size}, the smallest with periodic images at least {distance:g} Å apart{plane}: {apart:.1f} Å"


def _check_sites(supercell: object, unit: Structure, matrix: IntArray) -> None:
    sites = len(unit) * round(float(np.linalg.det(matrix)))
    if sites > _MOST_SITES:
        raise _refused(supercell, f"it has {sites:,} sites of {unit.reduced_formula}, more than {_MOST_SITES:,}")


def _refused(supercell: object, remedy: str) -> InputError:
    text = " ".join(map(str, supercell)) if isinstance(supercell, Iterable) else str(supercell)
    return InputError(f"supercell {text!r}: {remedy}")


def _by_distance(distance: float, unit: Structure, dimension: int) -> IntArray:
    """Return the smallest diagonal supercell whose shortest lattice vector (in a layer's plane) is that long."""
    if not 0 < distance < np.inf:
        raise _refused(distance, "the minimum image distance must be a positive number of Å")
    matrix = np.diag(np.array(smallest_repetitions(distance, unit, dimension), dtype=np.int64))
    _check_sites(distance, unit, matrix)
    return matrix


def smallest_repetitions(distance: float, unit: Structure, dimension: int) -> tuple[int, int, int]:
    """Return the repetitions of the smallest supercell whose images (in a layer's plane) are that far apart, Å.

    Raises
    ------
    InputError
        If an axis would be repeated more than 64 times.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(unit.lattice.matrix), axis=0)
    most = np.ceil(distance / heights).astype(int)
    free = _free_axes(unit, dimension)
    if most[free].max() > _LARGEST:
        raise _refused(distance, f"would need more than {_LARGEST} repetitions along an axis")
    ranges = [range(1, int(most[axis]) + 1) if axis in free else (1,) for axis in range(3)]
    for repeat in sorted(itertools.product(*ranges), key=lambda n: (np.prod(n), np.ptp(np.array(n)), n)):
        if shortest_vector(unit.lattice.matrix * np.array(repeat)[:, None], free) >= distance - 1e-6:
            a, b, c = repeat
            return a, b, c
    raise _refused(distance, "no supercell found")  # the last candidate always fits: every height reaches `distance`


def _free_axes(structure: Structure, dimension: int) -> list[int]:
    """Return the lattice vectors along which a defect meets its images: of a layer the two in its plane."""
    return [axis for axis in range(3) if not (dimension == _LAYER and axis == layer_axis(structure))]


def image_distance(host: Host) -> float:
    """Return the distance between the periodic images of a bulk supercell (of a layer: in its plane), Å."""
    supercell = Structure(host.lattice, np.array(host.numbers).tolist(), np.array(host.frac_coords))
    return shortest_vector(supercell.lattice.matrix, _free_axes(supercell, host.dimensionality))


def near_images(host: Host) -> str | None:
    """Return a line on periodic images nearer than 8 Å, with the supercell that keeps them 12 Å apart; else None."""
    distance = image_distance(host)
    if distance >= IMAGES_NEAR - 1e-6:
        return None
    repeat = smallest_repetitions(IMAGES_APART, _unit(host), host.dimensionality)
    plane = " in the plane" if host.dimensionality == _LAYER else ""
    proposed = " x ".join(map(str, repeat))
    found = f"periodic images of the supercell are {distance:.1f} Å apart{plane}, less than {IMAGES_NEAR:g} Å"
    return f"{found}; {proposed} is the smallest supercell with {IMAGES_APART:g} Å"


def _unit(host: Host) -> Structure:
    """Return the unit cell that a bulk supercell repeats: the first of the translations of each of its sites."""
    matrix = np.array(host.matrix)
    every = round(float(np.linalg.det(matrix)))
    coords = np.array(host.frac_coords)[::every] @ matrix
    return Structure(np.linalg.inv(matrix) @ np.array(host.lattice), np.array(host.numbers[::every]).tolist(), coords)


def for_layer(repetitions: tuple[int, int, int], unit: Structure) -> tuple[int, int, int]:
    """Return repetitions that are meant for a layer across c along the axes of a layer that lies otherwise.

    The axes are exchanged in a circle, so that the third repetition goes along the layer's normal.
    """
    if not is_layer(unit):
        return repetitions
    axis = layer_axis(unit)
    a, b, c = (repetitions[(k - axis - 1) % 3] for k in range(3))
    return a, b, c


def shortest_vector(lattice: FloatArray, axes: list[int]) -> float:
    """Length in Å of the shortest lattice vector spanned by `axes`."""
    full = lattice.copy()
    for axis in set(range(3)) - set(axes):
        full[axis] *= 1e3 / np.linalg.norm(full[axis])
    reduced = Lattice(full).get_lll_reduced_lattice().matrix
    steps = np.array([n for n in itertools.product((-2, -1, 0, 1, 2), repeat=3) if any(n)])
    return float(np.linalg.norm(steps @ reduced, axis=1).min())


def replicate(unit: Structure, matrix: IntArray) -> tuple[FloatArray, IntArray, FloatArray]:
    """Return lattice rows (Å), atomic numbers and fractional coordinates in [0, 1) of the supercell."""
    points = np.asarray(lattice_points_in_supercell(matrix))
    points = points[np.lexsort(np.round(points, 8).T[::-1])]
    inside = unit.frac_coords @ np.linalg.inv(matrix)
    coords = (inside[:, None] + points[None]).reshape(-1, 3)
    coords = np.round(coords % 1.0, 12) % 1.0
    numbers = np.repeat(np.array(unit.atomic_numbers, dtype=np.int64), len(points))
    return matrix @ unit.lattice.matrix, numbers, coords
