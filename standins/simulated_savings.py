"""Stores of pairs drawn at random, whose true saving is known.

A store has n configurations. Relaxations from the unrelaxed start take 30 steps on average, log-normal with 40 %
scatter; those from the predicted start take half of that, with 35 % scatter of their own; steps are whole numbers.
`outliers`: 5 % of the relaxations from the predicted start take eight times as long. `shared`: predictions of three
networks share each relaxation from the unrelaxed start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np

from definet_flows.schemas import FloatArray

Kind = Literal["clean", "outliers", "shared"]
KINDS: tuple[Kind, ...] = ("clean", "outliers", "shared")
NETWORKS = 3
LONG, LONGER = 0.05, 8.0
"""Share of relaxations from the predicted start that take longer, and how many times as long"""
_TRUTH = 1_000_000

Ends = tuple[float, float] | None
Method = Callable[[FloatArray, list[str]], Ends]
"""From unrelaxed and predicted steps of each pair [n, 2], and the pairs' configurations, to the interval's ends."""


def draw(kind: Kind, count: int, random: np.random.Generator) -> tuple[FloatArray, list[str]]:
    """Return unrelaxed and predicted steps of each pair [n, 2], and the configuration of each pair."""
    rounds = NETWORKS if kind == "shared" else 1
    unrelaxed = np.maximum(3, np.rint(30 * _lognormal(0.4, (1, count), random))).repeat(rounds, axis=0)
    ratio = 0.5 * _lognormal(0.35, (rounds, count), random)
    if kind == "outliers":
        ratio = ratio * np.where(random.random((rounds, count)) < LONG, LONGER, 1.0)
    predicted = np.maximum(1, np.rint(unrelaxed * ratio))
    names = [str(number) for number in range(count)] * rounds
    return np.stack([unrelaxed.ravel(), predicted.ravel()], axis=1), names


def _lognormal(scatter: float, shape: tuple[int, int], random: np.random.Generator) -> FloatArray:
    """Return numbers of mean 1."""
    return random.lognormal(-(scatter**2) / 2, scatter, shape)


def saving(costs: FloatArray) -> float:
    """Return 1 - sum(predicted) / sum(unrelaxed)."""
    unrelaxed, predicted = costs.sum(axis=0)
    return float(1 - predicted / unrelaxed)


@cache
def true_saving(kind: Kind, seed: int) -> float:
    """Return the saving of very many configurations."""
    return saving(draw(kind, _TRUTH, np.random.default_rng(seed))[0])


def coverage(kind: Kind, count: int, stores: int, method: Method, seed: int = 1) -> tuple[float, float] | None:
    """Return the share of intervals that hold the true saving and their median width; None without any."""
    random = np.random.default_rng([seed, count])
    truth = true_saving(kind, seed)
    drawn = [method(*draw(kind, count, random)) for _ in range(stores)]
    ends = np.array([one for one in drawn if one is not None])
    if not len(ends):
        return None
    held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return float(held.mean()), float(np.median(ends[:, 1] - ends[:, 0]))
