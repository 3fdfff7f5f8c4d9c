"""A random crystal, small networks of random weights, and the forms of the edges they are asked in."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from definet_flows.model.data.graph import crystal, find_neighbours, list_edges, table_edges
from definet_flows.model.network import kernels
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import FusedTableEdges
from definet_flows.model.network.network import DefiNet

CONFIG = NetworkConfig(hidden=16, layers=3, gaussians=32, radial_extent=12.0, cutoff=4.0)
CAPPED = CONFIG.model_copy(update={"max_neighbours": 9})
"""The cap binds on the random crystal, in one direction only here and there."""
KNOWING = CONFIG.model_copy(update={"charges": True, "inserted": True})
"""Takes charges and inserted atoms, which `relaxed` shows it."""
FORMS = ("list", "table", "fused")

needs_kernels = pytest.mark.skipif(kernels.library() is None, reason="no g++ to build the kernels")


def make_network(config: NetworkConfig = CONFIG, dtype: torch.dtype = torch.float64) -> DefiNet:
    torch.manual_seed(3)
    network = DefiNet(config).to(dtype)
    if network.site_charge is not None:  # as drawn it takes charged cells for neutral
        torch.nn.init.normal_(network.site_charge.weight)
    return network


class Crystal:
    """A random crystal of 14 sites without any symmetry, in a skew cell."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.lattice = np.array([[6.0, 0.4, 0.1], [-2.5, 5.5, 0.3], [0.2, -0.6, 7.0]])
        grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1, 2, 3], indexing="ij"), -1).reshape(-1, 3)[:14]
        self.positions = (grid / [2, 2, 4]) @ self.lattice + rng.normal(0, 0.25, (14, 3))
        self.numbers = rng.integers(1, 100, (2, 14))
        self.markers = rng.integers(0, 3, (2, 14))
        self.charges = np.array([2, -1])

    def copy(self, **changes: np.ndarray) -> "Crystal":
        other = Crystal()
        other.__dict__.update(self.__dict__, **changes)
        return other


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.as_tensor(a) for a in arrays]


def relaxed(network: DefiNet, of: Crystal, form: str) -> torch.Tensor:
    """Predicted positions of the crystal's two configurations, [2, 14, 3], in one form of the edges."""
    dtype = next(network.parameters()).dtype
    found = find_neighbours(of.lattice, of.positions, network.config)
    marked = np.where(of.numbers % 4 == 0, 3, of.markers) if network.config.inserted else of.markers
    numbers, markers, charges = tensors(of.numbers, marked, of.charges)
    asked = charges if network.config.charges else None
    if form == "list":
        batch = Batch.from_data_list([crystal(found, of.lattice, of.positions, dtype)] * 2)
        return network(numbers.flatten(), markers.flatten(), batch.pos, list_edges(batch), asked).view(2, -1, 3)
    edges = table_edges(found, of.lattice, dtype=dtype)
    if form == "fused":
        edges = edges.fused()
        assert isinstance(edges, FusedTableEdges)
    return network(numbers, markers, torch.as_tensor(of.positions, dtype=dtype)[None], edges, asked)


def form_parameters() -> list:
    return [pytest.param(form, marks=needs_kernels if form == "fused" else ()) for form in FORMS]


def agree(found: torch.Tensor, expected: np.ndarray | torch.Tensor, tolerance: float = 1e-9) -> None:
    """Relative to the displacements."""
    expected = torch.as_tensor(expected)
    assert float((found - expected).abs().max()) < tolerance * float(expected.std())
