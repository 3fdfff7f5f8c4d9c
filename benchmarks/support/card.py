"""Cases that `benchmarks/gpu.py` times: a network, its forms on a device, and a step of training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.support.published import published_batch, published_network
from definet_flows.model.data.batches import Lattice, lattice_of
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.inference.device import full_products
from definet_flows.model.inference.predict import displacements
from definet_flows.model.network.network import DefiNet
from definet_flows.model.training.train import TrainConfig, shrink_heads

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from definet_flows.model.network.config import NetworkConfig
    from definet_flows.schemas import Host

DEFECTS = 10  # of each configuration
Form = Callable[[], Tensor]
T = TypeVar("T")
REACH = 1.0  # Å beyond the cutoff to which a compiled network has its Gaussians


@dataclass(frozen=True)
class Case:
    """Configurations of a host, and a network of random weights that moves atoms little, on a device."""

    host: Host
    config: NetworkConfig
    batch: int
    device: torch.device

    @cached_property
    def network(self) -> DefiNet:
        """Of the seed 0."""
        torch.manual_seed(0)
        network = DefiNet(self.config)
        shrink_heads(network, TrainConfig().head_scale)
        return network.to(self.device)

    @cached_property
    def lattice(self) -> Lattice:
        """The neighbour table, float32."""
        return lattice_of(self.host, self.config).to(self.device, torch.float32)

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Numbers and markers, [batch, n_sites]."""
        numbers, markers = random_rows(self.host, self.batch)
        return numbers.to(self.device), markers.to(self.device)

    def eager(self) -> tuple[nn.Module, Form]:
        """Return the package's network and a call that gives positions, [batch * n_sites, 3]."""
        return self.network, lambda: self._of(self.network)

    def compiled(self, backend: str) -> tuple[nn.Module, Form]:
        """Return the same by torch.compile; the number of Gaussians is fixed, so that nothing waits for the card."""
        network = deepcopy(self.network)
        active = network.basis.active(torch.tensor(self.config.cutoff + REACH))
        network.basis.active = lambda _: active  # type: ignore[method-assign]
        fast = torch.compile(network, dynamic=False, backend=backend)
        return network, lambda: self._of(fast)

    def published(self, checkout: Path) -> tuple[nn.Module, Form]:
        """Return the published code with the same weights."""
        network = published_network(checkout, self.network)
        data = published_batch(self.host, self.network, *self.rows)
        return network, lambda: network(data)

    def _of(self, network: Callable[..., Tensor]) -> Tensor:
        return network(*self.rows, self.lattice.positions, self.lattice.edges).flatten(0, 1)


def random_rows(host: Host, batch: int) -> tuple[Tensor, Tensor]:
    """Return numbers and markers [batch, n_sites] of configurations of ten random vacancies and substitutions."""
    draw = torch.Generator().manual_seed(0)
    markers = torch.zeros(batch, host.n_sites, dtype=torch.long)
    for row in markers:
        row[torch.randperm(host.n_sites, generator=draw)[:DEFECTS]] = torch.randint(1, 3, (DEFECTS,), generator=draw)
    return torch.tensor(host.numbers).repeat(batch, 1), markers


def step_of(network: nn.Module, form: Form, *, mixed: bool) -> Form:
    """Return a call that does a whole step of training; mixed: bf16 autocast, as `definet train` has it on a card."""
    config = TrainConfig()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(parameters[0].device.type, torch.bfloat16, enabled=mixed):
            loss = form().square().sum(-1).add(1e-8).sqrt().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        return loss.detach()

    return step


def seconds(run: Callable[[], object], least: float) -> float:
    """Return the median time of a call that has run twice before; torch's Timer waits for the card."""
    for _ in range(2):
        run()
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=least).median)


def flops(run: Callable[[], object]) -> int:
    """Count the floating point operations in matrix products of a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def product_rate(device: torch.device, dtype: torch.dtype, size: int, least: float) -> float:
    """Return the FLOP/s of a large matrix product of random numbers; float32 without TF32."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    with full_products():
        return 2 * size**3 / seconds(lambda: a @ b, least)


def apart(host: Host, device: torch.device, dtype: torch.dtype, batch: int) -> np.ndarray:
    """Return how far the shipped model's positions on a device are from the package's own on the CPU, Å, [batch, n].

    On the device the plain form runs, also where the device is the CPU, which predicts with the compiled kernels.
    """
    network = deepcopy(load_checkpoint("definet-2dmd").network).to("cpu", dtype)
    numbers, markers = random_rows(host, batch)
    expected = displacements(network, host, numbers.numpy(), markers.numpy())
    there, lattice = network.of(host.formula).to(device), lattice_of(host, network.config).to(device, dtype)
    with torch.inference_mode(), full_products():
        found = there(numbers.to(device), markers.to(device), lattice.positions, lattice.edges) - lattice.positions
    return np.linalg.norm(found.double().cpu().numpy() - expected, axis=-1)


def tried(what: str, run: Callable[[], T]) -> T | None:
    """Return what a case measures, or None, with the reason on standard error, where it cannot run here."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - no memory, no compiler, a checkout that does not fit this torch
        reason = " ".join(str(error).split())[:300]
        print(f"{what} cannot run: {type(error).__name__}: {reason}", file=sys.stderr)
        return None
