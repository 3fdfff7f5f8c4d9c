"""Candidate positions of inserted atoms: interstitials, and on layers adatoms."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Element, Lattice, Structure

from definet_flows.defects.sites.symmetry import point_keys, primitive_cell, site_operations
from definet_flows.errors import InputError
from definet_flows.hosts.layer import layer_gap
from definet_flows.hosts.radii import covalent_radius
from definet_flows.schemas import FloatArray, Host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.analysis.defects.generators import VoronoiInterstitialGenerator

IntArray = npt.NDArray[np.int64]

_LAYER = 2
_SNAP = 0.3  # Å; a candidate this near its own symmetry image is meant to lie on the symmetry element
_APART = 0.5  # Å; candidates nearer than this are the same (the clustering radius of the Voronoi generator)
_INSIDE = 0.1  # Å beyond the outermost atoms of a layer that still counts as inside
_ABOVE = 1.0  # Å; an adatom is at least this far outside the outermost atoms
_EMPTY = 30.0  # Å; vacuum of the slab on which adatom sites are sought
_FACE = 0.9  # Å below the outermost atom that still belong to a layer's face, as in pymatgen's AdsorbateSiteFinder
_IMAGES = 4  # of the primitive cell on each side, so that the Voronoi diagram of its middle is complete
_REACH = 8.0  # Å; more than any sum of covalent radii, with the layer's atoms below
_SAME = 1e-6  # fractional; keeps the lowest atom at the bottom when its coordinate is rounded down
_ROUNDS = 10
_EXACT = 1e-12  # Å


@dataclass(frozen=True, eq=False)
class CandidateSites:
    """Where an element may be inserted in a supercell; all symmetry images, in canonical order."""

    frac_coords: FloatArray
    """[n, 3]"""
    orbit: IntArray
    """Index of the inequivalent candidate that each candidate is an image of, [n]."""
    adatom: npt.NDArray[np.bool_]
    """Whether it lies outside a layer, [n]."""

    def __len__(self) -> int:
        return len(self.orbit)

    def at(self, row: int) -> FloatArray:
        """Return the fractional coordinates of one candidate, [3].

        Raises
        ------
        InputError
            If there is no such row.
        """
        if not 0 <= row < len(self):
            msg = f"candidate position {row} does not exist: there are {len(self)}, counted from 0"
            raise InputError(msg)
        return np.asarray(self.frac_coords[row])


def candidate_sites(host: Host, element: str) -> CandidateSites:
    """Return the candidate positions of an inserted atom.

    Interstitials: the nodes of the Voronoi tessellation of the primitive cell, from pymatgen-analysis-defects; in
    layers only those between the outermost atoms, because nodes in the vacuum mean nothing. Adatoms, on both faces of
    a layer: on top, bridge and hollow sites, at the sum of covalent radii (Cordero) from the nearest atom. They are
    read off the Voronoi diagram of the outermost atoms, which is unique where the triangulation of other site finders
    is not (in a hexagon, say). A candidate next to a symmetry element is put onto it, then completed to its orbit.

    Parameters
    ----------
    host
        The supercell.
    element
        Symbol of the inserted element; the height of an adatom depends on it.

    Raises
    ------
    InputError
        If pymatgen-analysis-defects is not installed, or there is no candidate.
    """
    return _candidates(host.model_dump_json(exclude={"provenance"}), element)


@lru_cache(maxsize=8)
def _candidates(host_json: str, element: str) -> CandidateSites:
    host = Host.model_validate_json(host_json)
    unit = primitive_cell(host)
    found = [(point, False) for point in _interstitials(unit, layer=host.dimensionality == _LAYER)]
    if host.dimensionality == _LAYER:
        found += [(point, True) for point in _adatoms(unit, element)]
    orbits = _distinct(host, found)
    if not orbits:
        msg = f"defect {element}_i: no candidate position found in host {host.formula}"
        raise InputError(msg)
    frac = np.concatenate([orbit for orbit, _ in orbits])
    label = np.repeat(np.arange(len(orbits)), [len(orbit) for orbit, _ in orbits])
    adatom = np.array([outside for _, outside in orbits])[label]
    order = np.lexsort(point_keys(frac).T[::-1])
    result = CandidateSites(frac_coords=frac[order], orbit=label[order], adatom=adatom[order])
    for array in (result.frac_coords, result.orbit, result.adatom):
        array.setflags(write=False)
    return result


def _generator() -> VoronoiInterstitialGenerator:
    try:
        from pymatgen.analysis.defects.generators import VoronoiInterstitialGenerator  # noqa: PLC0415
    except ImportError as error:
        msg = "inserted atoms need pymatgen-analysis-defects: pip install -e '.[defects]' in the clone of definet_flows"
        raise InputError(msg) from error
    return VoronoiInterstitialGenerator()


def _interstitials(unit: Structure, *, layer: bool) -> FloatArray:
    """Return Voronoi nodes, Cartesian, Å, [n, 3]."""
    generator = _generator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib announces errors of later versions
        defects = list(generator.generate(unit, ["H"], oxi_state=0))  # the nodes do not depend on the element
    frac = np.array([site.frac_coords for defect in defects for site in defect.equivalent_sites]).reshape(-1, 3)
    cartesian = frac @ unit.lattice.matrix
    if not layer:
        return np.asarray(cartesian)
    frame, slab = _slab(unit)
    depth = (cartesian - slab[0]) @ frame[2] - ((slab - slab[0]) @ frame[2]).min() + _INSIDE
    axis, _, _ = layer_gap(unit)
    period = unit.lattice.matrix[axis] @ frame[2]
    return np.asarray(cartesian[depth % period < np.ptp(slab @ frame[2]) + 2 * _INSIDE])


def _slab(unit: Structure) -> tuple[FloatArray, FloatArray]:
    """Return a frame (rows: two in-plane directions, the normal) and the layer's atoms in one piece, Cartesian, Å."""
    axis, _, bottom = layer_gap(unit)
    first, second = unit.lattice.matrix[(axis + 1) % 3], unit.lattice.matrix[(axis + 2) % 3]
    normal = np.cross(first, second) / np.linalg.norm(np.cross(first, second))
    along = first / np.linalg.norm(first)
    frac = unit.frac_coords.copy()
    frac[:, axis] = bottom + (frac[:, axis] - bottom + _SAME) % 1.0 - _SAME
    return np.array([along, np.cross(normal, along), normal]), frac @ unit.lattice.matrix


