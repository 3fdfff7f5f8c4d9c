"""The two forms in which the same network sees a crystal's edges.

`TableEdges`: all configurations of one host share one pristine lattice, hence one padded neighbour table; node
arrays are [B, N, ...] and a sum over neighbours is a sum over an axis. `ListEdges`: any mixture of crystals; node
arrays are [n, ...] and a sum over neighbours is an index_add. Layers are written once, against what both offer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from definet_flows.model.network import kernels
from definet_flows.model.network.radial import RadialBasis, RadialTable


class DefectGate(NamedTuple):
    """Projected defect embedding: what each marker multiplies a message with."""

    table: Tensor  # one row per marker, [3 or 4, w]
    markers: Tensor  # int64 [*n]


class Radial:
    """Radial features of edges, evaluated when they are asked for."""

    def __init__(self, distance: Tensor, basis: RadialBasis) -> None:
        self.distance = distance  # Å, [*e]
        self.basis = basis

    @cached_property
    def features(self) -> Tensor:
        """Gaussians times envelope, those that are not zero, [*e, active]."""
        features: Tensor = self.basis(self.distance, self.basis.active(self.distance))
        return features

    def filtered(self, linear: nn.Linear) -> Tensor:
        """Map the features by a linear layer [K, w] -> [*e, w]."""
        return functional.linear(self.features, linear.weight[:, : self.features.shape[-1]], linear.bias)

    @cached_property
    def reached(self) -> Tensor:
        """The distances, those that are farther than the envelope reaches or no number at its end, Å, [*e].

        One exploding structure must neither lengthen the table of its batch nor take it from it.
        """
        extent = self.basis.extent
        return self.distance.nan_to_num(nan=extent, posinf=extent).clamp(max=extent)

    @cached_property
    def table(self) -> RadialTable | None:
        """The features on a grid up to the longest distance; None where there is no edge."""
        return self.basis.table(float(self.reached.detach().max())) if self.distance.numel() else None


class EdgeState(NamedTuple):
    """What a layer's edges are like at its positions."""

    radial: Radial
    unit: Tensor  # unit vectors from neighbour j to centre i, [*e, 3]; zero on padding


class Edges(ABC):
    """What a layer needs to know about neighbours, and the operations that are worth compiling.

    Shapes: `*n` nodes, `*e` edges, `*g` structures.
    """

    shift: Tensor
    """Cartesian image offset of each edge's source, Å, [*e, 3]."""
    mask: Tensor | None = None
    """1 for an edge, 0 for padding, [*e, 1]; None where nothing is padded."""

    @abstractmethod
    def source(self, nodes: Tensor) -> Tensor:
        """Rows of the sending nodes j, [*n, ...] -> [*e, ...]."""

    @abstractmethod
    def target(self, nodes: Tensor) -> Tensor:
        """Rows of the receiving centres i, broadcastable to [*e, ...]."""

    @abstractmethod
    def sum(self, edges: Tensor) -> Tensor:
        """Sum over incoming edges, [*e, ...] -> [*n, ...]."""

    @abstractmethod
    def mean(self, nodes: Tensor) -> Tensor:
        """Mean over the nodes of each structure, [*n, ...] -> [*g, ...]."""

    @abstractmethod
    def spread(self, globals_: Tensor) -> Tensor:
        """Hand each node its structure's row, [*g, ...] -> broadcastable to [*n, ...]."""

    def radial(self, distance: Tensor, basis: RadialBasis) -> Radial:
        """Return the radial features of [*e] distances, Å."""
        return Radial(distance, basis)

    def messages(
        self, phi: Tensor, gate: DefectGate, v: Tensor, edge: EdgeState, filters: nn.Linear
    ) -> tuple[Tensor, Tensor]:
        """Sum the vector and scalar messages of eqs. 1 and 2 over neighbours.

        phi [*n, 3F], v [*n, 3, F], the filter K -> 3F -> [*n, 3, F], [*n, F].
        """
        weight = self._products(phi, gate, edge.radial.filtered(filters)) / math.sqrt(3)
        a, b, h = weight.chunk(3, -1)  # [*e, F] each
        moved = a.unsqueeze(-2) * self.source(v) + b.unsqueeze(-2) * edge.unit.unsqueeze(-1)  # [*e, 3, F]
        return self.sum(moved), self.sum(h)

    def pulls(self, phi: Tensor, gate: DefectGate, edge: EdgeState, filters: nn.Linear, mlp: nn.Sequential) -> Tensor:
        """Sum s_ij e_ij over neighbours, eqs. 6 and 7: phi [*n, F], the filter K -> F, `mlp` F -> 1 -> [*n, 3]."""
        s = mlp(self._products(phi, gate, edge.radial.filtered(filters)))  # [*e, 1]
        return self.sum(s * edge.unit)

    def activated(self, mapped: Tensor, consensus: Tensor) -> Tensor:
        """Return mapped vectors l where <l, c> >= 0, else (l + c) / 2: [*n, 3, F], consensus c [*n, 3, 1]."""
        agrees = (mapped * consensus).sum(-2, keepdim=True) >= 0  # [*n, 1, F]
        return torch.where(agrees, mapped, (mapped + consensus) / 2)

    def _products(self, phi: Tensor, gate: DefectGate, rho: Tensor) -> Tensor:
        """phi_j (g_j + g_i) rho_ij, phi [*n, w], rho [*e, w] -> [*e, w]."""
        g = gate.table[gate.markers]  # [*n, w]
        product = self.source(phi) * (self.source(g) + self.target(g)) * rho
        return product if self.mask is None else product * self.mask


