"""Networks with parts left out: what each leaves out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from definet_flows.defects import nodes
from definet_flows.hosts import make_host
from definet_flows.model.data.batches import lattice_of
from definet_flows.model.data.graph import crystal, find_neighbours, list_edges
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import SUBSTITUTION, VACANCY, Configuration, Edit
from standins.network_variants import Variant, VariantNetwork

CONFIG = NetworkConfig(hidden=8, layers=2, gaussians=8, radial_extent=7, cutoff=4)
ALL = {
    "published": Variant(),
    "no gates": Variant(markers="nodes"),
    "blind": Variant(markers="nowhere"),
    "vanilla": Variant(markers="nodes", updates=False),
    "no global node": Variant(global_node=False),
    "no activation": Variant(activation=False),
}
HOST = make_host("MoS2", (4, 4, 1))
BOTH = Configuration(
    edits=(
        Edit(site=0, marker=VACANCY, old=HOST.numbers[0], new=None),
        Edit(site=20, marker=SUBSTITUTION, old=HOST.numbers[20], new=34),
    )
)


def network(variant: Variant) -> VariantNetwork:
    torch.manual_seed(0)
    return VariantNetwork(CONFIG, variant).double()


def inputs(*, markers: bool = True):
    numbers, marks = (torch.as_tensor(np.asarray(a, dtype=np.int64))[None] for a in nodes(HOST, BOTH))
    return numbers, marks if markers else torch.zeros_like(marks)


def run(model, numbers, markers, *, fused: bool = True):
    lattice = lattice_of(HOST, CONFIG)
    with torch.no_grad():
        return model(numbers, markers, lattice.positions, (lattice.fused() if fused else lattice).edges)[0]


def test_the_full_variant_is_the_published_network():
    model = network(Variant())
    plain = DefiNet(CONFIG).double()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(run(model, *inputs()), run(plain, *inputs()))


@pytest.mark.parametrize("name", ALL)
def test_the_kernels_give_what_the_plain_form_gives(name):
    model = network(ALL[name])
    assert torch.allclose(run(model, *inputs()), run(model, *inputs(), fused=False), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_a_rotated_crystal_moves_rotated(name):
    model, lattice = network(ALL[name]), lattice_of(HOST, CONFIG)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    edges = type(lattice.edges)(
        lattice.edges.table, lattice.edges.shift @ turn, lattice.edges.reverse, lattice.edges.mask
    )
    with torch.no_grad():
        turned = model(*inputs(), lattice.positions @ turn, edges)[0]
    assert torch.allclose(turned, run(model, *inputs(), fused=False) @ turn, rtol=0, atol=1e-9)


def test_a_blind_network_sees_a_crystal_of_atoms():
    # the same numbers from a crystal that has no node where the vacancy is
    model, (numbers, markers) = network(ALL["blind"]), inputs()
    kept = (markers[0] != VACANCY).numpy()
    cell, positions = np.array(HOST.lattice), HOST.cartesian[kept]
    batch = Batch.from_data_list([crystal(find_neighbours(cell, positions, CONFIG), cell, positions, torch.float64)])
    with torch.no_grad():
        bare = model(numbers[0, kept], torch.zeros(int(kept.sum()), dtype=torch.int64), batch.pos, list_edges(batch))
    assert torch.allclose(run(model, numbers, markers)[kept], bare, rtol=0, atol=1e-6)  # tables are interpolated


def test_a_blind_network_does_not_tell_a_substitution_from_an_atom_of_the_host():
    model, (numbers, markers) = network(ALL["blind"]), inputs()
    assert torch.equal(
        run(model, numbers, markers), run(model, numbers, torch.where(markers == SUBSTITUTION, 0, markers))
    )


def test_without_gates_the_markers_enter_the_nodes_alone():
    blocked = network(ALL["no gates"])
    gated = network(Variant())
    with torch.no_grad():
        for model in (blocked, gated):
            model.lin_comb.weight[:, CONFIG.hidden :] = 0
    for model, alike in ((blocked, True), (gated, False)):
        marked, unmarked = (run(model, *inputs(markers=markers)) for markers in (True, False))
        assert torch.equal(marked, unmarked) is alike


@pytest.mark.parametrize(
    ("name", "unused"),
    [("vanilla", "coord_update_layers"), ("no global node", "virtual"), ("no activation", "activation")],
)
def test_parts_left_out_learn_nothing(name, unused):
    model, lattice = network(ALL[name]), lattice_of(HOST, CONFIG)
    (model(*inputs(), lattice.positions, lattice.edges)[0] ** 2).sum().backward()
    learns = {key for key, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)}
    kept = {"vanilla": "lin_vec2coord", "no activation": "lin_vec.weight"}.get(name, "-")  # the map stays, eq. 12
    assert learns
    assert {key for key in learns if unused in key and kept not in key} == set()
