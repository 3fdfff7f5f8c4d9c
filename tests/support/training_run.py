"""A small training in a process of its own, to be killed: python training_run.py FOLDER EPOCHS [resume]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from definet_flows.hosts import make_host
from definet_flows.model.data.archive import PairSet
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.training.train import TrainConfig, train


def pairs(n: int = 24, seed: int = 0) -> PairSet:
    """Pairs on 3 x 3 MoS2 whose vacancies pull their neighbours in by 0.2 Å."""
    host, rng = make_host("MoS2", (3, 3, 1)), np.random.default_rng(seed)
    markers = np.zeros((n, host.n_sites), dtype=np.uint8)
    relaxed = np.zeros((n, host.n_sites, 3), dtype=np.float32)
    cell, frac = np.array(host.lattice), np.array(host.frac_coords)
    for k in range(n):
        site = rng.integers(host.n_sites)
        markers[k, site] = 2
        to = frac[site] - frac
        to = (to - np.rint(to)) @ cell
        length = np.linalg.norm(to, axis=1, keepdims=True)
        near = ((length > 0) & (length < 2.6)).ravel()
        relaxed[k, near] = 0.2 * (to / np.maximum(length, 1e-9))[near]
    return PairSet(
        name="set",
        host=host,
        ids=tuple(map(str, range(n))),
        splits=("train",) * (n - 6) + ("val",) * 6,
        numbers=np.tile(np.array(host.numbers, dtype=np.uint8), (n, 1)),
        markers=markers,
        unrelaxed=np.zeros_like(relaxed),
        relaxed=relaxed,
        malformed=(),
    )


def recipe(epochs: int) -> TrainConfig:
    network = NetworkConfig(hidden=16, layers=2, gaussians=12, radial_extent=6.0, cutoff=4.0, passes=2)
    drawn = {"noise": 0.01, "interpolated": 0.3, "recycled": 0.3}
    return TrainConfig(network=network, epochs=epochs, batch=3, learning_rate=3e-3, warmup=5, ema=0.9, **drawn)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(recipe(int(sys.argv[2])), [pairs()], Path(sys.argv[1]), resume="resume" in sys.argv)
