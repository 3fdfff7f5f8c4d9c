"""Charges, inserted atoms and bulk supercells: what the network makes of them, and what its card says of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from network_helpers import CONFIG, KNOWING, Crystal, agree, form_parameters, make_network, relaxed
from pymatgen.core import Lattice, Structure

from definet_flows.hosts import make_host
from definet_flows.model.data.archive import PairSet
from definet_flows.model.data.batches import lattice_of
from definet_flows.model.inference.checkpoint import Card, Checkpoint, Learned, save_checkpoint
from definet_flows.model.inference.domain import outside, unit_cell
from definet_flows.model.inference.predict import predict
from definet_flows.model.training.finetune import fine_tune
from definet_flows.model.training.train import TrainConfig, learned_in, shrink_heads
from definet_flows.schemas import INSERTED, SUBSTITUTION, VACANCY, Configuration, Edit, Host
from definet_flows.starts.gate import judge_proposal
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.proposals import Proposal


@pytest.fixture(scope="module")
def salt() -> Host:
    return make_host(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3]), (2, 2, 2)
    )


def vacancy(host: Host, site: int = 0, charge: int = 0) -> Configuration:
    return Configuration(edits=(Edit(site=site, marker=VACANCY, old=host.numbers[site]),), charge=charge)


def interstitial(charge: int = 0, position=(0.125, 0.125, 0.125)) -> Configuration:
    return Configuration(edits=(Edit(marker=INSERTED, new=8, position=position),), charge=charge)


def checkpoint(folder: Path, host: Host, config=KNOWING, **card) -> Checkpoint:
    network = make_network(config, torch.float32)
    fields = {"name": "salt", "config": config, "hosts": (unit_cell(host),), "elements": (8, 12), **card}
    return save_checkpoint(folder / "salt.safetensors", network, Card(**fields))


# ------------------------------------------------------------------ inputs


def test_without_the_options_the_network_has_the_published_parameters():
    assert not any("charge" in name for name in make_network().state_dict())
    assert make_network().defect_emb.embeddings.weight.shape[0] == 3
    assert make_network(KNOWING).defect_emb.embeddings.weight.shape[0] == 4


@pytest.mark.parametrize("form", form_parameters())
def test_a_charge_changes_the_prediction_and_its_sign_matters(form):
    network, of = make_network(KNOWING).requires_grad_(requires_grad=False), Crystal()
    plus, minus, none = (relaxed(network, of.copy(charges=np.array([q, q])), form) for q in (1, -1, 0))
    assert float((plus - none).abs().max()) > 1e-3
    assert float((plus - minus).abs().max()) > 1e-3


@pytest.mark.parametrize("form", form_parameters())
def test_neutral_weights_give_a_knowing_network_the_same_numbers_for_neutral_cells(form, tmp_path):
    parent = save_checkpoint(tmp_path / "p.safetensors", make_network(), Card(name="p", config=CONFIG))
    grown = parent.trainable(KNOWING.model_copy(update={"passes": 2})).double().requires_grad_(requires_grad=False)
    own = parent.trainable(CONFIG.model_copy(update={"passes": 2})).double().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(grown.site_charge.weight)
    of = Crystal().copy(charges=np.array([0, 0]), numbers=np.full((2, 14), 7))  # `relaxed` marks no atom as inserted
    agree(relaxed(grown, of, form), relaxed(own, of, form), 1e-13)  # rounding: a table of four rows is another product


def test_a_charged_cell_of_a_network_that_has_not_learned_charges_is_a_neutral_cell(tmp_path):
    parent = save_checkpoint(tmp_path / "p.safetensors", make_network(), Card(name="p", config=CONFIG))
    grown, of = parent.trainable(KNOWING).double().requires_grad_(requires_grad=False), Crystal()
    assert torch.equal(relaxed(grown, of, "table"), relaxed(grown, of.copy(charges=np.array([0, 0])), "table"))


def test_predictions_of_charges_and_inserted_atoms_are_each_by_itself(salt, tmp_path):
    model = checkpoint(tmp_path, salt)
    every = [
        vacancy(salt),
        interstitial(1),
        vacancy(salt, charge=2),
        interstitial(0, (0.375, 0.125, 0.125)),
        vacancy(salt, 1),
    ]
    together = predict(model, salt, every)
    assert [len(raw.displacements) for raw in together] == [64, 65, 64, 65, 64]
    for configuration, raw in zip(every, together, strict=True):
        (alone,) = predict(model, salt, [configuration])
        assert np.abs(alone.displacements - raw.displacements).max() < 1e-4 * np.abs(raw.displacements).max()
    assert np.abs(together[0].displacements - together[2].displacements).max() > 1e-4
    assert np.abs(together[1].displacements[:64] - together[3].displacements[:64]).max() > 1e-4


def test_an_inserted_atom_stays_where_symmetry_holds_it_and_pushes_its_neighbours(salt, tmp_path):
    (raw,) = predict(checkpoint(tmp_path, salt), salt, [interstitial()])
    assert np.abs(raw.displacements[64]).max() < 1e-4  # in the middle of a cube, Td
    assert np.abs(raw.displacements).max() > 1e-3


def test_a_prediction_from_a_start_contains_it(salt, tmp_path):
    network, begun = make_network(KNOWING, torch.float32), np.zeros((64, 3))
    shrink_heads(network, 1e-9)  # it moves nothing on
    card = Card(name="still", config=KNOWING)
    begun[5] = (0.3, 0.0, 0.1)
    (raw,) = predict(
        save_checkpoint(tmp_path / "s.safetensors", network, card), salt, [vacancy(salt, charge=1)], starts=[begun]
    )
    expected = begun - begun[1:].mean(0)  # the mean over the atoms, the vacancy left out
    assert np.abs((raw.displacements - expected)[1:]).max() < 1e-5


# ------------------------------------------------------------------ domain

LEARNED = tuple(
    Learned(host="MgO", kind=k, charge=q, n=n) for k, q, n in (("v_Mg", 0, 3), ("v_Mg", -2, 1), ("O_i", 1, 4))
)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ((0, 0), ""),
        ((0, -2), ""),
        ((None, 1), ""),
        ((0, -1), "v_Mg in charge -1 never seen in training, only in -2, 0"),
        ((None, 0), "O_i in charge 0 never seen in training, only in +1"),
        ((63, -2), "v_O never seen in training in host MgO"),
    ],
)
def test_the_domain_is_what_was_learned_by_kind_and_charge(salt, tmp_path, asked, reason):
    site, charge = asked
    configuration = interstitial(charge) if site is None else vacancy(salt, site, charge)
    card = checkpoint(tmp_path, salt, learned=LEARNED).card
    assert "; ".join(outside(card, salt, configuration, allow_unseen_host=False)) == reason


def test_weights_that_know_neutral_cells_refuse_charges_and_inserted_atoms(salt, tmp_path):
    card = checkpoint(tmp_path, salt, CONFIG).card
    assert list(outside(card, salt, vacancy(salt), allow_unseen_host=False)) == []
    for asked in (vacancy(salt, charge=1), interstitial()):
        (reason,) = outside(card, salt, asked, allow_unseen_host=True)
        assert "network" in reason


def test_the_gate_passes_an_inserted_atom_that_was_learned_and_none_on_top_of_another(salt, tmp_path):
    known = Learned(host="MgO", kind="O_i", charge=1, n=1)
    prerelaxer = NetworkPreRelaxer(checkpoint(tmp_path, salt, learned=(known,)))
    still = Proposal(np.zeros((65, 3)))
    asked = (interstitial(1), interstitial(1, (0.01, 0.0, 0.0)), interstitial(2))
    gates = [prerelaxer.judge(salt, one, salt.cartesian, still) for one in asked]
    assert [gate.verdict for gate in gates] == ["accepted", "rejected", "rejected"]
    assert gates[1].reason == "unrelaxed Mg (site 0) and O (site 64) 0.08 Å apart, on top of each other"
    assert not gates[2].in_domain


def test_no_two_hydrogen_atoms_start_on_top_of_each_other(salt):
    away = np.zeros((66, 3))
    away[64, 0] = 0.6  # a proposal that takes them apart does not mend the start
    gates = []
    for apart in (0.45, 0.55):
        pair = (Edit(marker=INSERTED, new=1, position=(x, 0.125, 0.125)) for x in (0.125, 0.125 - apart / 8.4))
        asked = Configuration(edits=tuple(pair))
        gates.append(judge_proposal(salt, asked, salt.cartesian, Proposal(away)))
    assert [gate.verdict for gate in gates] == ["rejected", "accepted"]
    assert gates[0].reason == "unrelaxed H (site 64) and H (site 65) 0.45 Å apart, on top of each other"


def test_a_chain_goes_on_from_the_start_of_charged_cells_with_inserted_atoms(salt, tmp_path):
    prerelaxer = NetworkPreRelaxer(checkpoint(tmp_path, salt))
    begun = np.random.default_rng(3).normal(0, 0.02, (65, 3))
    ends = prerelaxer.propose_from(salt, salt.cartesian, [interstitial(1), vacancy(salt, charge=1)], [begun, None])
    (first,) = predict(prerelaxer.checkpoint, salt, [interstitial(1)], starts=[begun])
    (second,) = prerelaxer.propose(salt, salt.cartesian, [vacancy(salt, charge=1)])
    assert np.abs(ends[0].displacements - first.displacements).max() < 1e-5
    assert np.abs(ends[1].displacements - second.displacements).max() < 1e-5


# ------------------------------------------------------------------ training


def pairs(host: Host, inserted=()) -> PairSet:
    """Neighbours of v_Mg, or of O_i, move by as much as the charge says."""
    n, rows = 6, host.n_sites + len(inserted)
    charges = (-1, 0, 1) * 2
    moved = np.zeros((n, rows, 3), dtype=np.float32)
    near = np.linalg.norm((host.cartesian - host.cartesian[0] + 4.2) % 8.4 - 4.2, axis=1)
    moved[:, np.flatnonzero((near > 0.1) & (near < 2.2)), 2] = 0.1 * np.array(charges)[:, None]
    markers = np.zeros((n, rows), dtype=np.uint8)
    markers[:, 0 if not inserted else -1] = INSERTED if inserted else VACANCY
    return PairSet(
        name=f"salt {len(inserted)}",
        host=host,
        ids=tuple(map(str, range(n))),
        splits=("train",) * 3 + ("val",) * 3,
        numbers=np.tile(np.array([*host.numbers, *(8,) * len(inserted)], dtype=np.uint8), (n, 1)),
        markers=markers,
        unrelaxed=np.zeros_like(moved),
        relaxed=moved,
        malformed=(),
        charges=charges,
        inserted=tuple(inserted),
    )


def test_a_training_learns_charges_and_inserted_atoms_and_its_card_counts_them(salt, tmp_path):
    sets = [pairs(salt, [(0.125, 0.125, 0.125)]), pairs(salt)]
    recipe = TrainConfig(network=CONFIG, epochs=2, batch=3, warmup=2, ema=0.5)
    model = fine_tune(None, sets, recipe, tmp_path, name="salted")
    assert model.card.config.charges
    assert model.card.config.inserted
    assert model.network.site_charge.weight.abs().max() > 0
    assert len(model.card.hosts) == 1
    assert {(seen.kind, seen.charge, seen.n) for seen in model.card.learned} == {
        (kind, charge, 1) for kind in ("v_Mg", "O_i") for charge in (-1, 0, 1)
    }
    further = fine_tune(model, [replace(pairs(salt), charges=(2,) * 6)], recipe, tmp_path / "on", name="on")
    assert {seen.charge for seen in further.card.learned if seen.kind == "v_Mg"} == {-1, 0, 1, 2}


def test_substitutions_are_counted_by_their_kind(salt):
    swapped = pairs(salt)
    swapped.markers[:, 0], swapped.numbers[:, 0] = SUBSTITUTION, 8
    assert {seen.kind for seen in learned_in([swapped])} == {"O_Mg"}


def test_the_identity_of_data_knows_the_charge(salt):
    neutral = replace(pairs(salt), charges=(0,) * 6)
    assert neutral.data_hash == replace(neutral, charges=()).data_hash != pairs(salt).data_hash
    torn = replace(neutral, inserted=((0.1, 0.2, 0.3),))
    assert torn.data_hash != neutral.data_hash


def test_the_charge_of_a_structure_is_read_in_no_other():
    network, of = make_network(KNOWING).requires_grad_(requires_grad=False), Crystal()
    both = of.copy(numbers=of.numbers[[0, 0]], markers=of.markers[[0, 0]], charges=np.array([1, -2]))
    swapped = both.copy(charges=np.array([-2, 1]))
    for form in ("list", "table"):
        agree(relaxed(network, both, form), relaxed(network, swapped, form)[[1, 0]])


@pytest.mark.parametrize("form", form_parameters())
def test_a_charge_moves_nothing_in_a_crystal_without_defects(form):
    config = CONFIG.model_copy(update={"charges": True})
    network, of = make_network(config).requires_grad_(requires_grad=False), Crystal()
    pristine = of.copy(markers=np.zeros_like(of.markers))
    charged, neutral = (relaxed(network, pristine.copy(charges=np.array([q, -q])), form) for q in (3, 0))
    assert torch.equal(charged, neutral)


@pytest.mark.parametrize("edited", [SUBSTITUTION, VACANCY, INSERTED])
def test_a_charge_enters_at_the_edited_site_and_a_layer_hands_it_on_by_two_bonds(salt, edited):
    config = KNOWING.model_copy(update={"layers": 1, "cutoff": 2.2})  # a bond: 2.1 Å
    network = make_network(config).requires_grad_(requires_grad=False)
    lattice = lattice_of(salt, config)
    numbers, markers = torch.tensor(salt.numbers).expand(3, -1), torch.zeros(3, 64, dtype=torch.int64)
    markers[:, 0] = edited
    positions = lattice.positions + 0.1 * torch.randn(1, 64, 3)  # no symmetry holds an atom where it is
    moved = network(numbers, markers, positions, lattice.edges, torch.tensor([0, 2, -2]))
    by_charge = (moved[1:] - moved[0]).abs().amax((0, 2))  # [64]
    away = salt.cartesian - salt.cartesian[0]
    bonds = np.abs(away - 8.4 * np.rint(away / 8.4)).sum(1) / 2.1
    near = torch.as_tensor(bonds < 2.5)  # a message, then a pull
    assert float(by_charge[~near].max()) < 1e-13
    assert float(by_charge[near].max()) > 1e-3
