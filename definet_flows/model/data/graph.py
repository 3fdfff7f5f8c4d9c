"""Neighbour graphs of crystals: built once from the unrelaxed positions, by vesin."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from vesin import NeighborList

from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import ListEdges, TableEdges
from definet_flows.schemas import FloatArray

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data

_SHELL = 1e-3
"""Å: distances closer than this belong to the same shell."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Directed edges j -> i of one crystal, sorted by centre, then distance.

    Attributes
    ----------
    centres, neighbours : ndarray
        Node indices i and j, [E].
    images : ndarray
        Integer image offset S of the neighbour, [E, 3]: r_j + S.cell - r_i points from i to j.
    kept : ndarray
        False for an edge that exists only because its reverse was kept under the cap, [E].
    """

    n_sites: int
    centres: IntArray
    neighbours: IntArray
    images: IntArray
    kept: npt.NDArray[np.bool_]


def find_neighbours(lattice: FloatArray, positions: FloatArray, config: NetworkConfig) -> Neighbours:
    """Find neighbours within the cutoff, at most `max_neighbours` nearest per centre, in whole shells.

    A shell of equal distances that the cap would cut is dropped whole: otherwise the network would not be equivariant.
    Where an edge is kept in one direction only, both are listed and the other has `kept` False.

    Parameters
    ----------
    lattice : ndarray
        Lattice vectors as rows, Å, [3, 3].
    positions : ndarray
        Cartesian positions, Å, [n_sites, 3].
    """
    search = NeighborList(cutoff=config.cutoff, full_list=True)
    i, j, shifts, distance = search.compute(
        points=np.ascontiguousarray(positions), box=np.ascontiguousarray(lattice), periodic=True, quantities="ijSd"
    )
    order = np.lexsort((j, np.round(distance / _SHELL), i))
    i, j, shifts, distance = (a[order] for a in (i.astype(np.int64), j.astype(np.int64), shifts, distance))
    kept = _within_cap(i, distance, len(positions), config.max_neighbours)
    if not kept.all():
        reverse = _reverse(i, j, shifts)
        listed = kept | kept[reverse]
        i, j, shifts, kept = i[listed], j[listed], shifts[listed], kept[listed]
    return Neighbours(len(positions), i, j, np.rint(shifts).astype(np.int64), kept)


def _within_cap(i: IntArray, distance: FloatArray, n_sites: int, cap: int) -> npt.NDArray[np.bool_]:
    """Mark the edges (sorted by centre, then distance) that survive the cap, whole shells only."""
    kept = np.ones(len(i), dtype=bool)
    starts = np.searchsorted(i, np.arange(n_sites + 1))
    for begin, end in pairwise(starts.tolist()):
        if end - begin > cap:
            edge_of_cap = distance[begin + cap]
            kept[begin:end] = distance[begin:end] < edge_of_cap - _SHELL
    return kept


def _reverse(i: IntArray, j: IntArray, shifts: npt.NDArray[np.int64]) -> IntArray:
    """Index of the reversed edge (j, i, -S) of each edge (i, j, S)."""
    forward = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))
    backward = np.lexsort((-shifts[:, 2], -shifts[:, 1], -shifts[:, 0], i, j))
    reverse = np.empty(len(i), dtype=np.int64)
    reverse[backward] = forward
    return reverse


def table_edges(
    found: Neighbours, lattice: FloatArray, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> TableEdges:
    """Arrange neighbours as one padded table [N, M], for a batch of configurations of one supercell."""
    n, centres = found.n_sites, found.centres
    starts = np.searchsorted(centres, np.arange(n))
    slot = np.arange(len(centres)) - starts[centres]
    width = int(slot.max(initial=0)) + 1
    flat = centres * width + slot
    table = np.repeat(np.arange(n), width)
    table[flat] = found.neighbours
    reverse = np.arange(n * width)
    reverse[flat] = flat[_reverse(centres, found.neighbours, found.images)]
    shift = np.zeros((n * width, 3))
    shift[flat] = found.images @ lattice
    mask = np.zeros((n * width, 1))
    mask[flat, 0] = found.kept
    return TableEdges(
        table=torch.as_tensor(table.reshape(n, width), device=device),
        shift=torch.as_tensor(shift.reshape(n, width, 3), dtype=dtype, device=device),
        reverse=torch.as_tensor(reverse.reshape(n, width), device=device),
        mask=None if mask.all() else torch.as_tensor(mask.reshape(n, width, 1), dtype=dtype, device=device),
    )


def crystal(found: Neighbours, lattice: FloatArray, positions: FloatArray, dtype: torch.dtype) -> Data:
    """Return one crystal as torch-geometric Data, to be batched with others of any host.

    Fields: `edge_index` (j, i), int64 [2, E]; `shift` Å, [E, 3]; `pos` Å, [n, 3].
    """
    from torch_geometric.data import Data  # noqa: PLC0415 - two seconds to import, of batches of several hosts only

    kept = found.kept
    return Data(
        edge_index=torch.as_tensor(np.stack([found.neighbours[kept], found.centres[kept]])),
        shift=torch.as_tensor(found.images[kept] @ lattice, dtype=dtype),
        pos=torch.as_tensor(positions, dtype=dtype),
        num_nodes=found.n_sites,
    )


def list_edges(batch: Batch) -> ListEdges:
    """Return the edges of a torch-geometric batch of crystals."""
    senders, receivers = batch.edge_index
    return ListEdges(senders, receivers, batch.shift, batch.batch, batch.num_graphs)
