"""Distinct predictions: what is drawn, what counts as the same, and what `prerelax(samples=n)` makes of it."""

import numpy as np
import pytest
import torch
from file_helpers import HOST, configurations, small_checkpoint
from file_helpers import structure as defect

from definet_flows import InputError, prerelax
from definet_flows.defects import nodes, stabilizer
from definet_flows.model.inference.checkpoint import combine, save_checkpoint
from definet_flows.model.inference.predict import predict
from definet_flows.schemas import VACANCY
from definet_flows.starts.gate import distance_to_defects
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.proposals import Proposal
from definet_flows.starts.samples import BROKEN, NEAR, broken, sampled

VACANCY_OF_S = configurations()[0]
ATOMS = nodes(HOST, VACANCY_OF_S)[1] != VACANCY


class Given:
    """A network whose samples are these displacements."""

    def __init__(self, *moved):
        self.moved = moved

    def sample(self, _host, _configuration, starts):
        assert len(starts) == len(self.moved)
        return [Proposal(moved) for moved in self.moved]


def distorted(size, axis=0):
    """Displacements of an atom beside the vacancy along an axis, Å."""
    moved = np.zeros((HOST.n_sites, 3))
    beside = np.where(ATOMS, distance_to_defects(HOST, VACANCY_OF_S), np.inf).argmin()
    moved[beside, axis] = size
    return moved


def members(*moved, first=None):
    """How many of these samples lead to each prediction; the first is unmoved unless given."""
    begun = Proposal(np.zeros((HOST.n_sites, 3)) if first is None else first)
    return [one.members for one in sampled(Given(*moved), HOST, VACANCY_OF_S, begun, 1 + len(moved))]


def test_starts_are_random_near_the_defects_alone_and_the_same_on_every_call():
    one, two, three = broken(HOST, VACANCY_OF_S, 3)
    np.testing.assert_array_equal([one, two], list(broken(HOST, VACANCY_OF_S, 2)))
    near = ATOMS & (distance_to_defects(HOST, VACANCY_OF_S) < NEAR)
    assert 6 < near.sum() < HOST.n_sites / 2
    for start in (one, two, three):
        np.testing.assert_allclose(np.linalg.norm(start, axis=1), BROKEN * near, atol=1e-12)
    assert np.abs(one - two)[near].min() > 0


def test_symmetry_images_of_a_distortion_count_as_one_prediction():
    operations = stabilizer(HOST, VACANCY_OF_S)
    assert len(operations) == 6
    images = list(operations.images(distorted(0.3)))
    assert members(*images) == [1, 6]
    shifted = images[2] + [0.1, 0.2, 0.0]  # a rigid shift is no distortion
    assert members(images[0], shifted) == [1, 2]


def test_predictions_are_told_apart_as_ends_are_and_the_most_frequent_comes_first():
    near, other = distorted(0.04), distorted(0.3, axis=2)
    assert members(near) == [2]
    assert members(distorted(0.3), other, other, distorted(-0.3, axis=2)) == [1, 2, 1, 1]
    assert members(distorted(0.3), first=distorted(0.3)) == [2]


def test_a_sample_without_a_prediction_counts_for_none():
    class Silent:
        def sample(self, _host, _configuration, starts):
            return [Proposal(None, error="no")] * len(starts)

    assert [one.members for one in sampled(Silent(), HOST, VACANCY_OF_S, Proposal(distorted(0.1)), 4)] == [1]


