"""How often the 95 % interval of a saving holds the true saving, by simulation.

    python benchmarks/coverage.py --stores 1200

Each simulated store has n configurations. Unrelaxed arms take 30 steps on average, log-normal with 40 % scatter; arms
from predictions take half of that, with 35 % scatter of their own; steps are whole numbers. `outliers`: 5 % of the arms
from predictions take eight times as long. `shared`: three sets of weights share each unrelaxed arm. The last method is
`definet_flows.stores.analysis.interval`, called as `definet savings` calls it.
"""

from __future__ import annotations

import argparse
import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from definet_flows.stores.analysis.interval import saving_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from definet_flows.schemas import FloatArray

Kind = Literal["clean", "outliers", "shared"]
KINDS: tuple[Kind, ...] = ("clean", "outliers", "shared")
SIZES = (2, 3, 5, 10, 20, 50, 100)
WEIGHTS = 3
LONG, LONGER = 0.05, 8.0
"""Share of arms from predictions that take longer, and how many times as long"""
_RESAMPLES = 999
_TRUTH = 1_000_000

Ends = tuple[float, float] | None


def draw(kind: Kind, count: int, random: np.random.Generator) -> tuple[FloatArray, list[str]]:
    """Return unrelaxed and predicted steps of each pair [n, 2], and the configuration of each pair."""
    rounds = WEIGHTS if kind == "shared" else 1
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


def percentile(costs: FloatArray, names: list[str]) -> Ends:
    """Return the percentile bootstrap over pairs, from two pairs on."""
    del names
    return _scipy(costs, "percentile")


def bca(costs: FloatArray, names: list[str]) -> Ends:
    """Return the bias-corrected and accelerated bootstrap over pairs."""
    del names
    return _scipy(costs, "BCa")


def _scipy(costs: FloatArray, method: Literal["percentile", "BCa"]) -> Ends:
    found = stats.bootstrap(
        tuple(costs.T),
        lambda unrelaxed, predicted, axis: 1 - predicted.sum(axis=axis) / unrelaxed.sum(axis=axis),
        n_resamples=_RESAMPLES,
        paired=True,
        method=method,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def student(costs: FloatArray, names: list[str]) -> Ends:
    """Return Student's t interval of the ratio estimator over configurations."""
    sums = np.array([costs[[name == one for name in names]].sum(axis=0) for one in dict.fromkeys(names)])
    count, (unrelaxed, predicted) = len(sums), sums.sum(axis=0)
    left = sums[:, 1] - predicted / unrelaxed * sums[:, 0]
    reach = stats.t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * np.square(left).sum()) / unrelaxed
    return saving(sums) - float(reach), saving(sums) + float(reach)


def used(costs: FloatArray, names: list[str]) -> Ends:
    """Return the interval that `definet savings` states."""
    return saving_interval(costs, names).ends


METHODS: dict[str, Callable[[FloatArray, list[str]], Ends]] = {
    "percentile": percentile,
    "BCa": bca,
    "Student's t": student,
    "used": used,
}


@cache
def true_saving(kind: Kind, seed: int) -> float:
    """Return the saving of very many configurations."""
    return saving(draw(kind, _TRUTH, np.random.default_rng(seed))[0])


def coverage(kind: Kind, count: int, stores: int, method: str, seed: int = 1) -> tuple[float, float] | None:
    """Return the share of intervals that hold the true saving and their median width; None without any."""
    random = np.random.default_rng([seed, count])
    truth = true_saving(kind, seed)
    drawn = [METHODS[method](*draw(kind, count, random)) for _ in range(stores)]
    ends = np.array([one for one in drawn if one is not None])
    if not len(ends):
        return None
    held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return float(held.mean()), float(np.median(ends[:, 1] - ends[:, 0]))


def main() -> None:
    """Print one table for each kind of store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=1200, help="simulated stores for each cell")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # BCa of two pairs is not a number: it counts as not held
    for kind in KINDS:
        print(f"\n| {kind} | {' | '.join(f'{name} | width' for name in given.methods)} |")
        print(f"|---|{'---|---|' * len(given.methods)}")
        for count in SIZES:
            cells = [_cell(coverage(kind, count, given.stores, name)) for name in given.methods]
            print(f"| {count} | {' | '.join(cells)} |", flush=True)


def _cell(found: tuple[float, float] | None) -> str:
    return "too few | -" if found is None else f"{100 * found[0]:.1f} | {found[1]:.2f}"


if __name__ == "__main__":
    main()
