"""The pieces of one DefiNet layer, eqs. 1-13 of the paper (doi:10.1038/s41524-025-01728-w).

Shapes: `*n` nodes, `*e` edges, `*g` structures (see `definet_flows.model.network.edges`), F the width, K the Gaussians.
Attribute names are those of published checkpoints.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import DefectGate, Edges, EdgeState
from definet_flows.model.network.radial import RadialBasis, scaled_silu

_TINY = 1e-8


class ScaledSiLU(nn.Module):
    """SiLU(a) / 0.6, which keeps the variance of a unit normal input."""

    def forward(self, a: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return scaled_silu(a)


def edge_state(positions: Tensor, edges: Edges, basis: RadialBasis) -> EdgeState:
    """Radial features and unit vectors of the edges at the current positions [*n, 3], Å."""
    vector = edges.source(positions) + edges.shift - edges.target(positions)  # from i to j, [*e, 3]
    distance = vector.square().sum(-1).clamp(min=_TINY).sqrt()  # [*e]
    unit = -vector / distance.unsqueeze(-1)
    if edges.mask is not None:
        unit = unit * edges.mask
    return EdgeState(edges.radial(distance, basis), unit)


class VectorActivation(nn.Module):
    """Non-linear vector activation, eqs. 12 and 13.

    With the consensus c = w.v and l = W v: l where <l, c> >= 0, else (l + c) / 2. The paper writes l + c in
    the second case; published checkpoints were trained with the half, which is followed here.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin_vec = nn.Linear(width, width, bias=False)
        self.lin_gvec = nn.Linear(width, 1, bias=False)

    def forward(self, v: Tensor, edges: Edges) -> Tensor:
        """[*n, 3, F] -> [*n, 3, F]."""
        return edges.activated(self.lin_vec(v), self.lin_gvec(v))


class GlobalScalar(nn.Module):
    """Scalar message distribution (eq. 8, `mlp_node`) and aggregation (eq. 10, `mlp_vn`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp_vn = _two_layers(2 * width, width, width, last=True)
        self.mlp_node = _two_layers(2 * width, width, width, last=True)

    def distribute(self, x: Tensor, x_global: Tensor, edges: Edges) -> Tensor:
        """Nodes [*n, F] learn from the global scalar [*g, F]."""
        first, width = cast("nn.Linear", self.mlp_node[0]), x.shape[-1]
        of_global = functional.linear(x_global, first.weight[:, width:], first.bias)  # once a structure, [*g, F]
        hidden = functional.linear(x, first.weight[:, :width]) + edges.spread(of_global)  # [*n, F]
        out: Tensor = x + self.mlp_node[1:](hidden)
        return out

    def aggregate(self, x: Tensor, x_global: Tensor, edges: Edges) -> Tensor:
        """Let the global scalar [*g, F] learn from the mean node."""
        out: Tensor = x_global + self.mlp_vn(torch.cat([edges.mean(x), x_global], -1))
        return out


class GlobalVector(nn.Module):
    """Vector message distribution (eq. 9, `mlp_node`) and aggregation (eq. 11, `mlp_vn`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp_vn = nn.Linear(width, width, bias=False)
        self.mlp_node = nn.Linear(width, width, bias=False)

    def distribute(self, v: Tensor, v_global: Tensor, edges: Edges) -> Tensor:
        """Nodes [*n, 3, F] learn from the global vector [*g, 3, F]."""
        out: Tensor = v + self.mlp_node(v + edges.spread(v_global))
        return out

    def aggregate(self, v: Tensor, v_global: Tensor, edges: Edges) -> Tensor:
        """Let the global vector [*g, 3, F] learn from the mean node."""
        out: Tensor = v_global + self.mlp_vn(edges.mean(v) + v_global)
        return out


class MessagePassing(nn.Module):
    """Defect-aware message passing, eqs. 1 and 2."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden
        self.width = width
        self.defect_proj = nn.Linear(width, 3 * width)
        self.x_proj = nn.Sequential(nn.Linear(width, width // 2), ScaledSiLU(), nn.Linear(width // 2, 3 * width))
        self.edge_proj = nn.Linear(config.gaussians, 3 * width)
        self.vec_activation = VectorActivation(width)

    def forward(self, x: Tensor, v: Tensor, defect: DefectGate, edge: EdgeState, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return x [*n, F] and v [*n, 3, F], updated; the defect embedding is a table [3 or 4, F]."""
        gate = DefectGate(self.defect_proj(defect.table), defect.markers)  # [markers, 3F]
        moved, h = edges.messages(self.x_proj(x), gate, v, edge, self.edge_proj)
        dv = self.vec_activation(moved / math.sqrt(self.width), edges)
        return (x + h) / math.sqrt(2), v + dv


class SelfUpdate(nn.Module):
    """Self-update of each node, eqs. 3 and 4."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden
        self.vec_proj = nn.Linear(width, 2 * width, bias=False)
        self.xvec_proj = nn.Sequential(nn.Linear(2 * width, width), ScaledSiLU(), nn.Linear(width, 3 * width))
        self.vec_activation = VectorActivation(width)

    def forward(self, x: Tensor, v: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return x [*n, F] and v [*n, 3, F], updated."""
        v1, v2 = self.vec_proj(v).chunk(2, -1)
        norm = torch.sqrt(v2.square().sum(-2) + _TINY)  # [*n, F]
        p, q, t = self.xvec_proj(torch.cat([x, norm], -1)).chunk(3, -1)
        tanh = 2 * torch.sigmoid(2 * t) - 1  # [*n, F]; torch's own is slow on a CPU
        dx = q / math.sqrt(2) + x * tanh
        dv = self.vec_activation(p.unsqueeze(-2) * v1, edges)
        return (x + dx) / math.sqrt(2), v + dv


class CoordinateUpdate(nn.Module):
    """Defect-aware coordinate update: Vec2Disp and RPV2Disp, eqs. 5-7."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden
        self.lin_vec2coord = nn.Linear(width, 1, bias=False)
        self.defect_proj = nn.Linear(width, width)
        self.x_proj = _two_layers(width, width, width)
        self.edge_proj = nn.Linear(config.gaussians, width)
        self.coord_mlp = _two_layers(width, width, 1)

    def forward(self, x: Tensor, v: Tensor, defect: DefectGate, edge: EdgeState, edges: Edges) -> Tensor:
        """Return this layer's displacement, Å, [*n, 3]; x [*n, F], v [*n, 3, F], the embedding [3 or 4, F]."""
        gate = DefectGate(self.defect_proj(defect.table), defect.markers)  # [markers, F]
        t = edges.pulls(self.x_proj(x), gate, edge, self.edge_proj, self.coord_mlp)  # [*n, 3]
        u: Tensor = self.lin_vec2coord(v).squeeze(-1)  # [*n, 3]
        return (u + t) / 2


def _two_layers(inner: int, hidden: int, outer: int, *, last: bool = False) -> nn.Sequential:
    """Linear, ScaledSiLU, Linear, and a ScaledSiLU behind it if `last`."""
    layers = [nn.Linear(inner, hidden), ScaledSiLU(), nn.Linear(hidden, outer)]
    return nn.Sequential(*layers, ScaledSiLU()) if last else nn.Sequential(*layers)
