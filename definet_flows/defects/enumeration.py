"""All symmetry-inequivalent placements of all compositions that the choices allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Lattice

from definet_flows.defects.build import edit_of
from definet_flows.defects.charges import charges_of
from definet_flows.defects.kinds import Choices, DefectKind, check_kinds
from definet_flows.defects.placement import BoolArray, IntArray, SiteGroup, minimal_sets
from definet_flows.defects.symmetry import site_operations
from definet_flows.errors import InputError
from definet_flows.schemas import Configuration, Edit, Frozen, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Slot:
    """One color (what replaces what) and the sites it may take."""

    kind: DefectKind
    sites: IntArray


class ClassCount(Frozen):
    """How many configurations have the same defects."""

    name: str
    n_defects: int
    configurations: int
    """Symmetry-inequivalent placements."""
    placements: int
    """All placements, symmetry-equivalent ones included: the sum of the multiplicities."""


def enumerate_configurations(host: Host, choices: Choices) -> Iterator[Configuration]:
    """Yield every symmetry-inequivalent configuration once, in its canonical placement, with its multiplicity.

    Equivalence is under the full space group of the supercell (point operations times the translations inside it).
    Ordered by number of defects, then composition, then placement. Memory does not grow with the number of
    configurations.

    Raises
    ------
    InputError
        If the host lacks an element or a site of `choices`, or nothing limits the number of defects.

    Examples
    --------
    >>> from definet_flows.hosts import make_host
    >>> host = make_host("MoS2", (4, 4, 1))
    >>> [c.name for c in enumerate_configurations(host, Choices(defects=("v_S", "W_Mo")))]
    ['v_S', 'W_Mo']
    """
    slots = find_slots(host, choices)
    for counts in compositions(slots, choices):
        charges = charges_of(host, choices, [(slot.kind, n) for slot, n in zip(slots, counts, strict=True) if n])
        edits = _edit_maker(slots, counts)
        for placement, multiplicity in placements(host, slots, counts, choices):
            for charge in charges:
                yield Configuration(edits=edits(placement), charge=charge, multiplicity=multiplicity)


def count_by_class(host: Host, choices: Choices) -> tuple[ClassCount, ...]:
    """Return the numbers of configurations and of placements for each combination of defects.

    Charge states are not counted. Raises as `enumerate_configurations`.
    """
    slots = find_slots(host, choices)
    order = len(_site_group(host))
    rows = []
    for counts in compositions(slots, choices):
        configurations = total = 0
        for _, stabilizers in _batches(host, slots, counts, choices):
            configurations += len(stabilizers)
            total += int((order // stabilizers).sum())
        if configurations:
            edits = _edit_maker(slots, counts)([0] * sum(counts))
            row = ClassCount(
                name=Configuration(edits=edits).name,
                n_defects=len(edits),
                configurations=configurations,
                placements=total,
            )
            rows.append(row)
    return tuple(rows)


def find_slots(host: Host, choices: Choices) -> tuple[Slot, ...]:
    """Return the colors of the choices in canonical order, each with its sites.

    Raises
    ------
    InputError
        For a kind that the host cannot have.
    """
    check_kinds(host, choices.kinds)
    inserted = [kind.name for kind in choices.kinds if kind.old is None]
    if inserted:
        msg = f"defect {inserted[0]}: inserted atoms need candidate positions; see definet_flows.defects.interstitials"
        raise InputError(msg)
    permutations = site_operations(host).permutations
    numbers = np.array(host.numbers)
    allowed: dict[tuple[int, int], BoolArray] = {}
    for kind in choices.kinds:
        mask = numbers == kind.old
        if kind.site is not None:
            mask = np.isin(np.arange(host.n_sites), permutations[:, kind.site])
        allowed[kind.color] = allowed.get(kind.color, np.zeros_like(mask)) | mask
    return tuple(
        Slot(kind=DefectKind(new=new or None, old=old), sites=np.flatnonzero(mask))
        for (old, new), mask in sorted(allowed.items())
    )


def compositions(slots: Sequence[Slot], choices: Choices) -> list[tuple[int, ...]]:
    """Return how many of each slot a configuration may have, by total number, then composition."""
    most = choices.limit()
    elements = [Element.from_Z(slot.kind.old or 0).symbol for slot in slots]
    found = [counts for counts in _counts(slots, elements, choices, most) if sum(counts) >= choices.min_defects]
    return sorted(found, key=lambda counts: (sum(counts), [-n for n in counts]))


def _counts(slots: Sequence[Slot], elements: Sequence[str], choices: Choices, most: int) -> list[tuple[int, ...]]:
    """Return all counts within the limits, the last slots first: no branch is opened that the total forbids."""
    if not slots:
        return [()]
    slot, element = slots[-1], elements[-1]
    limits = [len(slot.sites), choices.max_per_kind.get(slot.kind.name, most), choices.max_on.get(element, most)]
    found = []
    for before in _counts(slots[:-1], elements[:-1], choices, most):
        on_element = sum(n for name, n in zip(elements, before, strict=False) if name == element)
        left = min(*limits, limits[-1] - on_element, most - sum(before))
        found += [(*before, n) for n in range(left + 1)]
    return found


def placements(
    host: Host, slots: Sequence[Slot], counts: Sequence[int], choices: Choices
) -> Iterator[tuple[list[int], int]]:
    """Yield the canonical placements of one composition: site indices slot by slot, and the multiplicity."""
    order = len(_site_group(host))
    for batch, stabilizers in _batches(host, slots, counts, choices):
        yield from zip(batch.tolist(), (order // stabilizers).tolist(), strict=True)


def _site_group(host: Host) -> SiteGroup:
    """Return the supercell's operations as permutations, each once: the mirror of a flat layer moves no site."""
    return SiteGroup(np.unique(site_operations(host).permutations, axis=0))


