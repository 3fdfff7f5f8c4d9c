"""Several networks as a single model: the mean of their positions, in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training_run import pairs

from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, Checkpoint, combine, load_checkpoint, save_checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.inference.predict import displacements, mixed_displacements
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import Host

CONFIG = NetworkConfig(hidden=8, layers=2, gaussians=8, radial_extent=6.0, cutoff=4.0)

CARD = Card(name="both", config=CONFIG)


def single(folder: Path, seed: int, config: NetworkConfig = CONFIG, hosts: tuple[str, ...] = ()) -> Checkpoint:
    torch.manual_seed(seed)
    units = tuple(unit_cell(make_host(name, (2, 2, 1))) for name in hosts)
    card = Card(name=f"{seed}", config=config, hosts=units)
    return save_checkpoint(folder / f"{seed}.safetensors", DefiNet(config), card)


def crystals_of(*names: str) -> list[tuple[Host, np.ndarray, np.ndarray]]:
    """Make crystals with random markers."""
    rng, hosts = np.random.default_rng(3), [make_host(name, (3, 3, 1)) for name in names]
    return [(host, np.array(host.numbers), rng.integers(0, 3, host.n_sites)) for host in hosts]


def each_alone(one: Checkpoint, crystals: list[tuple[Host, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    return [displacements(one.network, host, z[None], m[None])[0] for host, z, m in crystals]


def test_it_predicts_the_mean_of_its_members_after_a_round_trip(tmp_path: Path) -> None:
    data, ones = pairs(), [single(tmp_path, seed) for seed in (1, 2, 3)]
    both = save_checkpoint(tmp_path / "both.safetensors", combine(ones), ones[0].card)
    assert load_checkpoint(both.path).card.members == 3

    def moved(one: Checkpoint) -> np.ndarray:
        return displacements(one.network, data.host, data.numbers[:4], data.markers[:4])

    assert np.allclose(moved(both), np.mean([moved(one) for one in ones], axis=0), atol=1e-5)
    crystals = [(data.host, data.numbers[k], data.markers[k]) for k in range(2)]
    assert np.allclose(mixed_displacements(both.network, crystals), moved(both)[:2], atol=1e-4)


def test_several_of_several_are_all_their_members(tmp_path: Path) -> None:
    ones = [single(tmp_path, seed) for seed in (1, 2, 3)]
    two = save_checkpoint(tmp_path / "two.safetensors", combine(ones[:2]), ones[0].card)
    assert len(combine([two, ones[2]]).members) == 3


def test_it_goes_on_learning_as_its_first_member(tmp_path: Path) -> None:
    ones = [single(tmp_path, seed) for seed in (1, 2)]
    both = save_checkpoint(tmp_path / "both.safetensors", combine(ones), ones[0].card)
    first, again = ones[0].network.state_dict(), both.trainable().state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(p.requires_grad for p in both.trainable().parameters())


def test_networks_of_two_widths_are_one_model_that_goes_on_as_the_first(tmp_path: Path) -> None:
    wide = CONFIG.model_copy(update={"hidden": 12, "passes": 2, "gaussians": 10})
    ones, data = [single(tmp_path, 1), single(tmp_path, 9, wide)], pairs()
    both = load_checkpoint(save_checkpoint(tmp_path / "both.safetensors", combine(ones), ones[0].card).path)
    assert both.card.shapes == (CONFIG, wide)
    assert both.trainable().config == CONFIG
    moved = [displacements(one.network, data.host, data.numbers[:2], data.markers[:2]) for one in (both, *ones)]
    assert np.allclose(moved[0], (moved[1] + moved[2]) / 2, atol=1e-5)
    assert np.abs(moved[1] - moved[2]).max() > 1e-2


def test_the_shape_of_networks_that_share_one_is_not_repeated(tmp_path: Path) -> None:
    ones = [single(tmp_path, seed) for seed in (1, 2)]
    assert save_checkpoint(tmp_path / "both.safetensors", combine(ones), ones[0].card).card.shapes == ()


@pytest.mark.parametrize("change", [{"cutoff": 4.5}, {"max_neighbours": 20}, {"max_number": 90}])
def test_networks_that_see_other_neighbours_are_refused(change: dict[str, float], tmp_path: Path) -> None:
    other = single(tmp_path, 9, CONFIG.model_copy(update=change))
    with pytest.raises(InputError, match=r"9\.safetensors sees .*1\.safetensors"):
        combine([single(tmp_path, 1), other])


def test_a_mean_of_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 models given"):
        combine([single(tmp_path, 1)])


def test_a_network_of_one_host_is_asked_about_that_host_alone(tmp_path: Path) -> None:
    every = single(tmp_path, 1, hosts=("MoS2", "BN"))
    ones = [every, single(tmp_path, 2, hosts=("BN",)), single(tmp_path, 3, hosts=("BN", "P"))]
    both = load_checkpoint(save_checkpoint(tmp_path / "both.safetensors", combine(ones), every.card).path)
    assert both.card.speak_for == ((), ("BN",), ("BN", "P"))
    crystals = crystals_of("BN", "MoS2", "BN", "P", "MoS2", "GaSe")
    alone = [each_alone(one, crystals) for one in ones]
    asked = {"BN": (0, 1, 2), "MoS2": (0,), "P": (0, 2), "GaSe": (0,)}
    together = mixed_displacements(both.network, crystals)
    for k, (crystal, in_a_batch) in enumerate(zip(crystals, together, strict=True)):
        expected = np.mean([alone[member][k] for member in asked[crystal[0].formula]], axis=0)
        assert np.allclose(each_alone(both, [crystal])[0], expected, atol=1e-5)
        assert np.allclose(in_a_batch, expected, atol=1e-4)
    assert np.abs(alone[0][0] - alone[1][0]).max() > 1e-2


def test_whom_a_network_speaks_for_outlives_another_combining(tmp_path: Path) -> None:
    every, other = (single(tmp_path, seed, hosts=("MoS2", "BN")) for seed in (1, 3))
    narrow = combine([every, single(tmp_path, 2, hosts=("BN",))])
    two = save_checkpoint(tmp_path / "two.safetensors", narrow, every.card)
    assert combine([two, other]).hosts == ((), ("BN",), ())
    assert combine([other, two]).hosts == ((), (), ("BN",))


def test_a_network_whose_hosts_are_not_known_speaks_for_all(tmp_path: Path) -> None:
    known, unknown = single(tmp_path, 1, hosts=("BN",)), single(tmp_path, 2)
    assert combine([known, unknown]).hosts == ((), ())
    assert combine([unknown, known]).hosts == ((), ("BN",))


@pytest.mark.parametrize("speak_for", [((), ("BN",), ()), (("BN",), ())])
def test_a_card_by_which_no_network_speaks_for_every_host_is_refused(
    speak_for: tuple[tuple[str, ...], ...], tmp_path: Path
) -> None:
    both = save_checkpoint(tmp_path / "2.safetensors", combine([single(tmp_path, 1), single(tmp_path, 3)]), CARD)
    card = both.card.model_copy(update={"speak_for": speak_for})
    save_file(both.network.state_dict(), tmp_path / "bad.safetensors", metadata={"definet": card.model_dump_json()})
    with pytest.raises(InputError, match=r"bad\.safetensors: unreadable card .*the first for every host"):
        load_checkpoint(tmp_path / "bad.safetensors")
