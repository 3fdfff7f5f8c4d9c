"""DefiNet: marked crystal in, relaxed positions out (doi:10.1038/s41524-025-01728-w).

One network, two forms of edges: see `definet_flows.model.network.edges`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import DefectGate, Edges
from definet_flows.model.network.layers import (
    CoordinateUpdate,
    GlobalScalar,
    GlobalVector,
    MessagePassing,
    SelfUpdate,
    edge_state,
)
from definet_flows.model.network.radial import RadialBasis
from definet_flows.schemas import PRISTINE, VACANCY

_ENCODED = 2  # numbers that a charge is to the network
_Layer = tuple[GlobalScalar, GlobalVector, MessagePassing, SelfUpdate, CoordinateUpdate]


class _Table(nn.Module):
    """Embedding table, uniform in +-sqrt(3), named as published checkpoints name it."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(rows, width)
        nn.init.uniform_(self.embeddings.weight, -math.sqrt(3), math.sqrt(3))

    def forward(self, index: Tensor) -> Tensor:
        """[*n] -> [*n, F]."""
        out: Tensor = self.embeddings(index)
        return out


class _ChargeEncoding(nn.Module):
    """What a net charge q adds to the scalars of edited sites: a linear map of [q, |q|], nothing to a neutral cell.

    Other sites hear of it by messages, so that atoms far from the defects do not read it. It starts at zero: a network
    that learned neutral cells takes charged cells for neutral until it learns.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, _ENCODED))

    def forward(self, charges: Tensor, markers: Tensor, edges: Edges) -> Tensor:
        """Net charges, elementary charges, [B], and markers [*n] -> [*n, F], zero where the host is as it was."""
        q = charges.to(self.weight)
        of_charge = functional.linear(torch.stack([q, q.abs()], -1), self.weight)  # [B, F]
        spread = edges.spread(of_charge.unsqueeze(1) if markers.dim() > 1 else of_charge)  # broadcastable to [*n, F]
        return (markers != PRISTINE).unsqueeze(-1) * spread


class DefiNet(nn.Module):
    """Defect-informed equivariant network.

    Parameters
    ----------
    config : NetworkConfig
        Shape of the network.

    Examples
    --------
    >>> network = DefiNet(NetworkConfig(hidden=64))
    >>> relaxed = network(numbers, markers, positions, edges)  # [*n, 3]
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, depth = config.hidden, config.layers
        self.atom_emb = _Table(config.max_number + 1, width)
        self.defect_emb = _Table(config.markers, width)
        self.lin_comb = nn.Linear(2 * width, width)
        self.vn_emb = nn.Embedding(1, width)
        self.site_charge = _ChargeEncoding(width) if config.charges else None
        self.basis = RadialBasis(config)
        self.virtual_scalar_layers = nn.ModuleList(GlobalScalar(width) for _ in range(depth))
        self.virtual_vector_layers = nn.ModuleList(GlobalVector(width) for _ in range(depth))
        self.message_passing_layers = nn.ModuleList(MessagePassing(config) for _ in range(depth))
        self.message_update_layers = nn.ModuleList(SelfUpdate(config) for _ in range(depth))
        self.coord_update_layers = nn.ModuleList(CoordinateUpdate(config) for _ in range(depth))

    def of(self, host: str) -> DefiNet:
        """Return itself: a single network predicts for every host."""
        del host
        return self

    def _layers(self) -> Iterator[_Layer]:
        lists = (
            self.virtual_scalar_layers,
            self.virtual_vector_layers,
            self.message_passing_layers,
            self.message_update_layers,
            self.coord_update_layers,
        )
        return cast("Iterator[_Layer]", zip(*lists, strict=True))

    def forward(
        self, numbers: Tensor, markers: Tensor, positions: Tensor, edges: Edges, charges: Tensor | None = None
    ) -> Tensor:
        """Predict relaxed positions: `config.passes` passes, each from the positions of the pass before.

        Parameters
        ----------
        numbers, markers : Tensor
            Atomic numbers and site markers (0, 1, 2; 3 with `config.inserted`), int64 [*n].
        positions : Tensor
            Positions to start from, Cartesian, Å, [*n, 3]; [1, N, 3] where a batch on one neighbour table shares them.
        edges : Edges
            Neighbours within the cutoff at the unrelaxed positions.
        charges : Tensor or None
            Net charges of the B structures, elementary charges, [B]; None: neutral. A network without
            `config.charges` takes every structure for neutral, any network a structure without edited sites.

        Returns
        -------
        Tensor
            Relaxed Cartesian positions, placeholders of vacancies included, Å, [*n, 3].
        """
        r = self.single_pass(numbers, markers, positions, edges, charges)
        for _ in range(self.config.passes - 1):
            r = self.single_pass(numbers, markers, restart(r, markers, positions), edges, charges)
        return r

    def single_pass(
        self, numbers: Tensor, markers: Tensor, positions: Tensor, edges: Edges, charges: Tensor | None = None
    ) -> Tensor:
        """Run the paper's network once; see `forward`."""
        defect = DefectGate(self.defect_emb.embeddings.weight, markers)
        x = self.lin_comb(torch.cat([self.atom_emb(numbers), self.defect_emb(markers)], -1))  # [*n, F]
        v = x.new_zeros(*x.shape[:-1], 3, x.shape[-1])  # [*n, 3, F]
        x_global = self.vn_emb.weight.expand_as(edges.mean(x))  # [*g, F]
        if self.site_charge is not None and charges is not None:
            x = x + self.site_charge(charges, markers, edges)
        v_global = edges.mean(v)  # [*g, 3, F]
        r = positions
        for scalar, vector, message, update, coordinate in self._layers():
            edge = edge_state(r, edges, self.basis)
            x = scalar.distribute(x, x_global, edges)
            v = vector.distribute(v, v_global, edges)
            x, v = message(x, v, defect, edge, edges)
            x, v = update(x, v, edges)
            r = r + coordinate(x, v, defect, edge, edges)
            x_global = scalar.aggregate(x, x_global, edges)
            v_global = vector.aggregate(v, v_global, edges)
        return r


