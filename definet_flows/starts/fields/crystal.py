"""A crystal in whole numbers: sites as (basis atom, cell), and its space group acting on them.

Supercells of one crystal, of any size and shape and in any frame, are laid on one primitive cell. From then on a site
is a basis atom and three whole numbers, and nothing is compared by distance any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from definet_flows.defects import site_operations
from definet_flows.defects.sites.symmetry import primitive_cell
from definet_flows.hosts import to_structure
from definet_flows.hosts.frame import Frame, frames
from definet_flows.hosts.layer import cell_height, layer_gap, with_height
from definet_flows.schemas import Configuration, FloatArray, Host

IntArray = npt.NDArray[np.int64]

_LAYER = 2
_VACUUM = 100.0  # Å around every layer, so that layers of any vacuum are one crystal
_SAME_SITE = 0.1  # Å; a host whose sites lie farther from the crystal's is another crystal
_ALIKE = 1e-3  # relative; strains that differ by less are the same
_SAME_PLACE = 0.3  # Å; inserted atoms this near each other begin at the same place


@dataclass(frozen=True, eq=False)
class Crystal:
    """A primitive cell with its space group; places of inserted atoms follow the basis atoms.

    Operation g takes place (b, n) to ``(basis_to[g, b], n @ turns[g] + shifts[g, b])``.

    Attributes
    ----------
    lattice
        Primitive vectors as rows, Å, [3, 3].
    basis
        Fractional coordinates, [n_basis, 3].
    numbers
        Atomic numbers; 0 for the place of an inserted atom, [n_basis].
    rotations
        Cartesian, for column vectors, [n_ops, 3, 3].
    translations
        Cartesian, Å, [n_ops, 3].
    layer
        Whether this is a layer; its vacuum is 100 Å here, whatever the host's.
    """

    lattice: FloatArray
    basis: FloatArray
    numbers: IntArray
    rotations: FloatArray
    translations: FloatArray
    layer: bool

    @classmethod
    def of(cls, host: Host) -> Crystal:
        """Return the crystal that a host is a supercell of."""
        primitive = primitive_cell(_standard(host))
        operations = site_operations(
            Host(
                formula=host.formula,
                lattice=tuple(map(tuple, primitive.lattice.matrix.tolist())),
                numbers=primitive.atomic_numbers,
                frac_coords=tuple(map(tuple, (primitive.frac_coords % 1.0 % 1.0).tolist())),
                matrix=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
                dimensionality=host.dimensionality,
            )
        )
        return cls(
            lattice=np.array(primitive.lattice.matrix),
            basis=np.array(primitive.frac_coords),
            numbers=np.array(primitive.atomic_numbers),
            rotations=operations.rotations,
            translations=operations.translations,
            layer=host.dimensionality == _LAYER,
        )

    def with_places(self, points: FloatArray) -> Crystal:
        """Return the crystal with places for inserted atoms: points (fractional, [n, 3]) and their symmetry images."""
        places = list(self.basis[self.numbers == 0])
        inverse = np.linalg.inv(self.lattice)
        for point in points:
            images = (self.rotations @ (point @ self.lattice) + self.translations) @ inverse
            for image in images % 1.0 % 1.0:
                if not places or self._distance(image, np.array(places)).min() > _SAME_PLACE:
                    places.append(image)
        atoms = self.numbers > 0
        basis = np.concatenate([self.basis[atoms], np.array(places).reshape(-1, 3)])
        numbers = np.concatenate([self.numbers[atoms], np.zeros(len(places), dtype=np.int64)])
        return replace(self, basis=basis, numbers=numbers)

    def place_of(self, point: FloatArray) -> tuple[int, IntArray] | None:
        """Return place and cell of an inserted atom (fractional, [3]), or None where there is no place."""
        candidates = np.flatnonzero(self.numbers == 0)
        if len(candidates) == 0:
            return None
        distance = self._distance(point, self.basis[candidates])
        if distance.min() > _SAME_PLACE:
            return None
        place = int(candidates[distance.argmin()])
        return place, np.rint(point - self.basis[place]).astype(np.int64)

    def _distance(self, point: FloatArray, places: FloatArray) -> FloatArray:
        delta = point - places
        return np.asarray(np.linalg.norm((delta - np.rint(delta)) @ self.lattice, axis=-1))

    def positions(self, basis: IntArray, cells: IntArray) -> FloatArray:
        """Return Cartesian coordinates of places, Å, [..., 3]."""
        return np.asarray((self.basis[basis] + cells) @ self.lattice)

    # -------------------------------------------------------------- operations

    @cached_property
    def turns(self) -> IntArray:
        """What the operations do to cells, [n_ops, 3, 3], for row vectors."""
        turned = self.lattice @ self.rotations.transpose(0, 2, 1) @ np.linalg.inv(self.lattice)
        return np.rint(turned).astype(np.int64)

    @cached_property
    def _mapped(self) -> tuple[IntArray, IntArray]:
        moved = np.einsum("gab,ib->gia", self.rotations, self.basis @ self.lattice) + self.translations[:, None]
        frac = moved @ np.linalg.inv(self.lattice)
        delta = frac[:, :, None] - self.basis[None, None]  # [n_ops, n_basis, n_basis, 3]
        away = np.linalg.norm((delta - np.rint(delta)) @ self.lattice, axis=-1)
        away += 1e3 * (self.numbers[None, :, None] != self.numbers[None, None])
        to = away.argmin(2)
        return to, np.rint(frac - self.basis[to]).astype(np.int64)

    @property
    def basis_to(self) -> IntArray:
        """Basis atom that each operation takes each basis atom to, [n_ops, n_basis]."""
        return self._mapped[0]

    @property
    def shifts(self) -> IntArray:
        """Cell that each operation takes each basis atom of cell 0 to, [n_ops, n_basis, 3]."""
        return self._mapped[1]

    def forth(self, g: int, basis: IntArray, cells: IntArray) -> tuple[IntArray, IntArray]:
        """Return where operation g takes places to."""
        return self.basis_to[g, basis], cells @ self.turns[g] + self.shifts[g, basis]

    def back(self, g: int, basis: IntArray, cells: IntArray) -> tuple[IntArray, IntArray]:
        """Return the places that operation g takes to the places given."""
        origin = np.argsort(self.basis_to[g])[basis]
        turned = np.rint(np.linalg.inv(self.turns[g])).astype(np.int64)
        return origin, (cells - self.shifts[g, origin]) @ turned


@dataclass(frozen=True, eq=False)
class Cell:
    """A supercell laid on a crystal.

    Attributes
    ----------
    matrix
        Supercell vectors in primitive vectors, whole numbers, rows, [3, 3].
    basis, cells
        Each site's place, [n_sites] and [n_sites, 3].
    turn
        Orthogonal; takes the host's Cartesian row vectors to the crystal's: ``v @ turn``, [3, 3].
    """

    crystal: Crystal
    matrix: IntArray
    basis: IntArray
    cells: IntArray
    turn: FloatArray
    _linear: FloatArray  # from Cartesian coordinates of the host to fractional coordinates of the crystal
    _origin: FloatArray  # fractional, in the crystal

    def point(self, cartesian: FloatArray) -> FloatArray:
        """Return fractional coordinates in the crystal of points of the host, Å, [n, 3]; see `inserted_points`."""
        return np.asarray(cartesian @ self._linear + self._origin)

    @cached_property
    def size(self) -> int:
        """Primitive cells in it."""
        return abs(round(float(np.linalg.det(self.matrix))))

    @cached_property
    def _codes(self) -> tuple[IntArray, IntArray]:
        codes = self._code(self.basis, self.cells)
        order = np.argsort(codes)
        return codes[order], order

    def _code(self, basis: IntArray, cells: IntArray) -> IntArray:
        """Return a number for each place that is the same for all of its images by supercell vectors."""
        adjugate = np.rint(np.linalg.inv(self.matrix) * np.linalg.det(self.matrix)).astype(np.int64)
        a, b, c = np.moveaxis((cells @ adjugate) % self.size, -1, 0)
        return np.asarray(((basis * self.size + a) * self.size + b) * self.size + c)

    def rows(self, basis: IntArray, cells: IntArray) -> IntArray:
        """Return the site at each place, -1 where there is none."""
        codes, order = self._codes
        wanted = self._code(basis, cells)
        found = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
        return np.where(codes[found] == wanted, order[found], -1)

    def same(self, basis: IntArray, cells: IntArray, other: IntArray, others: IntArray) -> npt.NDArray[np.bool_]:
        """Whether places are each other's images by supercell vectors."""
        return np.asarray(self._code(basis, cells) == self._code(other, others))

    def has_lattice_of(self, other: Cell) -> bool:
        """Whether both have the same supercell lattice."""
        change = np.linalg.solve(other.matrix.T.astype(float), self.matrix.T.astype(float))
        return self.size == other.size and bool(np.abs(change - np.rint(change)).max() < 1e-6)  # noqa: PLR2004


