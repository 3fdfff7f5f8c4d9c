"""Training batches: configurations of one host at a time, so that a batch shares one neighbour table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from definet_flows.model.data.archive import PairSet
from definet_flows.model.data.graph import find_neighbours, table_edges
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import TableEdges
from definet_flows.schemas import VACANCY, Host, Vector


@dataclass(frozen=True)
class Lattice:
    """Where the rows of one host's configurations start, and their neighbour table."""

    positions: Tensor  # Å, [1, N, 3]; pristine sites, then inserted atoms
    edges: TableEdges

    def to(self, device: torch.device, dtype: torch.dtype) -> Lattice:
        """Return the lattice on another device, in another precision."""
        return Lattice(self.positions.to(device, dtype), self.edges.to(device, dtype))

    def fused(self) -> Lattice:
        """Return the lattice with compiled edge operations, where they are to be had."""
        return Lattice(self.positions, self.edges.fused())


def lattice_of(host: Host, config: NetworkConfig, inserted: Sequence[Vector] = ()) -> Lattice:
    """Build the neighbour table of a bulk supercell, float64 on the CPU.

    inserted are the fractional coordinates of atoms that all configurations on this lattice insert, [n_inserted, 3].
    """
    cell = np.array(host.lattice)
    positions = np.concatenate([host.cartesian, np.reshape(inserted, (-1, 3)) @ cell])
    edges = table_edges(find_neighbours(cell, positions, config), cell, dtype=torch.float64)
    return Lattice(torch.as_tensor(positions)[None], edges)


class Batch(NamedTuple):
    """Configurations of one set."""

    set_index: int
    indices: Tensor  # entries of the set, int64 [B]
    numbers: Tensor  # int64 [B, N]
    markers: Tensor  # int64 [B, N]
    target: Tensor  # relaxed minus pristine position, Å, [B, N, 3]
    atoms: Tensor  # bool [B, N]; False on placeholders
    charges: Tensor  # net charges, int64 [B]


class PairBatches(Dataset[Batch]):
    """Batches by (set, entries); the sampler says which."""

    def __init__(self, sets: Sequence[PairSet]) -> None:
        self.sets = sets

    def __getitem__(self, key: tuple[int, np.ndarray]) -> Batch:
        """Return the batch of some entries of one set."""
        index, entries = key
        pairs = self.sets[index]
        markers = torch.as_tensor(pairs.markers[entries].astype(np.int64))
        return Batch(
            index,
            torch.as_tensor(entries),
            torch.as_tensor(pairs.numbers[entries].astype(np.int64)),
            markers,
            torch.as_tensor(pairs.relaxed[entries]),
            markers != VACANCY,
            torch.as_tensor(pairs.charges_of(entries)),
        )


class HostSampler(Sampler[tuple[int, np.ndarray]]):
    """Draw batches of one set each, in an order that depends on seed and epoch only.

    Parameters
    ----------
    sets
        The pairs.
    split
        Split to draw from.
    batch
        Configurations a batch.
    per_epoch
        At most so many entries of a set each epoch, drawn anew each time; 0: all.
    drawn
        The same for single sets, by name, instead of `per_epoch`.
    seed
        Seed of the order; None: in order of entry, the same every epoch.
    rank, world
        Share of the batches that this process takes.
    """

    def __init__(
        self,
        sets: Sequence[PairSet],
        split: str,
        *,
        batch: int,
        per_epoch: int = 0,
        drawn: Mapping[str, int] | None = None,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.entries = [s.split(split) for s in sets]
        most = ((drawn or {}).get(s.name, per_epoch) for s in sets)
        self.counts = [min(len(e), m or len(e)) for e, m in zip(self.entries, most, strict=True)]
        self.batch, self.seed, self.rank, self.world = batch, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return sum(-(-n // self.batch) for n in self.counts) // self.world

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (set, entries)."""
        rng = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        drawn: list[tuple[int, np.ndarray]] = []
        for index, (entries, count) in enumerate(zip(self.entries, self.counts, strict=True)):
            chosen = (entries if rng is None else rng.permutation(entries))[:count]
            drawn += [(index, chosen[k : k + self.batch]) for k in range(0, len(chosen), self.batch)]
        order = np.arange(len(drawn)) if rng is None else rng.permutation(len(drawn))
        for k in order[self.rank : len(self) * self.world : self.world]:
            yield drawn[k]