def restart(predicted: Tensor, markers: Tensor, positions: Tensor) -> Tensor:
    """Return predicted positions to go on from, [*n, 3]: no label ties placeholders of vacancies, so they go back."""
    return torch.where((markers == VACANCY).unsqueeze(-1), positions, predicted)


class Ensemble(nn.Module):
    """Networks that see the same edges, trained apart; it predicts the mean of their positions.

    Parameters
    ----------
    members : sequence of DefiNet
        The first speaks for every host.
    hosts : sequence of tuple of str
        Formulas of the hosts that each member predicts for; an empty entry: every host. None: every host for all.
    """

    def __init__(self, members: Sequence[DefiNet], hosts: Sequence[tuple[str, ...]] | None = None) -> None:
        super().__init__()
        self.config = members[0].config
        self.configs = tuple(member.config for member in members)
        self.members = nn.ModuleList(members)
        self.hosts = tuple(hosts) if hosts else ((),) * len(members)
        self._views: dict[tuple[int, ...], Network] = {}

    @property
    def single(self) -> tuple[DefiNet, ...]:
        """The members."""
        return tuple(cast("Iterator[DefiNet]", self.members))

    def of(self, host: str) -> Network:
        """Return what predicts crystals of a host, by its formula: the members that speak for it, always the same."""
        speaking = tuple(k for k, own in enumerate(self.hosts) if not own or host in own)
        if speaking not in self._views:
            members = [self.single[k] for k in speaking]
            self._views[speaking] = members[0] if len(members) == 1 else Ensemble(members)
        return self._views[speaking]

    def forward(
        self, numbers: Tensor, markers: Tensor, positions: Tensor, edges: Edges, charges: Tensor | None = None
    ) -> Tensor:
        """See `DefiNet.forward`; atoms alone do not say their host, so only members for every host are asked."""
        asked = [member for member, own in zip(self.members, self.hosts, strict=True) if not own]
        return torch.stack([member(numbers, markers, positions, edges, charges) for member in asked]).mean(0)


Network = DefiNet | Ensemble
"""What predicts."""
