"""How often the 95 % interval of a saving holds the true saving, by simulation.

    python benchmarks/coverage.py --stores 1200

`standins/simulated_savings.py` says how the stores are drawn. The last method is
`definet_flows.stores.analysis.interval`, called as `definet savings` calls it.
"""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from definet_flows.stores.analysis.interval import saving_interval
from standins.simulated_savings import KINDS, coverage, saving

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray
    from standins.simulated_savings import Ends, Method

SIZES = (2, 3, 5, 10, 20, 50, 100)
_RESAMPLES = 999


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


METHODS: dict[str, Method] = {
    "percentile": percentile,
    "BCa": bca,
    "Student's t": student,
    "used": used,
}


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
            cells = [_cell(coverage(kind, count, given.stores, METHODS[name])) for name in given.methods]
            print(f"| {count} | {' | '.join(cells)} |", flush=True)


def _cell(found: tuple[float, float] | None) -> str:
    return "too few | -" if found is None else f"{100 * found[0]:.1f} | {found[1]:.2f}"


if __name__ == "__main__":
    main()
