"""The code that the authors of DefiNet publish, from a checkout that the user names; nothing of it lies here.

What it takes (doi:10.1038/s41524-025-01728-w): `DefiNet(hidden_channels, num_layers, num_rbf, cutoff, num_elements)`,
called on an object with the fields of `published_batch`. Its parameters have the names of the package's.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.utils import scatter

from definet_flows.errors import InputError
from definet_flows.model.data.graph import find_neighbours

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from definet_flows.model.network.network import DefiNet
    from definet_flows.schemas import Host


def definition(checkout: Path) -> Path:
    """Return the file of a checkout that defines the network.

    Raises
    ------
    InputError
        If there is none.
    """
    for path in sorted(checkout.rglob("*.py")):
        if "class DefiNet(" in path.read_text(encoding="utf-8", errors="replace"):
            return path
    raise InputError(f"--published {checkout}: no Python file there has a class DefiNet: name a checkout of its code")


def published_network(checkout: Path, network: DefiNet) -> nn.Module:
    """Return the published module with the weights of the package's network, on its device.

    Raises
    ------
    InputError
        If the checkout defines no such network, or a network with other parameters.
    """
    file = definition(checkout)
    if importlib.util.find_spec("torch_scatter") is None:  # there may be no build of it for this torch
        stand_in = ModuleType("torch_scatter")
        stand_in.__dict__.update(scatter=scatter, segment_coo=None, segment_csr=None)  # the others build graphs
        stand_in.__spec__ = importlib.machinery.ModuleSpec("torch_scatter", None)
        sys.modules["torch_scatter"] = stand_in
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    config = network.config
    module = importlib.import_module(file.stem).DefiNet(
        hidden_channels=config.hidden,
        num_layers=config.layers,
        num_rbf=config.gaussians,
        cutoff=config.radial_extent,
        num_elements=config.max_number + 1,
    )
    missing = module.load_state_dict(network.state_dict(), strict=False).missing_keys
    if set(missing) & {name for name, _ in module.named_parameters()}:
        raise InputError(
            f"--published {checkout}: its DefiNet has other parameters ({missing[0]}); name another version"
        )
    out: nn.Module = module.to(next(network.parameters()).device)
    return out


def published_batch(host: Host, network: DefiNet, numbers: Tensor, markers: Tensor) -> SimpleNamespace:
    """Return configurations [B, n_sites] of a host as the published code reads them, on the device of `numbers`."""
    cell, positions = np.array(host.lattice), host.cartesian
    found, batch, device = find_neighbours(cell, positions, network.config), len(numbers), numbers.device
    first = torch.arange(batch).repeat_interleave(len(found.centres)) * host.n_sites  # node of each edge's structure
    edges = torch.as_tensor(np.stack([found.neighbours, found.centres])).repeat(1, batch) + first
    fields = {
        "pos_u": torch.as_tensor(positions, dtype=torch.float32).repeat(batch, 1),
        "cell_u": torch.as_tensor(cell, dtype=torch.float32).repeat(batch, 1, 1),
        "batch": torch.arange(batch).repeat_interleave(host.n_sites),
        "cell_offsets": torch.as_tensor(found.images).repeat(batch, 1),
        "edge_index": edges,
        "neighbors": torch.full((batch,), len(found.centres)),
    }
    placed = {name: value.to(device) for name, value in fields.items()}
    return SimpleNamespace(**placed, x=numbers.flatten(), defect=markers.flatten())
