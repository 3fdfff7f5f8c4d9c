"""A defect structure described otherwise is the same configuration, and every atom moves by the same vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from descriptions import WAYS, describe, relaxed, relaxed_field, samples, unlike
from file_helpers import poscar_text

from definet_flows.defects import build_structure, canonical, nodes, recover
from definet_flows.model.inference.checkpoint import Card, save_checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import VACANCY
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.crystals import read_crystals
from definet_flows.structures.in_host import predict_crystals
from definet_flows.structures.match import HostFinder, finder_for
from definet_flows.structures.tree import prerelax_tree

HOSTS = tuple(samples())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights that know all hosts and move atoms by some hundredths of an Å."""
    torch.manual_seed(0)
    config = NetworkConfig(hidden=8, layers=1, gaussians=8, radial_extent=6, cutoff=4.5)
    network = DefiNet(config)
    with torch.no_grad():
        for layer in network.coord_update_layers:
            layer.lin_vec2coord.weight *= 10
            layer.coord_mlp[2].weight *= 10
    units = tuple(unit_cell(sample.host) for sample in samples().values())
    card = Card(name="all", config=config, hosts=units, elements=tuple(range(1, 80)))
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "all.safetensors", network, card)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HOSTS)
def test_a_relaxed_structure_is_recovered(name, way):
    sample = samples()[name]
    other = describe(relaxed(sample.host, sample.configuration), way, sample.axis)
    found = recover(sample.host, other.structure)
    assert canonical(sample.host, found.configuration) == sample.configuration
    moved = found.positions - sample.host.cartesian
    atoms = nodes(sample.host, sample.configuration)[1] != VACANCY
    expected = relaxed_field(sample.host, sample.configuration)
    assert unlike(sample.host, expected, moved, atoms) < (1e-3 if way in {"noise", "all"} else 1e-5)
    back = found.frame.back(np.eye(3)) @ other.structure.lattice.matrix
    assert np.allclose(back @ back.T, np.eye(3), atol=1e-8)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HOSTS)
def test_a_prediction_moves_every_atom_by_the_same_vector(checkpoint, name, way):
    sample = samples()[name]
    structure = build_structure(sample.host, sample.configuration)
    finder = HostFinder([sample.unit], given=True)
    plain = predicted(checkpoint, finder, structure)
    assert 0.003 < np.linalg.norm(plain, axis=1).max() < 4
    other = describe(structure, way, sample.axis)
    moved = predicted(checkpoint, HostFinder([sample.unit], given=True), other.structure)
    assert np.allclose(moved, plain[other.order] @ other.rotation, atol=2e-3 if way in {"noise", "all"} else 1e-4)


@pytest.mark.parametrize("way", ["left-handed", "permuted", "all"])
@pytest.mark.parametrize("name", ["BN across a", "wurtzite"])
def test_a_tree_of_poscars_is_prerelaxed_alike(checkpoint, name, way, tmp_path):
    sample = samples()[name]
    structure = build_structure(sample.host, sample.configuration)
    plain = predicted(checkpoint, HostFinder([sample.unit], given=True), structure)
    other = describe(structure, way, sample.axis)
    path = tmp_path / "POSCAR"
    made = other.structure
    grouped = np.argsort(made.atomic_numbers, kind="stable")
    frac = made.frac_coords[grouped]
    path.write_text(poscar_text(np.array(made.lattice.matrix), np.array(made.atomic_numbers)[grouped], frac))
    (entry,) = prerelax_tree(NetworkPreRelaxer(checkpoint), tmp_path, finder_for(checkpoint.card, None, None))
    assert entry.action == "moved", entry.reason
    (crystal,) = read_crystals(path, path.read_bytes()).crystals
    assert np.linalg.det(crystal.lattice) > 0  # VASP refuses what is left-handed
    moved = crystal.frac @ crystal.lattice - frac @ made.lattice.matrix
    assert np.allclose(moved, (plain[other.order] @ other.rotation)[grouped], atol=2e-3)


def predicted(checkpoint, finder, structure):
    """Displacements of the atoms, Cartesian, Å."""
    crystal = Crystal(np.array(structure.lattice.matrix), np.array(structure.atomic_numbers), structure.frac_coords)
    (one,) = predict_crystals(NetworkPreRelaxer(checkpoint), finder, [crystal])
    assert one.frac is not None, one.reason
    assert one.gate.in_domain, one.reason
    return (one.frac - crystal.frac) @ crystal.lattice