def _standard(host: Host) -> Host:
    """Return a layer in a cell with 100 Å of vacuum along its normal; a bulk crystal as it is."""
    if host.dimensionality != _LAYER:
        return host
    structure = to_structure(host)
    height = cell_height(structure) - layer_gap(structure)[1] + _VACUUM
    placed = with_height(structure, round(height, 3))
    frac = tuple(map(tuple, (placed.frac_coords % 1.0 % 1.0).tolist()))
    return host.model_copy(update={"lattice": tuple(map(tuple, placed.lattice.matrix.tolist())), "frac_coords": frac})


def inserted_points(host: Host, configuration: Configuration) -> FloatArray:
    """Return the inserted atoms, on the side of a layer where they are nearest to it, Cartesian, Å, [n, 3]."""
    frac = np.array([edit.position for edit in configuration.edits if edit.position is not None]).reshape(-1, 3)
    if host.dimensionality == _LAYER and len(frac):
        structure = to_structure(host)
        axis, gap, bottom = layer_gap(structure)
        middle = bottom + (1 - gap / cell_height(structure)) / 2
        frac[:, axis] -= np.rint(frac[:, axis] - middle)
    return np.asarray(frac @ np.array(host.lattice))


def lay(host: Host, crystal: Crystal) -> Cell | None:
    """Return a host as a supercell of a crystal, None for another crystal.

    Of all ways to lay it, which the space group makes equivalent, the one that turns and shifts least.
    """
    if (host.dimensionality == _LAYER) != crystal.layer:
        return None
    standard = _standard(host)
    primitive = primitive_cell(standard)
    if sorted(primitive.atomic_numbers) != sorted(crystal.numbers[crystal.numbers > 0].tolist()):
        return None
    lattice = np.array(primitive.lattice.matrix)
    ways = sorted(frames(lattice, crystal.lattice), key=_least_changed)
    inside = standard.cartesian @ np.linalg.inv(lattice)
    for way in ways:
        frac = way.frac(inside)
        origin = _origin(crystal, np.array(host.numbers), frac)
        if origin is not None:
            return _cell(crystal, standard, way, frac, origin)
    return None


