"""Radial features of an edge and the scalar activation (doi:10.1038/s41524-025-01728-w, as published code has them)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from definet_flows.model.config import NetworkConfig

_REACH = 7.0


def scaled_silu(a: Tensor) -> Tensor:
    """SiLU(a) / 0.6, which keeps the variance of a unit normal input."""
    return functional.silu(a) / 0.6


class RadialBasis(nn.Module):
    """Gaussians on [0, c] times the polynomial envelope 1 - 21 u^5 + 35 u^6 - 15 u^7, u = d / c.

    A Gaussian more than seven widths away (below 2e-11) is zero: it would only feed denormal numbers to the matrix
    products. Hence at lattice distances only the first of them are not zero, and only those are evaluated.
    """

    index: Tensor
    """Of the centres, k times the spacing; whole numbers, hence exact in any precision."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.extent = config.radial_extent
        self.spacing = 1 / (config.gaussians - 1)
        self.register_buffer("index", torch.arange(float(config.gaussians)), persistent=False)

    def active(self, distance: Tensor) -> int:
        """Count the Gaussians that reach the longest of these distances, Å."""
        longest = float(distance.detach().max()) if distance.numel() else 0.0
        if not math.isfinite(longest):
            return len(self.index)
        return min(len(self.index), math.ceil(longest / self.extent / self.spacing + _REACH) + 1)

    def forward(self, distance: Tensor, active: int) -> Tensor:
        """[*e] distances in Å -> [*e, active]."""
        u = (distance / self.extent).unsqueeze(-1)
        envelope = torch.where(u < 1, 1 + u**5 * (-21 + u * (35 - 15 * u)), 0.0)
        x = u / self.spacing - self.index[:active]  # in widths
        return torch.where(x.abs() < _REACH, torch.exp(-0.5 * x**2), 0.0) * envelope
