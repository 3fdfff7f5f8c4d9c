"""Where defects may go in a supercell: its sites, then the candidate positions of inserted atoms."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Element, Lattice

from definet_flows.defects.build import edit_of
from definet_flows.defects.kinds import Choices, DefectKind, check_kinds
from definet_flows.defects.sites.interstitials import candidate_sites
from definet_flows.defects.sites.orbits import BoolArray, IntArray, SiteGroup
from definet_flows.defects.sites.symmetry import permute_points, site_operations, stored_point
from definet_flows.errors import InputError
from definet_flows.hosts.radii import covalent_radius
from definet_flows.schemas import INSERTED, Edit, FloatArray, Host

if TYPE_CHECKING:
    from collections.abc import Sequence

_SLACK = 1e-4  # Å; equal shells must not be split by rounding
_BLOCK = 1_000_000  # distances at once; 24 MB of vectors
_OVERLAP = 0.72  # share of the sum of covalent radii: no relaxed structure has two atoms nearer than that


@dataclass(frozen=True)
class Slot:
    """One kind of defect and the places it may take, ascending."""

    kind: DefectKind
    places: IntArray


@dataclass(frozen=True, eq=False)
class CandidatePlaces:
    """Sites and candidate positions by one index: a place below `n_sites` is a pristine site."""

    n_sites: int
    frac_coords: FloatArray
    """[n_places, 3]"""
    group: SiteGroup
    """The supercell's operations as permutations of the places, each once."""
    slots: tuple[Slot, ...]
    """In canonical order: kinds on sites by old, then new atomic number; then inserted atoms."""
    compatible: BoolArray | None
    """Which pairs of places the distance limits allow, [n_places, n_places]; None: all."""

    def edit(self, kind: DefectKind, place: int) -> Edit:
        """Return the edit that places a kind."""
        if place < self.n_sites:
            return edit_of(kind, place)
        return Edit(marker=INSERTED, new=kind.new, position=stored_point(self.frac_coords[place]))


def find_places(host: Host, choices: Choices) -> CandidatePlaces:
    """Return the places and kinds that the choices allow.

    Raises
    ------
    InputError
        For a kind that the host cannot have.
    """
    check_kinds(host, choices.kinds)
    frac, permutations = np.array(host.frac_coords), site_operations(host).permutations
    colors = [(number, 0) for number in host.numbers]  # what is edited there, and what is inserted there
    for new in sorted({kind.new for kind in choices.kinds if kind.old is None and kind.new is not None}):
        candidates = candidate_sites(host, str(Element.from_Z(new).symbol)).frac_coords
        type_ = np.min_scalar_type(len(frac) + len(candidates))
        moved = permute_points(host, candidates).astype(type_) + np.array(len(frac), dtype=type_)
        permutations = np.hstack([permutations.astype(type_), moved])
        frac = np.concatenate([frac, candidates])
        colors += [(0, new)] * len(candidates)
    table = np.array(colors)
    return CandidatePlaces(
        n_sites=host.n_sites,
        frac_coords=frac,
        group=SiteGroup(_distinct(permutations)),
        slots=_slots(choices.kinds, table, permutations),
        compatible=_compatible(host, choices, frac, table[:, 1]),
    )


def _distinct(permutations: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Return each permutation once; without sorting, which would take several times the memory."""
    first = {hashlib.sha256(row.tobytes()).digest(): k for k, row in reversed(list(enumerate(permutations)))}
    return permutations if len(first) == len(permutations) else permutations[sorted(first.values())]


def _slots(kinds: Sequence[DefectKind], colors: IntArray, permutations: npt.NDArray[np.integer]) -> tuple[Slot, ...]:
    allowed: dict[DefectKind, BoolArray] = {}
    for kind in kinds:
        mask = colors[:, 1] == kind.new if kind.old is None else colors[:, 0] == kind.old
        if kind.site is not None:
            place = _place_of(kind, np.flatnonzero(mask))
            mask = np.isin(np.arange(len(colors)), permutations[:, place])
        plain = kind.model_copy(update={"site": None})
        allowed[plain] = allowed.get(plain, np.zeros_like(mask)) | mask
    ordered = sorted(allowed, key=lambda kind: (kind.old is None, kind.color))
    return tuple(Slot(kind=kind, places=np.flatnonzero(allowed[kind])) for kind in ordered)


def _place_of(kind: DefectKind, candidates: IntArray) -> int:
    """Return the place that `v_S@12` (a site) or `Li_i@3` (a candidate of that element) means."""
    if kind.site is None or kind.old is not None:
        return kind.site or 0
    if kind.site >= len(candidates):
        msg = f"defect {kind.name}@{kind.site}: there are {len(candidates)} candidate positions, counted from 0"
        raise InputError(msg)
    return int(candidates[kind.site])


def _compatible(host: Host, choices: Choices, frac: FloatArray, inserted: IntArray) -> BoolArray | None:
    """Return which pairs of places the distance limits allow; inserted atoms must not overlap either."""
    if choices.min_distance is None and choices.max_distance is None and not inserted.any():
        return None
    lattice = Lattice(host.lattice)
    lower = -1.0 if choices.min_distance is None else choices.min_distance - _SLACK
    upper = np.inf if choices.max_distance is None else choices.max_distance + _SLACK
    radii = np.array([covalent_radius(z) if z else 0.0 for z in inserted.tolist()])
    compatible = np.empty((len(frac), len(frac)), dtype=bool)
    for rows in np.array_split(np.arange(len(frac)), 1 + len(frac) ** 2 // _BLOCK):
        distance = lattice.get_all_distances(frac[rows], frac)
        both = (inserted[rows, None] > 0) & (inserted[None] > 0)
        overlap = both & (distance < _OVERLAP * (radii[rows, None] + radii[None]))
        compatible[rows] = (distance >= lower) & (distance <= upper) & ~overlap
    return compatible