def _adatoms(unit: Structure, element: str) -> FloatArray:
    """Return on top, bridge and hollow sites of both faces, Cartesian, Å, [n, 3]."""
    axis, _, _ = layer_gap(unit)
    frame, slab = _slab(unit)
    in_plane = unit.lattice.matrix[[(axis + 1) % 3, (axis + 2) % 3]] @ frame.T
    found = []
    for side in (1.0, -1.0):  # the lower face is mirrored to the top
        mirror = np.array([1.0, 1.0, side])
        local = slab @ frame.T * mirror
        lattice = Lattice([*in_plane, [0.0, 0.0, np.ptp(local[:, 2]) + _EMPTY]])
        face = Structure(lattice, unit.species, local, coords_are_cartesian=True)
        outer = local[local[:, 2] > local[:, 2].max() - _FACE, :2]
        found += [_lifted(point, face, element) * mirror @ frame for point in _over(outer, in_plane[:, :2])]
    return np.array(found)


def _over(atoms: FloatArray, cell: FloatArray) -> FloatArray:
    """Return the points over atoms (on top), ridges (bridge) and vertices (hollow) of their Voronoi diagram, [n, 2].

    A ridge without length is no bridge: its atoms face each other across a hollow with more than three corners.
    """
    from scipy.spatial import Voronoi  # noqa: PLC0415 - a third of a second to import

    shifts = np.stack(np.meshgrid(*[np.arange(-_IMAGES, _IMAGES + 1)] * 2), axis=-1).reshape(-1, 2) @ cell
    points = (atoms[None] + shifts[:, None]).reshape(-1, 2)
    diagram = Voronoi(points)
    ends = np.array(diagram.ridge_vertices)
    length = np.linalg.norm(diagram.vertices[ends[:, 0]] - diagram.vertices[ends[:, 1]], axis=1)
    bridges = points[diagram.ridge_points[(ends.min(axis=1) >= 0) & (length > _SNAP)]].mean(axis=1)
    found = np.concatenate([points, bridges, diagram.vertices])
    frac = found @ np.linalg.inv(cell)
    return np.asarray(found[np.all((frac > -_SAME) & (frac < 1 + _SAME), axis=1)])


def _lifted(point: FloatArray, face: Structure, element: str) -> FloatArray:
    """Return the point above which `element` touches the nearest atom below: sum of covalent radii."""
    top = float(face.cart_coords[:, 2].max())
    heights = [top + _ABOVE]
    for atom in face.get_sites_in_sphere(np.array([point[0], point[1], top]), _REACH):
        contact = covalent_radius(Element(element).Z) + covalent_radius(atom.specie.Z)
        lateral = float(np.linalg.norm(atom.coords[:2] - point[:2]))
        if lateral < contact:
            heights.append(float(atom.coords[2] + np.sqrt(contact**2 - lateral**2)))
    return np.array([point[0], point[1], max(heights)])


def _distinct(host: Host, found: Iterable[tuple[FloatArray, bool]]) -> list[tuple[FloatArray, bool]]:
    """Return the orbits of the points in the supercell, each once; fractional coordinates, smallest orbit first."""
    cell = np.array(host.lattice)
    snapped = [(_orbit(host, _on_symmetry(host, point)), outside) for point, outside in found]
    orbits: list[tuple[FloatArray, bool]] = []
    for orbit, outside in sorted(snapped, key=lambda item: (item[1], len(item[0]), point_keys(item[0][0]).tolist())):
        known = np.concatenate([frac for frac, _ in orbits]) if orbits else np.empty((0, 3))
        if Lattice(cell).get_all_distances(orbit[:1], np.vstack([known, orbit[1:]])).min(initial=np.inf) > _APART:
            orbits.append((orbit, outside))
    return orbits


def _on_symmetry(host: Host, point: FloatArray) -> FloatArray:
    """Return the mean of the images within 0.3 Å of a Cartesian point: it is invariant under what maps them."""
    cell = np.array(host.lattice)
    inverse = np.linalg.inv(cell)
    for _ in range(_ROUNDS):
        delta = site_operations(host).points(host, (point @ inverse)[None])[:, 0] - point @ inverse
        delta = (delta - np.rint(delta)) @ cell
        shift = delta[np.linalg.norm(delta, axis=1) < _SNAP].mean(axis=0)
        point = point + shift
        if np.linalg.norm(shift) < _EXACT:
            break
    return point


def _orbit(host: Host, point: FloatArray) -> FloatArray:
    """Return all images of a Cartesian point in the supercell, fractional, [n, 3], in canonical order."""
    frac = (point @ np.linalg.inv(np.array(host.lattice)))[None]
    images = site_operations(host).points(host, frac)[:, 0]
    _, first = np.unique(point_keys(images), axis=0, return_index=True)
    return np.asarray(images[first] % 1.0 % 1.0)
