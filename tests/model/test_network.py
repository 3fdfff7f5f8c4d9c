"""The network itself: symmetry on random weights, and that its four forms agree.

The vector activation jumps where <l, c> changes sign, so whole networks are compared in float64; float32 is compared
operation by operation.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_helpers import (
    CAPPED,
    CONFIG,
    FORMS,
    KNOWING,
    Crystal,
    agree,
    form_parameters,
    make_network,
    relaxed,
    tensors,
)
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from definet_flows.hosts import make_host
from definet_flows.model.data.batches import lattice_of
from definet_flows.model.data.graph import find_neighbours, table_edges
from definet_flows.model.inference.predict import displacements, mixed_displacements
from definet_flows.model.network import kernels
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.layers import VectorActivation, edge_state
from definet_flows.model.network.network import DefiNet
from definet_flows.model.network.radial import RadialBasis


@pytest.fixture(params=form_parameters())
def form(request) -> str:
    return request.param


@pytest.fixture(params=[CONFIG, CAPPED, KNOWING], ids=["all neighbours", "capped", "charged"])
def network(request) -> DefiNet:
    return make_network(request.param).requires_grad_(requires_grad=False)


# ------------------------------------------------------------------ symmetry


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    mirrored=st.booleans(),
    form=st.sampled_from(FORMS),
    config=st.sampled_from([CONFIG, KNOWING]),
)
def test_rotations_and_reflections_turn_the_prediction_with_the_crystal(seed, mirrored, form, config):
    if form == "fused" and kernels.library() is None:
        return
    turn = Rotation.random(random_state=seed).as_matrix() * (-1 if mirrored else 1)
    of, network = Crystal(), make_network(config).requires_grad_(requires_grad=False)
    turned = of.copy(lattice=of.lattice @ turn.T, positions=of.positions @ turn.T)
    agree(relaxed(network, turned, form), relaxed(network, of, form) @ torch.as_tensor(turn.T))


def test_a_translation_moves_the_prediction_along(network, form):
    of = Crystal()
    by = np.array([0.37, -12.1, 5.5])
    moved = relaxed(network, of.copy(positions=of.positions + by), form)
    agree(moved, relaxed(network, of, form) + torch.as_tensor(by))


def test_a_permutation_of_the_sites_permutes_the_prediction(network, form):
    of, order = Crystal(), np.random.default_rng(5).permutation(14)
    shuffled = of.copy(positions=of.positions[order], numbers=of.numbers[:, order], markers=of.markers[:, order])
    agree(relaxed(network, shuffled, form), relaxed(network, of, form)[:, order])


def test_the_periodic_image_that_an_atom_is_written_in_does_not_matter(network, form):
    of = Crystal()
    images = np.random.default_rng(6).integers(-2, 3, (14, 3)) @ of.lattice
    written = relaxed(network, of.copy(positions=of.positions + images), form)
    agree(written - torch.as_tensor(images), relaxed(network, of, form))


def test_another_choice_of_lattice_vectors_does_not_matter(network, form):
    of = Crystal()
    skewed = np.array([[1, 1, 0], [0, 1, 0], [0, -1, 1]]) @ of.lattice
    agree(relaxed(network, of.copy(lattice=skewed), form), relaxed(network, of, form))


def test_the_global_nodes_mean_over_sites_so_a_doubled_cell_predicts_the_same(network, form):
    of = Crystal()
    doubled = of.copy(
        lattice=np.diag([2, 1, 1]) @ of.lattice,
        positions=np.concatenate([of.positions, of.positions + of.lattice[0]]),
        numbers=np.tile(of.numbers, 2),
        markers=np.tile(of.markers, 2),
    )
    agree(relaxed(network, doubled, form)[:, :14], relaxed(network, of, form))


def test_the_symmetric_site_stays_where_symmetry_holds_it():
    host = make_host("MoS2", (4, 4, 1))
    markers = np.zeros((2, host.n_sites), dtype=np.int64)
    markers[1, 0] = 2
    moved = displacements(make_network(), host, np.tile(host.numbers, (2, 1)), markers)
    assert np.abs(moved[0, :16]).max() < 1e-9  # a pristine metal site has D3h symmetry
    assert np.abs(moved[1, 0]).max() < 1e-9  # so has the placeholder of its vacancy
    assert np.abs(moved[1, 1:16, 2]).max() < 1e-9  # and the mirror plane holds the others
    assert np.abs(moved[1, 1:16]).max() > 1e-4


# ------------------------------------------------------------------ one network, four forms


def gradients(network: DefiNet, of: Crystal, form: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    network.zero_grad()
    out = relaxed(network, of, form)
    weights = torch.as_tensor(np.random.default_rng(9).normal(size=tuple(out.shape)), dtype=out.dtype)
    (out * weights).sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [CONFIG, CAPPED, KNOWING], ids=["all neighbours", "capped", "charged"])
@pytest.mark.parametrize("other", form_parameters()[1:])
def test_table_and_kernels_are_the_plain_network_gradients_too(config, other):
    network, of = make_network(config), Crystal()
    found = find_neighbours(of.lattice, of.positions, config)
    assert found.kept.all() == (config is not CAPPED)
    positions, expected = gradients(network, of, "list")
    here, got = gradients(network, of, other)
    agree(here, positions)
    assert got.keys() == expected.keys()
    assert {name for name, _ in network.named_parameters()} - got.keys() == {  # what follows the last positions
        f"virtual_{kind}_layers.2.mlp_vn{rest}"
        for kind, rest in [
            ("vector", ".weight"),
            *(("scalar", f".{k}.{p}") for k in (0, 2) for p in ("weight", "bias")),
        ]
    }
    tolerance = 1e-8 if other == "fused" else 1e-9  # the kernels interpolate the radial features
    for name, gradient in expected.items():
        assert float((got[name] - gradient).norm()) <= tolerance * float(gradient.norm()), name


def test_a_batch_is_its_structures_one_by_one(network, form):
    of = Crystal()
    together = relaxed(network, of, form)
    for k in range(2):
        alone = of.copy(numbers=of.numbers[[k, k]], markers=of.markers[[k, k]], charges=of.charges[[k, k]])
        agree(relaxed(network, alone, form)[0], together[k])


def test_a_second_pass_goes_on_from_the_first_but_for_placeholders(form):
    twice = make_network(CONFIG.model_copy(update={"passes": 2})).requires_grad_(requires_grad=False)
    of, once = Crystal(), make_network().requires_grad_(requires_grad=False)
    start = torch.as_tensor(of.positions)
    for k in range(2):
        here = of.copy(numbers=of.numbers[[k, k]], markers=of.markers[[k, k]])
        first = relaxed(once, here, form)[0]
        first[torch.as_tensor(of.markers[k]) == 2] = start[torch.as_tensor(of.markers[k]) == 2]
        numbers, markers = tensors(here.numbers, here.markers)
        found = find_neighbours(of.lattice, of.positions, CONFIG)  # neighbours are those of the unrelaxed positions
        second = once(numbers, markers, first[None], table_edges(found, of.lattice, dtype=torch.float64))
        agree(relaxed(twice, here, form), second, 1e-8)


def test_mixed_hosts_in_one_batch_are_each_host_by_itself():
    network, rng, crystals = make_network(), np.random.default_rng(2), []
    for name, size in (("MoS2", (3, 3, 1)), ("BN", (3, 4, 1)), ("P", (3, 2, 1))):
        host = make_host(name, size)
        crystals.append((host, np.array(host.numbers), rng.integers(0, 3, host.n_sites)))
    together = mixed_displacements(network, crystals)
    for (host, numbers, markers), moved in zip(crystals, together, strict=True):
        alone = displacements(network, host, np.tile(numbers, (3, 1)), np.tile(markers, (3, 1)), batch_size=2)
        assert alone.shape == (3, host.n_sites, 3)
        agree(torch.as_tensor(alone), torch.as_tensor(moved).expand(3, -1, -1), 1e-8)  # one interpolates, one does not


def test_no_configurations_give_no_displacements():
    host = make_host("BN", (3, 3, 1))
    nothing = np.zeros((0, host.n_sites), dtype=np.int64)
    assert displacements(make_network(), host, nothing, nothing).shape == (0, host.n_sites, 3)


# ------------------------------------------------------------------ pieces with a number to them


def test_the_papers_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = DefiNet(NetworkConfig())
    assert sum(p.numel() for p in network.parameters()) == 28_953_092
    names = network.state_dict().keys()
    assert len(names) == 4 + 1 + 4 * (8 + 2 + 10 + 7 + 13)
    assert {"vn_emb.weight", "lin_comb.bias", "coord_update_layers.3.coord_mlp.2.bias"} < names


def test_the_cap_keeps_whole_shells_of_rock_salt():
    oxide = make_host(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0] * 3, [0.5] * 3]), (2, 2, 2)
    )
    found = find_neighbours(np.array(oxide.lattice), oxide.cartesian, NetworkConfig())
    counts = np.bincount(found.centres)
    assert set(counts) == {6 + 12 + 8 + 6}  # the shell of 24 at 4.71 Å would be cut at 50: it goes as a whole
    assert found.kept.all()
    far = find_neighbours(np.array(oxide.lattice), oxide.cartesian, NetworkConfig(max_neighbours=56))
    assert set(np.bincount(far.centres)) == {56}
    moved = displacements(
        make_network(NetworkConfig(hidden=8, layers=2)), oxide, np.array([oxide.numbers]), np.zeros((1, 64), dtype=int)
    )
    assert np.abs(moved).max() < 1e-9  # every site has the full cubic symmetry


def test_the_cap_never_binds_on_the_published_hosts():
    for name, size in (("MoS2", 8), ("WSe2", 8), ("BN", 8), ("GaSe", 6), ("P", 6)):
        edges = lattice_of(make_host(name, (size, size, 1)), NetworkConfig()).edges
        assert edges.table.shape[1] <= 39


def test_unit_vectors_point_from_neighbour_to_centre_and_lengths_are_right():
    of = Crystal()
    found = find_neighbours(of.lattice, of.positions, CONFIG)
    edges = table_edges(found, of.lattice, dtype=torch.float64)
    unit = edge_state(torch.as_tensor(of.positions)[None], edges, RadialBasis(CONFIG)).unit[0]
    for i, j, image in zip(found.centres, found.neighbours, found.images, strict=True):
        away = of.positions[i] - of.positions[j] - image @ of.lattice
        distance = np.linalg.norm(away)
        assert distance < CONFIG.cutoff
        assert ((unit[i] - torch.as_tensor(away / distance)).norm(dim=-1) < 1e-12).any()


def test_reversed_edges_are_each_others_reverse():
    of = Crystal()
    edges = table_edges(find_neighbours(of.lattice, of.positions, CAPPED), of.lattice, dtype=torch.float64)
    flat = torch.arange(edges.table.numel())
    reverse, centre = edges.reverse.flatten(), flat // edges.table.shape[1]
    assert torch.equal(reverse[reverse], flat)
    assert torch.equal(edges.table.flatten()[reverse], centre)
    shift = edges.shift.view(-1, 3)
    assert torch.allclose(shift[reverse], -shift)


def test_radial_features_are_gaussians_in_the_envelope():
    config = NetworkConfig(hidden=4)
    basis = RadialBasis(config).double()
    distance = torch.tensor([0.5, 2.4, 5.9, 29.0, 30.0, 31.0], dtype=torch.float64)
    u, spacing = distance[:, None] / 30, 1 / 127
    envelope = torch.where(u < 1, 1 - 21 * u**5 + 35 * u**6 - 15 * u**7, 0.0)
    expected = torch.exp(-0.5 / spacing**2 * (u - torch.linspace(0, 1, 128, dtype=torch.float64)) ** 2) * envelope
    assert (basis(distance, 128) - expected).abs().max() < 3e-11
    assert basis.active(distance[:3]) == math.ceil(5.9 / 30 * 127 + 7) + 1
    assert expected[:3, basis.active(distance[:3]) :].max() < 3e-11


@pytest.mark.parametrize("form", ["table", "fused"])
def test_the_vector_activation_keeps_what_agrees_with_the_consensus(form):
    of = Crystal()
    edges = table_edges(find_neighbours(of.lattice, of.positions, CONFIG), of.lattice)
    if form == "fused" and kernels.library() is None:
        pytest.skip("no g++ to build the kernels")
    activation = VectorActivation(2)
    with torch.no_grad():
        activation.lin_vec.weight.copy_(torch.eye(2))
        activation.lin_gvec.weight.copy_(torch.tensor([[2.0, 1.0]]))
    v = torch.tensor([[[1.0, -1.0], [0.0, 0.5], [0.0, 0.0]]])  # consensus (1, 0.5, 0); second feature points against it
    found = activation(v, edges.fused() if form == "fused" else edges)
    assert torch.allclose(found, torch.tensor([[[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]]]))


def test_the_gradient_is_finite_where_two_sites_coincide():
    of = Crystal()
    of.positions[1] = of.positions[0]
    _, got = gradients(make_network(), of, "table")
    assert all(torch.isfinite(gradient).all() for gradient in got.values())
