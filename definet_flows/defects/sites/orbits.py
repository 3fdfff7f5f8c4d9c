"""Symmetry-inequivalent subsets of sites, generated in order, without storing what was seen.

Orderly generation (Read, Ann. Discrete Math. 2, 107 (1978), doi:10.1016/S0167-5060(08)70325-X): a set of sites is
*minimal* if no symmetry image, sorted, comes lexicographically before it. Dropping the largest site of a minimal set
leaves a minimal set, so every minimal set is found once by adding ever larger sites to minimal sets. Pair-distance
limits are inherited by subsets and invariant under symmetry, so they prune the same tree.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_CHUNK = 1_000_000  # site indices compared at once; 8 MB per array
_BATCH = 20_000  # combinations handed over at once where there is no symmetry left


class SiteGroup:
    """A group of site permutations, with what is needed to test minimality quickly.

    Parameters
    ----------
    permutations
        All operations of the group, [n_ops, n_sites], of any type of whole numbers.
    """

    def __init__(self, permutations: npt.NDArray[np.integer]) -> None:
        self.permutations = permutations
        self.first = permutations.min(axis=0)
        """Smallest site of each site's orbit, [n_sites]."""

    def __len__(self) -> int:
        return len(self.permutations)

    @cached_property
    def _to_first(self) -> dict[int, IntArray]:
        """For each orbit, by its smallest site: the operations that take each site there, [n_sites, n]."""
        tables = {}
        for first in np.unique(self.first):
            members = np.flatnonzero(self.first == first)
            table = np.zeros((self.permutations.shape[1], len(self) // len(members)), dtype=np.int64)
            for some in np.array_split(members, 1 + len(members) * len(self) // _CHUNK):
                table[some] = np.nonzero(first == self.permutations[:, some].T)[1].reshape(len(some), -1)
            tables[int(first)] = table
        return tables

    def fixing(self, sites: IntArray) -> SiteGroup:
        """Return the subgroup that maps a set of sites (ascending) onto itself."""
        if len(self) == 1 or len(sites) == 0:
            return self
        images = np.sort(self.permutations[:, sites], axis=1)
        return SiteGroup(self.permutations[np.all(images == sites, axis=1)])

    def minimal(self, sets: IntArray) -> tuple[IntArray, IntArray]:
        """Return the minimal ones among sets of sites and the order of the subgroup that fixes each.

        Parameters
        ----------
        sets
            Rows of ascending site indices, [n_sets, n].
        """
        if len(self) == 1 or sets.shape[1] == 0:
            return sets, np.full(len(sets), len(self))
        first = self.first[sets]
        sets, first = _keep(first.min(axis=1) == sets[:, 0], sets, first)
        order = np.zeros(len(sets), dtype=np.int64)
        alive = np.ones(len(sets), dtype=bool)
        for orbit, table in self._to_first.items():
            rows = np.flatnonzero(sets[:, 0] == orbit)
            for chunk in np.array_split(rows, 1 + rows.size * table.shape[1] * sets.shape[1] // _CHUNK):
                alive[chunk], order[chunk] = self._compare(sets[chunk], first[chunk], orbit, table)
        return sets[alive], order[alive]

    def _compare(self, sets: IntArray, first: IntArray, orbit: int, table: IntArray) -> tuple[BoolArray, IntArray]:
        """Compare sets whose smallest site heads `orbit` with all images that contain that site.

        Other images begin with a larger site and cannot be smaller or equal.
        """
        alive = np.ones(len(sets), dtype=bool)
        order = np.zeros(len(sets), dtype=np.int64)
        for column in range(sets.shape[1]):
            rows = np.flatnonzero(alive & (first[:, column] == orbit))
            operations = table[sets[rows, column]]
            images = np.sort(self.permutations[operations[:, :, None], sets[rows, None, :]], axis=2)
            difference = images - sets[rows, None, :]
            leading = np.take_along_axis(difference, (difference != 0).argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
            alive[rows] = ~(leading < 0).any(axis=1)
            order[rows] += (leading == 0).sum(axis=1)
        return alive, order


def _keep(which: BoolArray, *arrays: IntArray) -> tuple[IntArray, ...]:
    return tuple(array[which] for array in arrays)


def minimal_sets(
    group: SiteGroup, sites: IntArray, size: int, compatible: BoolArray | None = None
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield batches of minimal sets of `size` sites, in lexicographic order, and the orders of their stabilizers.

    Parameters
    ----------
    group
        Symmetry under which sets count as the same; it must map `sites` onto itself.
    sites
        Sites that may be chosen, ascending, [n].
    size
        Number of sites in each set.
    compatible
        Which pairs of sites may be together, symmetric under the group, [n_sites, n_sites]; None: all.
    """
    if size == 0:
        yield np.empty((1, 0), dtype=np.int64), np.array([len(group)])
    elif len(group) == 1 and compatible is None:
        combinations = itertools.combinations(sites.tolist(), size)
        while batch := list(itertools.islice(combinations, _BATCH)):
            yield np.array(batch, dtype=np.int64), np.ones(len(batch), dtype=np.int64)
    else:
        for parents, _ in minimal_sets(group, sites, size - 1, compatible):
            for chunk in np.array_split(parents, 1 + len(parents) * len(sites) // _BATCH):
                sets, orders = group.minimal(_extend(chunk, sites, compatible))
                if len(sets):
                    yield sets, orders


def _extend(parents: IntArray, sites: IntArray, compatible: BoolArray | None) -> IntArray:
    """Add to each parent every site that is larger than its own and compatible with them."""
    allowed = np.ones((len(parents), len(sites)), dtype=bool)
    if parents.shape[1]:
        allowed &= sites[None] > parents[:, -1:]
        if compatible is not None:
            allowed &= compatible[parents][:, :, sites].all(axis=1)
    parent, site = np.nonzero(allowed)
    return np.concatenate([parents[parent], sites[site][:, None]], axis=1)
