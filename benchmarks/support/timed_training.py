"""Training for so many seconds of processor, for measurements whose networks start from proposals of their own."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from definet_flows.model.training.train import shrink_heads
from definet_flows.schemas import VACANCY

if TYPE_CHECKING:
    from collections.abc import Callable

    from definet_flows.model.data.batches import Lattice
    from definet_flows.model.network.network import DefiNet


@dataclass(frozen=True)
class Pace:
    """How a network is trained; the names are those of `TrainConfig`."""

    seconds: float
    learning_rate: float
    warmup: int
    weight_decay: float
    clip: float
    ema: float
    head_scale: float


def fit(network: DefiNet, pace: Pace, batch_loss: Callable[[], torch.Tensor]) -> tuple[DefiNet, int]:
    """Train on the losses of batches until the seconds are over; return averaged weights and the number of steps."""
    shrink_heads(network, pace.head_scale)
    averaged = deepcopy(network).requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=pace.learning_rate, weight_decay=pace.weight_decay)
    begun, step = time.process_time(), 0
    while (done := (time.process_time() - begun) / pace.seconds) < 1:
        warm = min(1.0, (step + 1) / pace.warmup)
        optimizer.param_groups[0]["lr"] = pace.learning_rate * warm * (1 + np.cos(np.pi * done)) / 2
        optimizer.zero_grad()
        batch_loss().backward()
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(network.parameters(), pace.clip)):
            continue
        optimizer.step()
        step += 1
        with torch.no_grad():
            for mean, new in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(new, 1 - min(pace.ema, step / (step + 19)))
    return averaged, step


@dataclass(frozen=True)
class Batch:
    """Entries of a bulk supercell.

    Attributes
    ----------
    numbers, markers
        [n, n_rows].
    moved
        Relaxed minus unrelaxed position, Å, [n, n_rows, 3].
    start
        Displacements that the network begins with, Å, [n, n_rows, 3].
    charges
        [n]; None: the network takes none.
    """

    lattice: Lattice
    numbers: torch.Tensor
    markers: torch.Tensor
    moved: torch.Tensor
    start: torch.Tensor
    charges: torch.Tensor | None = None


def mean_error(network: DefiNet, batch: Batch, *, recycled: bool) -> torch.Tensor:
    """Return the mean error over the atoms, Å; `recycled`: the network starts from its own prediction."""
    rest, edges, start = batch.lattice.positions, batch.lattice.edges, batch.start
    if recycled:
        with torch.no_grad():
            start = network(batch.numbers, batch.markers, rest + start, edges, batch.charges) - rest
        start[batch.markers == VACANCY] = 0
    out = network(batch.numbers, batch.markers, rest + start, edges, batch.charges)
    return (out - rest - batch.moved).square().sum(-1).add(1e-8).sqrt()[batch.markers != VACANCY].mean()