class _GatherNeighbours(torch.autograd.Function):
    """x[:, table] whose gradient is a gather too.

    The reversed edge of every edge is in the table, so the gradient of node j is the sum, over j's own row, of
    the gradients at the reversed edges: no scatter, no atomics, and the same order of summation every time.
    """

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, table: Tensor, reverse: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(reverse)
        return nodes[:, table]  # [B, N, M, ...]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (reverse,) = ctx.saved_tensors
        grad = grads[0]  # [B, N, M, ...]
        flat = grad.flatten(1, 2)[:, reverse]  # [B, N, M, ...]
        return flat.sum(2), None, None


@dataclass(frozen=True)
class TableEdges(Edges):
    """Padded neighbour table of one supercell, shared by a whole batch.

    Parameters
    ----------
    table : Tensor
        Neighbour indices, int64 [N, M]; padding points at the centre itself.
    shift : Tensor
        Cartesian offset of the neighbour's image, Å, [N, M, 3].
    reverse : Tensor
        Flat index into [N * M] of the reversed edge, int64 [N, M]; padding points at itself.
    mask : Tensor or None
        1 or 0, [N, M, 1]; None if there is no padding.
    """

    table: Tensor
    shift: Tensor
    reverse: Tensor
    mask: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> TableEdges:
        """Return the same table on another device, in another precision."""
        mask = None if self.mask is None else self.mask.to(device, dtype)
        return TableEdges(self.table.to(device), self.shift.to(device, dtype), self.reverse.to(device), mask)

    def fused(self) -> TableEdges:
        """Return the table with compiled edge operations, where they are to be had (CPU, g++)."""
        if self.shift.device.type != "cpu" or kernels.library() is None:
            return self
        return FusedTableEdges(self.table, self.shift, self.reverse, self.mask)

    def source(self, nodes: Tensor) -> Tensor:
        """[B, N, ...] -> [B, N, M, ...]."""
        out: Tensor = _GatherNeighbours.apply(nodes, self.table, self.reverse)  # type: ignore[no-untyped-call]
        return out

    def target(self, nodes: Tensor) -> Tensor:
        """[B, N, ...] -> [B, N, 1, ...]."""
        return nodes.unsqueeze(2)

    def sum(self, edges: Tensor) -> Tensor:
        """[B, N, M, ...] -> [B, N, ...]."""
        return edges.sum(2)

    def mean(self, nodes: Tensor) -> Tensor:
        """[B, N, ...] -> [B, 1, ...]."""
        return nodes.mean(1, keepdim=True)

    def spread(self, globals_: Tensor) -> Tensor:
        """[B, 1, ...] as it is: it broadcasts over N."""
        return globals_


