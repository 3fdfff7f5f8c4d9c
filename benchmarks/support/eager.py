"""The yardstick: DefiNet in its plain form, as a first version is written, and as published checkpoints were trained.

torch-geometric batches, every one of the K Gaussians on every edge, edge lists per structure, index_add, eager. It has
the same layers as the package and gives the same positions, so that what `benchmarks/speed.py` compares is the form of
the computation alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.data import Batch

from definet_flows.model.data.graph import crystal, find_neighbours
from definet_flows.model.network.edges import ListEdges, Radial

if TYPE_CHECKING:
    from torch import Tensor

    from definet_flows.model.network.config import NetworkConfig
    from definet_flows.model.network.radial import RadialBasis
    from definet_flows.schemas import Host


class PlainRadial(Radial):
    """All K Gaussians, however far their centres."""

    @cached_property
    def features(self) -> Tensor:
        """Gaussians times envelope, [E, K]."""
        u = (self.distance / self.basis.extent).unsqueeze(-1)
        envelope = torch.where(u < 1, 1 - 21 * u**5 + 35 * u**6 - 15 * u**7, torch.zeros_like(u))
        return torch.exp(-0.5 * (u / self.basis.spacing - self.basis.index) ** 2) * envelope


@dataclass(frozen=True)
class PlainEdges(ListEdges):
    """An edge list on which every Gaussian is evaluated."""

    def radial(self, distance: Tensor, basis: RadialBasis) -> Radial:
        """See `Edges.radial`."""
        return PlainRadial(distance, basis)


def plain_batch(host: Host, n: int, config: NetworkConfig) -> tuple[Tensor, PlainEdges]:
    """Return positions [n * n_sites, 3] and edges of n structures of one host, each with a list of its own."""
    cell, positions = np.array(host.lattice), host.cartesian
    found = [find_neighbours(cell, positions, config) for _ in range(n)]
    batch = Batch.from_data_list([crystal(f, cell, positions, torch.float32) for f in found])
    senders, receivers = batch.edge_index
    return batch.pos, PlainEdges(senders, receivers, batch.shift, batch.batch, batch.num_graphs)
