"""Radial features of an edge and the scalar activation (doi:10.1038/s41524-025-01728-w, as published code has them)."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from definet_flows.model.network.config import NetworkConfig

_REACH = 7.0

STEPS = 8
"""Rows of a table of radial features, to a Gaussian's width; quintic interpolation between them errs by 1e-9."""


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

    def table(self, longest: float) -> RadialTable:
        """Tabulate the features up to a distance, Å, rounded up to whole ones."""
        top = math.ceil(longest)
        return _table(self.extent, self.spacing, self.active(torch.tensor(float(top))), top)


class RadialTable(NamedTuple):
    """The features on a grid from 0 on: for each row values, first and second derivatives, by rows."""

    features: Tensor  # float64, [rows, 3, K active]
    step: float  # Å between rows


@functools.lru_cache(maxsize=16)
@torch.inference_mode(mode=False)  # what is cached by a prediction must serve a training too
def _table(extent: float, spacing: float, active: int, top: int) -> RadialTable:
    h = spacing / STEPS  # in u
    rows = math.ceil(top / extent / h) + 2
    u = h * torch.arange(rows, dtype=torch.float64).unsqueeze(-1)
    inside = (u < 1).double()
    envelope = (1 + u**5 * (-21 + u * (35 - 15 * u))) * inside
    slope, bend = -105 * u**4 * (1 - u) ** 2 * inside, -210 * u**3 * (1 - u) * (2 - 3 * u) * inside
    x = u / spacing - torch.arange(active, dtype=torch.float64)
    gauss = torch.where(x.abs() < _REACH, torch.exp(-0.5 * x**2), 0.0)
    falls, curves = -x * gauss / spacing, (x**2 - 1) * gauss / spacing**2
    features = (
        gauss * envelope,
        h * (falls * envelope + gauss * slope),
        h**2 * (curves * envelope + 2 * falls * slope + gauss * bend),
    )
    return RadialTable(torch.stack(features, 1), h * extent)