@dataclass(frozen=True)
class FusedTableEdges(TableEdges):
    """A neighbour table whose edge operations are the compiled kernels (CPU)."""

    @cached_property
    def _narrow(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Table and reverse, int32, and mask, uint8, as the kernels read them."""
        mask = None if self.mask is None else self.mask.to(torch.uint8).contiguous()
        return self.table.to(torch.int32).contiguous(), self.reverse.to(torch.int32).contiguous(), mask

    def _gates(self, gate: DefectGate) -> Tensor:
        """Return the gate's table with the rows that the kernels count, [4, w]."""
        return functional.pad(gate.table, (0, 0, 0, kernels.MARKERS - gate.table.shape[0]))

    def _graph(self, gate: DefectGate) -> kernels.TableGraph:
        return kernels.TableGraph(*self._narrow, gate.markers.to(torch.int32).contiguous())

    def messages(
        self, phi: Tensor, gate: DefectGate, v: Tensor, edge: EdgeState, filters: nn.Linear
    ) -> tuple[Tensor, Tensor]:
        """See `Edges.messages`."""
        if edge.radial.table is None or not kernels.fits(v, v.shape[-1]):
            return super().messages(phi, gate, v, edge, filters)
        table = filter_table(edge.radial.table, filters)
        geometry = (self._graph(gate), edge.radial.table.step, edge.radial.reached, edge.unit)
        out: tuple[Tensor, Tensor] = kernels.Messages.apply(*geometry, phi, self._gates(gate), v, table)  # type: ignore[no-untyped-call]
        return out

    def pulls(self, phi: Tensor, gate: DefectGate, edge: EdgeState, filters: nn.Linear, mlp: nn.Sequential) -> Tensor:
        """See `Edges.pulls`."""
        if edge.radial.table is None or not kernels.fits(phi, phi.shape[-1]):
            return super().pulls(phi, gate, edge, filters, mlp)
        table = filter_table(edge.radial.table, filters)
        geometry = (self._graph(gate), edge.radial.table.step, edge.radial.reached, edge.unit)
        weights = (p for linear in (mlp[0], mlp[2]) for p in (linear.weight, linear.bias))
        out: Tensor = kernels.Pulls.apply(*geometry, phi, self._gates(gate), table, *weights)  # type: ignore[no-untyped-call]
        return out

    def activated(self, mapped: Tensor, consensus: Tensor) -> Tensor:
        """See `Edges.activated`."""
        out: Tensor = kernels.Activation.apply(mapped, consensus)  # type: ignore[no-untyped-call]
        return out


def filter_table(radial: RadialTable, linear: nn.Linear) -> Tensor:
    """Tabulate a filter, a function of the distance alone, to be interpolated (quintic), [rows, 3, w]."""
    features = radial.features.to(linear.weight)
    bias = functional.pad(linear.bias.unsqueeze(0), (0, 0, 0, 2))  # of the values, not of the derivatives
    return functional.linear(features, linear.weight[:, : features.shape[-1]]) + bias


@dataclass(frozen=True)
class ListEdges(Edges):
    """Edge list over the nodes of any number of structures.

    Parameters
    ----------
    senders, receivers : Tensor
        Node indices j and i of the edges j -> i, int64 [E].
    shift : Tensor
        Cartesian offset of the sender's image, Å, [E, 3].
    structure : Tensor
        Structure index of each node, int64 [n].
    n_structures : int
        Number of structures B.
    """

    senders: Tensor
    receivers: Tensor
    shift: Tensor
    structure: Tensor
    n_structures: int

    def source(self, nodes: Tensor) -> Tensor:
        """[n, ...] -> [E, ...]."""
        return nodes[self.senders]

    def target(self, nodes: Tensor) -> Tensor:
        """[n, ...] -> [E, ...]."""
        return nodes[self.receivers]

    def sum(self, edges: Tensor) -> Tensor:
        """[E, ...] -> [n, ...]."""
        out = edges.new_zeros(self.structure.shape[0], *edges.shape[1:])
        return out.index_add(0, self.receivers, edges)

    def mean(self, nodes: Tensor) -> Tensor:
        """[n, ...] -> [B, ...]."""
        out = nodes.new_zeros(self.n_structures, *nodes.shape[1:])
        counts = torch.bincount(self.structure, minlength=self.n_structures).to(nodes.dtype)
        return out.index_add(0, self.structure, nodes) / counts.view(-1, *[1] * (nodes.dim() - 1))

    def spread(self, globals_: Tensor) -> Tensor:
        """[B, ...] -> [n, ...]."""
        return globals_[self.structure]
