"""The compiled kernels, operation by operation: what the plain form gives, gradients too."""

import math

import pytest
import torch
from network_helpers import (
    CAPPED,
    CONFIG,
    Crystal,
    agree,
    make_network,
    needs_kernels,
)

from definet_flows.hosts import make_host
from definet_flows.model.data.batches import lattice_of
from definet_flows.model.data.graph import find_neighbours, table_edges
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import DefectGate, EdgeState, TableEdges
from definet_flows.model.network.layers import ScaledSiLU
from definet_flows.model.network.radial import RadialBasis


class EdgeInputs:
    """Random inputs of one edge operation on the random crystal, capped, hence with padding and a mask."""

    def __init__(self, operation: str, config: NetworkConfig, dtype: torch.dtype, *, shared: bool = False) -> None:
        of, width = Crystal(), config.hidden
        self.operation, self.basis = operation, RadialBasis(config).to(dtype)
        self.plain = table_edges(find_neighbours(of.lattice, of.positions, config), of.lattice, dtype=dtype)
        n, m = self.plain.table.shape
        torch.manual_seed(1)
        self.markers = torch.as_tensor(of.markers)
        wide = 3 * width if operation == "messages" else width
        self.filters = torch.nn.Linear(config.gaussians, wide, dtype=dtype)
        layers = (torch.nn.Linear(width, width, dtype=dtype), ScaledSiLU(), torch.nn.Linear(width, 1, dtype=dtype))
        self.mlp = torch.nn.Sequential(*layers)
        batch = 1 if shared else 2
        self.distance = 1.1 * config.cutoff * torch.rand(batch, n, m, dtype=dtype)
        rare = [1e-4, config.radial_extent + 0.3, 5.0]  # as padding, past the envelope, on a row of the table
        self.distance.view(-1)[:3] = torch.tensor(rare)
        self.unit = torch.randn(batch, n, m, 3, dtype=dtype)
        if self.plain.mask is not None:
            self.unit *= self.plain.mask
        drawn = [torch.randn(2, n, wide, dtype=dtype), torch.randn(3, wide, dtype=dtype)]
        if operation == "messages":
            drawn.append(torch.randn(2, n, 3, width, dtype=dtype))
        self.arrays = [a.requires_grad_() for a in (self.distance, self.unit, *drawn)]

    def run(self, edges: TableEdges) -> list[torch.Tensor]:
        """Outputs, then the gradients of a function of theirs for every input and parameter."""
        distance, unit, phi, gate, *v = self.arrays
        edge, gates = EdgeState(edges.radial(distance, self.basis), unit), DefectGate(gate, self.markers)
        if self.operation == "messages":
            outs, modules = edges.messages(phi, gates, v[0], edge, self.filters), [self.filters]
        else:
            outs, modules = (edges.pulls(phi, gates, edge, self.filters, self.mlp),), [self.filters, self.mlp]
        parameters = [p for module in modules for p in module.parameters()]
        loss = sum((o * torch.cos(torch.arange(o.numel(), dtype=o.dtype).view_as(o))).sum() for o in outs)
        gradients = torch.autograd.grad(loss, [*self.arrays, *parameters])
        if edges.mask is not None:  # a padded edge ends in its own centre: its unit vector never moves
            gradients = (gradients[0], gradients[1] * edges.mask, *gradients[2:])
        return [*(o.detach() for o in outs), *gradients]


@needs_kernels
@pytest.mark.parametrize("shared", [True, False], ids=["layer 0", "later layers"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-4)])
@pytest.mark.parametrize("config", [CAPPED, NetworkConfig(hidden=48)], ids=["short basis", "published basis"])
@pytest.mark.parametrize("operation", ["messages", "pulls"])
def test_each_kernel_is_the_plain_operation_gradients_too(operation, config, dtype, tolerance, shared):
    inputs = EdgeInputs(operation, config, dtype, shared=shared)
    assert inputs.plain.mask is not None
    for got, expected in zip(inputs.run(inputs.plain.fused()), inputs.run(inputs.plain), strict=True):
        assert got.shape == expected.shape
        assert float((got - expected).norm()) <= tolerance * float(expected.norm())


