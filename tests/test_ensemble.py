"""Several networks as one: the mean of their positions, in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_run import pairs

from definet_flows.errors import InputError
from definet_flows.model.checkpoint import Card, Checkpoint, combine, load_checkpoint, save_checkpoint
from definet_flows.model.config import NetworkConfig
from definet_flows.model.network import DefiNet
from definet_flows.model.predict import displacements, mixed_displacements

CONFIG = NetworkConfig(hidden=8, layers=2, gaussians=8, radial_extent=6.0, cutoff=4.0)


def single(folder: Path, seed: int, config: NetworkConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(seed)
    return save_checkpoint(folder / f"{seed}.safetensors", DefiNet(config), Card(name=f"{seed}", config=config))


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
    with pytest.raises(InputError, match="1 weights given"):
        combine([single(tmp_path, 1)])
