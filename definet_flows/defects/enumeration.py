"""All symmetry-inequivalent placements of all compositions that the choices allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.defects.charges import charges_of
from definet_flows.defects.sites.candidates import CandidatePlaces, Slot, find_places
from definet_flows.defects.sites.orbits import BoolArray, IntArray, SiteGroup, minimal_sets
from definet_flows.errors import InputError
from definet_flows.schemas import Configuration, Edit, Frozen, Host, joined_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from definet_flows.defects.kinds import Choices, DefectKind


class ClassCount(Frozen):
    """How many configurations have the same defects."""

    name: str
    n_defects: int
    configurations: int
    """Symmetry-inequivalent placements."""
    placements: int
    """All placements, symmetry-equivalent ones included: the sum of the multiplicities."""
    charges: tuple[int, ...] = (0,)
    """Net charges of each configuration, elementary charges."""

    @property
    def charge_states(self) -> int:
        """Number of net charges of each configuration."""
        return len(self.charges)


def enumerate_configurations(host: Host, choices: Choices) -> Iterator[Configuration]:
    """Yield every symmetry-inequivalent configuration once, in its canonical placement, with its multiplicity.

    Equivalence is under the full space group of the supercell (point operations times the translations inside it).
    Ordered by number of defects, then composition, then placement. Memory does not grow with the number of
    configurations.

    Parameters
    ----------
    host
        The bulk supercell, as `make_host` returns it.
    choices
        Which configurations are wanted.

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
    places = find_places(host, choices)
    for counts in compositions(places.slots, choices):
        content = _content(places.slots, counts)
        require_atoms(host, [kind for kind, n in content for _ in range(n)])
        charges = charges_of(host, choices, content)
        edits = _EditMaker(places, counts)
        for placement, multiplicity in placements(places, counts):
            for charge in charges:
                yield Configuration(edits=edits(placement), charge=charge, multiplicity=multiplicity)


def count_by_class(host: Host, choices: Choices) -> tuple[ClassCount, ...]:
    """Return the numbers of configurations and of placements for each combination of defects.

    Charge states are counted apart. Raises as `enumerate_configurations`.

    Parameters
    ----------
    host
        The bulk supercell, as `make_host` returns it.
    choices
        Which configurations are wanted.
    """
    places = find_places(host, choices)
    rows = []
    for counts in compositions(places.slots, choices):
        content = _content(places.slots, counts)
        require_atoms(host, [kind for kind, n in content for _ in range(n)])
        configurations = total = 0
        for _, stabilizers in _batches(places, counts):
            configurations += len(stabilizers)
            total += int((len(places.group) // stabilizers).sum())
        if configurations:
            row = ClassCount(
                name=joined_name(kind.name for kind, n in content for _ in range(n)),
                n_defects=sum(counts),
                configurations=configurations,
                placements=total,
                charges=tuple(charges_of(host, choices, content)),
            )
            rows.append(row)
    return tuple(rows)


def require_atoms(host: Host, kinds: Collection[DefectKind]) -> None:
    """Refuse a configuration without atoms.

    Raises
    ------
    InputError
        If vacancies take all atoms of the supercell.
    """
    if len(kinds) >= host.n_sites and all(kind.new is None for kind in kinds):
        names = joined_name(kind.name for kind in kinds)
        msg = f"{names} leaves no atom of host {host.formula} with {host.n_sites} sites: take a larger supercell"
        raise InputError(msg)


def _content(slots: Sequence[Slot], counts: Sequence[int]) -> list[tuple[DefectKind, int]]:
    return [(slot.kind, n) for slot, n in zip(slots, counts, strict=True) if n]


def compositions(slots: Sequence[Slot], choices: Choices) -> list[tuple[int, ...]]:
    """Return how many of each slot a configuration may have, by total number, then composition."""
    most = choices.limit()
    elements = [slot.kind.on for slot in slots]
    found = [counts for counts in _counts(slots, elements, choices, most) if sum(counts) >= choices.min_defects]
    return sorted(found, key=lambda counts: (sum(counts), [-n for n in counts]))


def _counts(slots: Sequence[Slot], elements: Sequence[str], choices: Choices, most: int) -> list[tuple[int, ...]]:
    """Return all counts within the limits, the last slots first: no branch is opened that the total forbids."""
    if not slots:
        return [()]
    slot, element = slots[-1], elements[-1]
    limits = [len(slot.places), choices.max_per_kind.get(slot.kind.name, most), choices.max_on.get(element, most)]
    found = []
    for before in _counts(slots[:-1], elements[:-1], choices, most):
        on_element = sum(n for name, n in zip(elements, before, strict=False) if name == element)
        left = min(*limits, limits[-1] - on_element, most - sum(before))
        found += [(*before, n) for n in range(left + 1)]
    return found


def placements(places: CandidatePlaces, counts: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Yield the orbits of a composition, each by its canonical placement: places slot by slot, and the multiplicity."""
    order = len(places.group)
    for batch, stabilizers in _batches(places, counts):
        yield from zip(batch.tolist(), (order // stabilizers).tolist(), strict=True)


def _batches(places: CandidatePlaces, counts: Sequence[int]) -> Iterator[tuple[IntArray, IntArray]]:
    used = [(slot.places, n) for slot, n in zip(places.slots, counts, strict=True) if n]
    yield from _fill(places.group, used, np.empty(0, dtype=np.int64), places.compatible)


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


class _EditMaker:
    """Makes the edits of one composition; an edit that occurs again is the same object."""

    def __init__(self, places: CandidatePlaces, counts: Sequence[int]) -> None:
        self.places = places
        self.kinds = [kind for kind, n in _content(places.slots, counts) for _ in range(n)]
        self.made: dict[tuple[int, DefectKind], Edit] = {}

    def __call__(self, placement: Sequence[int]) -> tuple[Edit, ...]:
        return tuple(self._edit(place, kind) for place, kind in zip(placement, self.kinds, strict=True))

    def _edit(self, place: int, kind: DefectKind) -> Edit:
        key = (place, kind)
        if key not in self.made:
            self.made[key] = self.places.edit(kind, place)
        return self.made[key]
