"""Space group of the supercell as site permutations; stabilizers and canonical placements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pymatgen.core import Structure
from pymatgen.util.coord import lattice_points_in_supercell

from definet_flows.errors import InputError
from definet_flows.hosts.symmetrize import space_group
from definet_flows.schemas import INSERTED, Configuration, Edit, FloatArray, Host, IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scipy.spatial import cKDTree

IntArray = npt.NDArray[np.int64]

_SYMPREC = 1e-3  # Å; `make_host` has already removed rounding noise
_MATCH = 0.05  # Å; an image farther than this from every site is not a symmetry
_GRID = 10_000  # steps per lattice vector when points are compared
_OFF_GRID = 3.17e-5  # keeps 1/3, 1/64 and the like away from the edges of the steps
_SAME = 1e-4  # fractional; two inserted atoms nearer than this are the same
_LARGEST = 500_000_000  # bytes of a table of permutations
_BLOCK = 2_000_000  # entries of a table that are looked at together
_DIGITS = 10  # of a stored fractional coordinate: images of one point must agree far beyond the comparison


@dataclass(frozen=True, eq=False)
class SiteOperations:
    """Symmetry operations of a supercell; the identity comes first.

    Operation g takes a point r to ``rotations[g] @ r + translations[g]`` and site i to site ``permutations[g, i]``.
    """

    permutations: npt.NDArray[np.integer]
    """[n_ops, n_sites], of the smallest type that holds a site: there may be 10^8 entries"""
    rotations: FloatArray
    """Cartesian, [n_ops, 3, 3]"""
    translations: FloatArray
    """Cartesian, Å, [n_ops, 3]"""

    def __len__(self) -> int:
        return len(self.permutations)

    def select(self, which: npt.NDArray[np.bool_] | IntArray) -> SiteOperations:
        """Return some of the operations."""
        return SiteOperations(self.permutations[which], self.rotations[which], self.translations[which])

    def images(self, displacements: FloatArray) -> FloatArray:
        """Return the images of a displacement field, [n_sites, 3] -> [n_ops, n_sites, 3], Å."""
        rotated: FloatArray = np.einsum("gab,ib->gia", self.rotations, displacements)
        result = np.empty_like(rotated)
        np.put_along_axis(result, self.permutations[:, :, None], rotated, axis=1)
        return result

    def points(self, host: Host, frac: FloatArray) -> FloatArray:
        """Return the images of points, fractional coordinates [n, 3] -> [n_ops, n, 3]."""
        cell = np.array(host.lattice)
        images = np.einsum("gab,ib->gia", self.rotations, frac @ cell) + self.translations[:, None]
        return np.asarray(images @ np.linalg.inv(cell))


def site_operations(host: Host) -> SiteOperations:
    """Return the full space group of the supercell: point operations times the translations inside it.

    The operations are those of the primitive cell (spglib) that also keep the supercell's lattice, each followed by
    every primitive translation inside the supercell. Cached; the arrays are read-only.
    """
    return _operations(host.lattice, host.numbers, host.frac_coords, host.matrix)


@lru_cache(maxsize=16)
def _operations(
    lattice: Matrix, numbers: tuple[int, ...], frac_coords: tuple[Vector, ...], matrix: IntMatrix
) -> SiteOperations:
    cell, frac = np.array(lattice), np.array(frac_coords)
    primitive, positions, species = _primitive(cell, frac, np.array(numbers), np.array(matrix))
    dataset = space_group(primitive, positions, species.tolist(), _SYMPREC)
    inverse = np.linalg.inv(primitive)
    rotations = np.array([primitive.T @ w @ inverse.T for w in dataset.rotations])
    changes = np.array([cell @ r.T @ np.linalg.inv(cell) for r in rotations])
    kept = np.abs(changes - np.rint(changes)).max(axis=(1, 2)) < _SYMPREC
    rotations, shifts = rotations[kept], dataset.translations[kept] @ primitive
    inside = np.asarray(lattice_points_in_supercell(np.rint(cell @ inverse).astype(int))) @ cell
    _check_size(len(rotations) * len(inside), len(frac))
    inside = inside[np.argsort(np.linalg.norm(inside, axis=1), kind="stable")]
    tree = periodic_tree(frac)
    cartesian = frac @ cell
    points = [
        _permutation(tree, (cartesian @ r.T + t) @ np.linalg.inv(cell), cell)
        for r, t in zip(rotations, shifts, strict=True)
    ]
    moves = [_permutation(tree, frac + t @ np.linalg.inv(cell), cell) for t in inside]
    permutations = np.empty((len(points), len(moves), len(frac)), dtype=np.min_scalar_type(len(frac)))
    for row, point in zip(permutations, points, strict=True):
        for place, move in zip(row, moves, strict=True):
            np.take(move, point, out=place)
    result = SiteOperations(
        permutations=permutations.reshape(-1, len(frac)),
        rotations=np.repeat(rotations, len(moves), axis=0),
        translations=np.array([shift + t for shift in shifts for t in inside]),
    )
    _check(result, np.array(numbers))
    return result


def _primitive(
    cell: FloatArray, frac: FloatArray, numbers: IntArray, matrix: IntArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return lattice, fractional coordinates and numbers of a primitive cell in the host's own setting."""
    unit = np.linalg.solve(matrix.astype(float), cell)
    inside = frac @ matrix
    first = _first_copies(inside, unit, numbers)
    if len(first) * round(abs(np.linalg.det(matrix))) != len(frac):
        unit, inside, first = cell, frac, np.arange(len(frac))  # the matrix does not show it: spglib finds it
    dataset = space_group(unit, inside[first] % 1.0, numbers[first].tolist(), _SYMPREC)
    _, chosen = np.unique(dataset.mapping_to_primitive, return_index=True)
    lattice = np.asarray(dataset.primitive_lattice)
    if np.linalg.det(lattice) * np.linalg.det(cell) < 0:
        lattice = -lattice
    return lattice, (inside[first][chosen] @ unit) @ np.linalg.inv(lattice), numbers[first][chosen]


