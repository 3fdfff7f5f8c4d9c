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


def test_networks_of_two_shapes_are_refused(tmp_path: Path) -> None:
    other = single(tmp_path, 9, CONFIG.model_copy(update={"hidden": 10}))
    with pytest.raises(InputError, match=r"9\.safetensors has another shape than .*1\.safetensors"):
        combine([single(tmp_path, 1), other])
    with pytest.raises(InputError, match="1 weights given"):
        combine([other])
