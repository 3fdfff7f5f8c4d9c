"""Dimensionality, and the vacuum around a layer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.hosts.radii import covalent_radius

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.schemas import FloatArray

    IntArray = npt.NDArray[np.int64]

VACUUM_ERROR = 10.0
"""Å of vacuum below which a 2D host is refused."""
VACUUM_WARNING = 15.0
"""Å of vacuum below which a 2D host earns a warning (the data sets keep at least 15 Å)."""
_STACKED = 4.0  # Å; layers nearer than this touch by van der Waals forces (graphite: 3.35): a bulk crystal
_SINGLE = 6.0  # Å; a cell of a single layer with less around it is bulk: nobody gives a layer so little vacuum
_ALIKE = 1.5  # gaps between the layers of a stack differ by no more than this factor
_LAYER = 2
_BOND = 1.3  # times the sum of covalent radii; van der Waals contacts lie above 1.5
_NOISE = 1e-6  # fractional; keeps the lowest atom at the bottom when its coordinate is rounded down


def bonded_dimensionality(structure: Structure) -> int:
    """Return the dimensionality of the bonded network: 2 for a layer, whatever the vacuum around it.

    Bonds are pairs within 1.3 times the sum of covalent radii (Cordero); the network is analysed as in Larsen et
    al., doi:10.1103/PhysRevMaterials.3.034003.
    """
    return max(int(np.linalg.matrix_rank(closed)) for closed in _networks(structure))


def _networks(structure: Structure) -> list[IntArray]:
    """Return, of each bonded network, the lattice translations that lead from an atom along bonds to its image, [n, 3].

    As pymatgen's dimensionality module has them, whose import takes two seconds.
    """
    bonds: list[list[tuple[int, IntArray]]] = [[] for _ in structure]
    for center, point, image in zip(*_bonds(structure), strict=True):
        bonds[center].append((int(point), image))
    cell: dict[int, IntArray] = {}  # of each atom that was reached, its image in the network of the first
    networks = []
    for first in range(len(structure)):
        if first in cell:
            continue
        cell[first], reached = np.zeros(3, dtype=np.int64), [first]
        closed = [cell[first]]
        for atom in reached:
            for point, image in bonds[atom]:
                there = cell[atom] + image
                if point not in cell:
                    cell[point] = there
                    reached.append(point)
                closed.append(there - cell[point])
        networks.append(np.unique(closed, axis=0))
    return networks


def _bonds(structure: Structure) -> tuple[IntArray, IntArray, IntArray]:
    """Return the bonded pairs, each both ways: atom, atom, image of the latter."""
    radii = np.array([covalent_radius(number) for number in structure.atomic_numbers])
    centers, points, images, lengths = structure.get_neighbor_list(float(2 * _BOND * radii.max()))
    bonded = lengths < _BOND * (radii[centers] + radii[points])
    return centers[bonded], points[bonded], images[bonded].astype(np.int64)


def is_stacked(structure: Structure) -> bool:
    """Whether layers are stacked to a bulk crystal, not a layer (or a few) in vacuum.

    They are if they touch by van der Waals forces, if several have gaps alike between them, such as h-BN of a
    calculation without dispersion, or if a single layer has a gap that nobody would take for vacuum.
    """
    axis, gap, _ = layer_gap(structure)
    if gap < _STACKED:
        return True
    count = len(_networks(structure))
    if count == 1:
        return gap < _SINGLE
    levels = np.sort(structure.frac_coords[:, axis] % 1.0)
    spaces = np.sort(np.diff(levels, append=levels[0] + 1.0))[-count:]
    return len(spaces) == count and bool(spaces[-1] < _ALIKE * spaces[0]) and gap < VACUUM_ERROR


def is_layer(structure: Structure) -> bool:
    """Whether a structure is a layer in vacuum."""
    return bonded_dimensionality(structure) == _LAYER and not is_stacked(structure)


def layer_gap(structure: Structure) -> tuple[int, float, float]:
    """Return the axis across the widest empty slab, its width in Å, and where above it the atoms begin (fractional)."""
    heights = structure.lattice.volume / np.linalg.norm(_face_normals(structure.lattice), axis=1)
    gaps = []
    for axis in range(3):
        levels = np.sort(structure.frac_coords[:, axis] % 1.0)
        spaces = np.diff(levels, append=levels[0] + 1.0)
        widest = int(np.argmax(spaces))
        gaps.append((float(spaces[widest] * heights[axis]), axis, float(levels[(widest + 1) % len(levels)])))
    gap, axis, bottom = max(gaps)
    return axis, gap, bottom


def layer_axis(structure: Structure) -> int:
    """Return the lattice vector, 0 to 2, that crosses a layer's vacuum; the other two lie in the layer's plane."""
    return layer_gap(structure)[0]


def layer_frame(structure: Structure) -> tuple[int, FloatArray, FloatArray]:
    """Return the axis across a layer, its unit normal [3], and its atoms in one piece, Cartesian, Å, [n, 3].

    The normal points along the lattice vector that crosses the layer, whatever the handedness of the rows.
    """
    axis, _, bottom = layer_gap(structure)
    normal = _face_normals(structure.lattice)[axis]
    normal = normal / (np.linalg.norm(normal) * np.sign(normal @ structure.lattice.matrix[axis]))
    frac = structure.frac_coords.copy()
    frac[:, axis] = bottom + (frac[:, axis] - bottom + _NOISE) % 1.0 - _NOISE
    return axis, normal, frac @ structure.lattice.matrix


def cell_height(structure: Structure) -> float:
    """Return the distance of a layer from its periodic image, measured along its normal, Å."""
    axis, normal, _ = layer_frame(structure)
    return float(structure.lattice.matrix[axis] @ normal)


def _face_normals(lattice: Lattice) -> FloatArray:
    a, b, c = lattice.matrix
    return np.array([np.cross(b, c), np.cross(c, a), np.cross(a, b)])


def check_vacuum(structure: Structure) -> float:
    """Return the vacuum of a layer in Å; refuse below 10 Å, warn below 15 Å.

    Raises
    ------
    InputError
        Below 10 Å.
    """
    gap = layer_gap(structure)[1]
    found = f"2D host {structure.composition.reduced_formula} has {gap:.2f} Å of vacuum"
    remedy = "lengthen the cell or set the vacuum (20 Å is usual); for a bulk crystal give dimensionality 3"
    if gap < VACUUM_ERROR - 1e-6:
        msg = f"{found}, less than {VACUUM_ERROR:g} Å; {remedy}"
        raise InputError(msg)
    if gap < VACUUM_WARNING - 1e-6:
        msg = f"{found}, less than {VACUUM_WARNING:g} Å; {remedy}"
        warnings.warn(msg, UserWarning, stacklevel=3)
    return gap


def place_layer(structure: Structure, *, vacuum: float | None, center: bool) -> Structure:
    """Return the layer with `vacuum` Å (None: as it is) around it, in the middle of the cell if `center`.

    With a new vacuum the lattice vector across the layer becomes its normal; in-plane vectors and interatomic
    distances stay.

    Raises
    ------
    InputError
        A vacuum that is no positive length.
    """
    if vacuum is not None and not 0 < vacuum < np.inf:
        msg = f"vacuum={vacuum:g} Å: give a positive length (20 Å is usual)"
        raise InputError(msg)
    axis, normal, cartesian = layer_frame(structure)
    heights = cartesian @ normal
    matrix = structure.lattice.matrix.copy()
    if vacuum is not None:
        matrix[axis] = normal * (np.ptp(heights) + vacuum)
    if center:
        cartesian += normal * (matrix[axis] @ normal / 2 - (heights.max() + heights.min()) / 2)
    return _recelled(structure, matrix, cartesian)


def with_height(structure: Structure, height: float) -> Structure:
    """Return a layer in a cell whose vector across it is its normal, `height` Å long; distances in the layer stay."""
    axis, normal, cartesian = layer_frame(structure)
    matrix = structure.lattice.matrix.copy()
    matrix[axis] = normal * height
    return _recelled(structure, matrix, cartesian)


def _recelled(structure: Structure, matrix: FloatArray, cartesian: FloatArray) -> Structure:
    placed = Structure(Lattice(matrix), structure.species, cartesian, coords_are_cartesian=True, to_unit_cell=True)
    placed.properties = dict(structure.properties)
    return placed