def _least_changed(way: Frame) -> tuple[int, float]:
    return round(way.strain / _ALIKE), float(np.abs(_turn(way) - np.eye(3)).max())


def _turn(way: Frame) -> FloatArray:
    return np.asarray(np.linalg.solve(way.axes @ way.cell, way.turned))


def _origin(crystal: Crystal, numbers: IntArray, frac: FloatArray) -> FloatArray | None:
    """Return the shortest shift, fractional [3], that puts every site on an atom of its element; None without."""
    rare = min(set(numbers.tolist()), key=numbers.tolist().count)
    first = int(np.flatnonzero(numbers == rare)[0])
    shifts = crystal.basis[crystal.numbers == rare] - frac[first]
    shifts = np.concatenate([np.zeros((1, 3)), shifts - np.rint(shifts)])
    for shift in shifts[np.argsort(np.linalg.norm(shifts @ crystal.lattice, axis=1), kind="stable")]:
        delta = _offsets(crystal, numbers, frac + shift)[1]
        mean = np.asarray(delta.mean(0))
        if np.linalg.norm((delta - mean) @ crystal.lattice, axis=1).max() < _SAME_SITE:
            return np.asarray(shift - mean)
    return None


def _offsets(crystal: Crystal, numbers: IntArray, frac: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the nearest basis atom of its element to each point, [n], and the way from it, fractional, [n, 3]."""
    delta = frac[:, None] - crystal.basis[None]
    delta -= np.rint(delta)
    away = np.linalg.norm(delta @ crystal.lattice, axis=-1) + 1e3 * (numbers[:, None] != crystal.numbers[None])
    basis = away.argmin(1)
    return basis, delta[np.arange(len(frac)), basis]


def _cell(crystal: Crystal, standard: Host, way: Frame, frac: FloatArray, origin: FloatArray) -> Cell:
    linear = way.frac(np.asarray(np.linalg.inv(way.cell), dtype=np.float64))
    basis, delta = _offsets(crystal, np.array(standard.numbers), frac + origin)
    return Cell(
        crystal=crystal,
        matrix=np.rint(np.array(standard.lattice) @ linear).astype(np.int64),
        basis=basis,
        cells=np.rint(frac + origin - delta - crystal.basis[basis]).astype(np.int64),
        turn=_turn(way),
        _linear=linear,
        _origin=origin,
    )