@needs_kernels
def test_kernels_on_a_lattice_where_edges_share_rows_are_the_plain_form_gradients_too():
    host, config = make_host("BN", (5, 5, 1)), CONFIG
    lattice = lattice_of(host, config)
    assert lattice.edges.mask is None
    network, markers = make_network(), torch.zeros(2, host.n_sites, dtype=torch.long)
    markers[:, 7], markers[1, 8:11] = 2, 1
    numbers = torch.tensor(host.numbers).repeat(2, 1)
    results = []
    for form in (lattice.fused(), lattice):
        network.zero_grad()
        out = network(numbers, markers, form.positions, form.edges)
        (out * torch.cos(torch.arange(out.numel()).view_as(out))).sum().backward()
        results.append((out.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}))
    (fused, got), (plain, expected) = results
    agree(fused, plain, 1e-8)
    for name, gradient in expected.items():
        assert float((got[name] - gradient).norm()) <= 1e-7 * float(gradient.norm()) + 1e-12, name


@needs_kernels
@pytest.mark.parametrize("operation", ["messages", "pulls"])
def test_a_width_that_fills_no_vector_takes_the_plain_form(operation):
    inputs = EdgeInputs(operation, CONFIG.model_copy(update={"hidden": 10}), torch.float32)
    for got, expected in zip(inputs.run(inputs.plain.fused()), inputs.run(inputs.plain), strict=True):
        assert torch.equal(got, expected)


@needs_kernels
def test_a_table_made_by_a_prediction_serves_a_training():
    inputs = EdgeInputs("pulls", NetworkConfig(hidden=16, gaussians=13, radial_extent=9.0), torch.float64)
    fused = inputs.plain.fused()
    edge = EdgeState(fused.radial(inputs.distance.detach(), inputs.basis), inputs.unit.detach())
    phi, gate = (a.detach() for a in inputs.arrays[2:4])
    with torch.inference_mode():
        fused.pulls(phi, DefectGate(gate, inputs.markers), edge, inputs.filters, inputs.mlp)
    assert inputs.run(fused)[-6].norm() > 0  # of the filters' weights


@needs_kernels
@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e9])
@pytest.mark.parametrize("operation", ["messages", "pulls"])
def test_a_structure_that_explodes_leaves_its_batch_as_it_is_and_lengthens_no_table(operation, broken):
    inputs = EdgeInputs(operation, CONFIG, torch.float64)
    expected = inputs.run(inputs.plain)
    with torch.no_grad():
        inputs.distance[0] = broken
        inputs.unit[0] = math.nan
    edge = inputs.plain.fused().radial(inputs.distance, inputs.basis)
    assert len(edge.table.features) < 1000
    outputs = 2 if operation == "messages" else 1
    for got, plain in zip(inputs.run(inputs.plain.fused())[:outputs], expected, strict=False):
        assert float((got[1] - plain[1]).norm()) <= 1e-7 * float(plain[1].norm())
        assert got[1].isfinite().all()


@needs_kernels
@pytest.mark.parametrize("width", [7, 32])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_the_compiled_activation_is_the_plain_one_gradients_too(dtype, tolerance, width):
    of = Crystal()
    plain = table_edges(find_neighbours(of.lattice, of.positions, CONFIG), of.lattice, dtype=dtype)
    torch.manual_seed(4)
    inputs = [torch.randn(2, 14, 3, w, dtype=dtype).requires_grad_() for w in (width, 1)]

    def run(edges: TableEdges) -> list[torch.Tensor]:
        out = edges.activated(*inputs)
        loss = (out * torch.cos(torch.arange(out.numel(), dtype=dtype).view_as(out))).sum()
        return [out.detach(), *torch.autograd.grad(loss, inputs)]

    for got, expected in zip(run(plain.fused()), run(plain), strict=True):
        assert float((got - expected).norm()) <= tolerance * float(expected.norm())