def _first_copies(inside: FloatArray, unit: FloatArray, numbers: IntArray) -> IntArray:
    """Return the indices of the sites that are the first of their translates by the unit lattice `unit`."""
    tree, points = periodic_tree(inside), inside % 1.0 % 1.0
    near = _SYMPREC / np.linalg.norm(unit, axis=1).max()
    firsts, left = [], np.ones(len(inside), dtype=bool)
    for site in range(len(inside)):
        if left[site]:  # a group at a time: lists of all groups would grow with the square of the supercell
            firsts.append(site)
            group = np.array(tree.query_ball_point(points[site], near))
            left[group[numbers[group] == numbers[site]]] = False
    return np.array(firsts, dtype=np.int64)


def periodic_tree(frac: FloatArray) -> cKDTree[Any, Any]:
    """Return a tree of points of the cell; queries, too, are fractional coordinates in [0, 1)."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 - a third of a second to import

    return cKDTree(frac % 1.0 % 1.0, boxsize=np.ones(3))


def _check_size(operations: int, sites: int) -> None:
    """Refuse a supercell whose table of permutations memory would not hold, before it is made."""
    if operations * sites * np.min_scalar_type(sites).itemsize > _LARGEST:
        msg = f"the supercell has {sites:,} sites and {operations:,} symmetry operations, too many for memory"
        raise InputError(f"{msg}: give a smaller supercell")


def _permutation(tree: cKDTree[Any, Any], image: FloatArray, cell: FloatArray) -> npt.NDArray[np.integer]:
    distance, partner = tree.query(image % 1.0 % 1.0)
    if np.max(distance, initial=0.0) * np.linalg.norm(cell, axis=1).max() > _MATCH:
        msg = "the supercell is not made of copies of its primitive cell; build it with make_host"
        raise InputError(msg)
    return np.asarray(partner, dtype=np.min_scalar_type(tree.n))


def primitive_cell(host: Host) -> Structure:
    """Return a primitive cell of the host, in the host's own frame: same origin, same orientation."""
    lattice, frac, numbers = _primitive(*map(np.array, (host.lattice, host.frac_coords, host.numbers, host.matrix)))
    return Structure(lattice, numbers.tolist(), frac, to_unit_cell=True)


def permute_points(host: Host, frac: FloatArray) -> npt.NDArray[np.integer]:
    """Return which point each operation takes each point to, [n_ops, n]; the operations must permute the points."""
    tree, operations, cell = periodic_tree(frac), site_operations(host), np.array(host.lattice)
    _check_size(len(operations), host.n_sites + len(frac))
    out = np.empty((len(operations), len(frac)), dtype=np.min_scalar_type(len(frac)))
    for block in _blocks(out):
        images = operations.select(np.arange(block.start, block.stop)).points(host, frac)
        out[block] = _permutation(tree, images.reshape(-1, 3), cell).reshape(images.shape[:2])
    return out


