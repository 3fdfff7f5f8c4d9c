"""Copper, which a campaign of seconds is about, and a small untrained network that knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pymatgen.core import Lattice, Structure

from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, Checkpoint, save_checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet

if TYPE_CHECKING:
    from pathlib import Path

CU = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])


def write_weights(path: Path, host: Structure = CU, seed: int = 0, elements: tuple[int, ...] = (28, 29)) -> Checkpoint:
    """Write small untrained weights that know the host and some elements; they move atoms by hundredths of Å."""
    torch.manual_seed(seed)
    config = NetworkConfig(hidden=8, layers=2, gaussians=16)
    card = Card(name="small", config=config, hosts=(unit_cell(make_host(host, (1, 1, 1))),), elements=elements)
    return save_checkpoint(path, DefiNet(config), card)