def _batches(
    host: Host, slots: Sequence[Slot], counts: Sequence[int], choices: Choices
) -> Iterator[tuple[IntArray, IntArray]]:
    group = _site_group(host)
    compatible = compatible_pairs(host, choices)
    used = [(slot.sites, n) for slot, n in zip(slots, counts, strict=True) if n]
    yield from _fill(group, used, np.empty(0, dtype=np.int64), compatible)


def _fill(
    group: SiteGroup, slots: Sequence[tuple[IntArray, int]], taken: IntArray, compatible: BoolArray | None
) -> Iterator[tuple[IntArray, IntArray]]:
    """Fill slot after slot: orbits on pairs (A, B) are, for each orbit of A, the orbits of A's stabilizer on B."""
    if not slots:
        yield taken[None], np.array([len(group)])
        return
    (sites, size), rest = slots[0], slots[1:]
    free = np.setdiff1d(sites, taken)
    if compatible is not None and len(taken):
        free = free[compatible[taken][:, free].all(axis=0)]
    for sets, stabilizers in minimal_sets(group, free, size, compatible):
        if not rest:
            yield np.concatenate([np.broadcast_to(taken, (len(sets), len(taken))), sets], axis=1), stabilizers
            continue
        for chosen in sets:
            yield from _fill(group.fixing(chosen), rest, np.concatenate([taken, chosen]), compatible)


def compatible_pairs(host: Host, choices: Choices) -> BoolArray | None:
    """Return which pairs of sites the distance limits allow, [n_sites, n_sites]; None if there is no limit."""
    if choices.min_distance is None and choices.max_distance is None:
        return None
    frac = np.array(host.frac_coords)
    distance = Lattice(host.lattice).get_all_distances(frac, frac)
    slack = 1e-4  # Å; equal shells must not be split by rounding
    lower = -1.0 if choices.min_distance is None else choices.min_distance - slack
    upper = np.inf if choices.max_distance is None else choices.max_distance + slack
    return np.asarray((distance >= lower) & (distance <= upper))


class _EditMaker:
    """Makes the edits of one composition; an edit that occurs again is the same object."""

    def __init__(self, kinds: Sequence[DefectKind]) -> None:
        self.kinds = kinds
        self.made: dict[tuple[int, DefectKind], Edit] = {}

    def __call__(self, sites: Sequence[int]) -> tuple[Edit, ...]:
        return tuple(self._edit(site, kind) for site, kind in zip(sites, self.kinds, strict=True))

    def _edit(self, site: int, kind: DefectKind) -> Edit:
        key = (site, kind)
        if key not in self.made:
            self.made[key] = edit_of(kind, site)
        return self.made[key]


def _edit_maker(slots: Sequence[Slot], counts: Sequence[int]) -> _EditMaker:
    return _EditMaker([slot.kind for slot, n in zip(slots, counts, strict=True) for _ in range(n)])