def _blocks(table: npt.NDArray[np.integer]) -> list[slice]:
    """Return slices of a table's rows that are small together."""
    step = max(1, _BLOCK // max(1, table.shape[1]))
    return [slice(k, min(k + step, len(table))) for k in range(0, len(table), step)]


def _check(operations: SiteOperations, numbers: IntArray) -> None:
    sites = np.arange(len(numbers))
    for block in _blocks(operations.permutations):
        rows = operations.permutations[block]
        if not (np.sort(rows, axis=1) == sites).all() or not (numbers[rows] == numbers).all():
            msg = "the supercell's symmetry does not map its sites onto each other; build it with make_host"
            raise InputError(msg)
    for array in (operations.permutations, operations.rotations, operations.translations):
        array.setflags(write=False)


# ------------------------------------------------------------------ placements


def _color(edit: Edit) -> tuple[int, int]:
    return (edit.old or 0, edit.new or 0)


def _grouped(configuration: Configuration) -> list[tuple[tuple[int, int], list[Edit]]]:
    """Edits on sites by color, colors in ascending order."""
    colors: dict[tuple[int, int], list[Edit]] = {}
    for edit in configuration.edits:
        if edit.site is not None:
            colors.setdefault(_color(edit), []).append(edit)
    return sorted(colors.items())


def _images(permutations: npt.NDArray[np.integer], groups: Iterable[list[Edit]]) -> IntArray:
    """Images of a placement: the site indices, ascending within each color, [n_ops, n_edits]."""
    empty = np.empty((len(permutations), 0), dtype=np.int64)
    blocks = [np.sort(permutations[:, [e.site for e in group if e.site is not None]], axis=1) for group in groups]
    return np.concatenate([empty, *blocks], axis=1)


def point_keys(frac: FloatArray) -> IntArray:
    """Return whole numbers that order points of the cell and are the same for images that differ by rounding only."""
    return np.floor(((frac + _OFF_GRID) % 1.0) * _GRID).astype(np.int64)


def stored_point(frac: FloatArray) -> Vector:
    """Return fractional coordinates in [0, 1) as an edit stores them."""
    x, y, z = (np.round(frac, _DIGITS) % 1.0).tolist()
    return (x, y, z)


def _inserted_images(
    host: Host, operations: SiteOperations, configuration: Configuration
) -> tuple[IntArray, FloatArray]:
    """Images of the inserted atoms under each operation, sorted by atomic number, then position.

    Returns
    -------
    keys, frac
        Atomic number and comparable position, [n_ops, n_inserted, 4]; fractional coordinates, [n_ops, n_inserted, 3].
    """
    inserted = [edit for edit in configuration.edits if edit.site is None]
    frac = operations.points(host, np.array([edit.position for edit in inserted]).reshape(-1, 3))
    numbers = np.broadcast_to([edit.new or 0 for edit in inserted], frac.shape[:2])
    keys = np.concatenate([numbers[:, :, None], point_keys(frac)], axis=2)
    order = np.lexsort(np.moveaxis(keys, 2, 0)[::-1], axis=1)[:, :, None]
    return np.take_along_axis(keys, order, axis=1), np.take_along_axis(frac, order, axis=1)


def _smallest(rows: IntArray) -> IntArray:
    """Return the indices of the rows that equal the lexicographically smallest row."""
    which = np.arange(len(rows))
    for column in rows.T:
        values = column[which]
        which = which[values == values.min()]
    return which


def stabilizer(host: Host, configuration: Configuration) -> SiteOperations:
    """Return the operations of the supercell that leave the decorated configuration as it is."""
    operations = site_operations(host)
    groups = [edits for _, edits in _grouped(configuration)]
    images = _images(operations.permutations, groups)
    kept = operations.select(np.all(images == images[0], axis=1))
    if all(edit.site is not None for edit in configuration.edits):
        return kept
    keys, frac = _inserted_images(host, kept, configuration)
    delta = frac - frac[0]
    delta -= np.rint(delta)
    same = (keys[:, :, 0] == keys[0, :, 0]).all(axis=1) & (np.abs(delta) < _SAME).all(axis=(1, 2))
    return kept.select(same)


def canonical(host: Host, configuration: Configuration) -> Configuration:
    """Return the canonical placement of a configuration, with its multiplicity.

    Of all symmetry images, the image whose site indices (kinds in the order of old, then new atomic number; ascending
    within a kind) are lexicographically smallest; inserted atoms decide between images that agree on the sites. Every
    symmetry image of a configuration has the same canonical placement.
    """
    operations = site_operations(host)
    grouped = _grouped(configuration)
    images = _images(operations.permutations, [edits for _, edits in grouped])
    best = _smallest(images)
    sites = iter(images[best[0]].tolist())
    edits = [edit.model_copy(update={"site": next(sites)}) for _, group in grouped for edit in group]
    if len(edits) < len(configuration.edits):
        keys, frac = _inserted_images(host, operations.select(best), configuration)
        chosen = _smallest(keys.reshape(len(keys), -1))[0]
        numbers = keys[chosen, :, 0].tolist()
        atoms = zip(numbers, frac[chosen], strict=True)
        edits += [Edit(marker=INSERTED, new=number, position=stored_point(point)) for number, point in atoms]
    multiplicity = len(operations) // len(stabilizer(host, configuration))
    return configuration.model_copy(update={"edits": tuple(edits), "multiplicity": multiplicity})