# ------------------------------------------------------------------ networks


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two networks that disagree, and the model of both."""
    folder = tmp_path_factory.mktemp("weights")
    single = [small_checkpoint(folder / f"{k}.safetensors", "MoS2", seed=k) for k in (0, 1)]
    for k, one in enumerate(single):
        network = one.network
        with torch.no_grad():
            for layer in network.coord_update_layers:
                layer.coord_mlp[2].weight *= 4
        single[k] = save_checkpoint(folder / f"{k}.safetensors", network, one.card)
    return *single, save_checkpoint(folder / "both.safetensors", combine(single), single[0].card)


def test_the_members_of_an_ensemble_are_asked_in_turn(checkpoints):
    first, second, both = checkpoints
    starts = list(broken(HOST, VACANCY_OF_S, 3))
    found = NetworkPreRelaxer(both).sample(HOST, VACANCY_OF_S, starts)
    for proposal, start, alone in zip(found, starts, (first, second, first), strict=True):
        (raw,) = predict(alone, HOST, [VACANCY_OF_S], starts=[start])
        np.testing.assert_allclose(proposal.displacements, raw.displacements, atol=1e-6)
    assert np.abs(found[0].displacements - found[1].displacements).max() > 0.05


def test_results_carry_their_alternatives(checkpoints):
    *_, both = checkpoints
    structure = defect(configuration=VACANCY_OF_S)
    structure.properties = {"made by": {"hand": 1}}
    before = structure.copy()
    (plain,) = prerelax(structure, model=both)
    (result,) = prerelax(structure, model=both, samples=5)
    assert (plain.members, plain.alternatives) == (1, ())
    assert structure == before
    assert result.structure == plain.structure
    assert (result.verdict, result.reason, result.uncertainty) == (plain.verdict, plain.reason, plain.uncertainty)
    assert result.alternatives
    assert result.members + sum(one.members for one in result.alternatives) == 5
    counts = [one.members for one in result.alternatives]
    assert counts == sorted(counts, reverse=True)
    for one in result.alternatives:
        assert one.verdict in {"accepted", "flagged"}
        assert (one.host, one.defects, one.alternatives) == (result.host, "v_S", ())
        assert one.structure.species == structure.species
        step = one.structure.lattice.get_cartesian_coords(one.structure.frac_coords - result.structure.frac_coords)
        step -= step.mean(0)
        assert np.linalg.norm(step, axis=1).max() > 0.05
        moved = one.structure.lattice.get_cartesian_coords(one.structure.frac_coords - structure.frac_coords)
        assert np.linalg.norm(moved, axis=1).max() == pytest.approx(one.largest_displacement, abs=1e-6)
        one.structure.properties["made by"]["hand"] = 2
    assert structure.properties == {"made by": {"hand": 1}}
    (again,) = prerelax(structure, model=both, samples=5)
    assert [one.structure.frac_coords.tolist() for one in again.alternatives] == [
        one.structure.frac_coords.tolist() for one in result.alternatives
    ]


def test_what_the_gate_rejects_is_no_alternative(checkpoints):
    *_, both = checkpoints
    (charged,) = prerelax(defect(configuration=VACANCY_OF_S), model=both, samples=5, charge=-1)
    assert (charged.verdict, charged.alternatives) == ("rejected", ())
    assert "charge -1" in charged.reason


def test_the_bulk_supercell_has_a_single_prediction(checkpoints):
    from definet_flows.hosts import to_structure  # noqa: PLC0415

    *_, both = checkpoints
    (result,) = prerelax(to_structure(HOST), model=both, samples=3)
    assert (result.members, result.alternatives) == (1, ())


def test_the_shipped_network_keeps_the_symmetry_of_a_vacancy_in_a_layer():
    (result,) = prerelax(defect(configuration=VACANCY_OF_S), "MoS2", samples=4)
    assert (result.members, result.alternatives) == (4, ())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples=0: give a whole number above zero"),
        ({"samples": 1.5}, "samples=1.5: give a whole number"),
        ({"samples": True}, "samples=True"),
        ({"samples": "3"}, "samples='3'"),
        ({"samples": 3, "prerelaxer": "potential:sevennet"}, "samples=3 with prerelaxer='potential:sevennet'"),
        ({"samples": 3, "prerelaxer": "fields"}, "only definet, the network, has samples"),
    ],
)
def test_samples_that_make_no_sense_are_refused(checkpoints, options, words):
    with pytest.raises(InputError) as raised:
        prerelax(defect(), "MoS2", model=checkpoints[-1], **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
