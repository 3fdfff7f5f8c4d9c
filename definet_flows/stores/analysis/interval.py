"""The 95 % interval of a saving: a ratio of two sums over configurations.

The interval is computed for the logarithm of predicted / unrelaxed. Each end is the farther of two: Student's t with
the jackknife's standard error, and the studentised bootstrap, which includes the skewness due to long relaxations.
The second may be at most `_WIDEST` times as far as the first, for with few configurations it has no bound.
`benchmarks/coverage.py` shows how often the interval holds the true saving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.schemas import FloatArray

FEWEST = 5
"""Configurations below which no interval is stated."""

_RESAMPLES = 1000
_SEED = 20250501
_MOST = 1000  # configurations beyond which the bootstrap agrees with Student's t
_WIDEST = 2.0
_TAILS = (0.025, 0.975)
_LEAST = 1e-9  # relative scatter of a resample below which it is rounding


class Interval(NamedTuple):
    """Both ends of an interval, or why there is none."""

    ends: tuple[float, float] | None
    reason: str | None


def saving_interval(costs: npt.ArrayLike, configurations: Sequence[str]) -> Interval:
    """Return the 95 % interval of 1 - sum(predicted) / sum(unrelaxed).

    Parameters
    ----------
    costs
        Unrelaxed and predicted cost of each pair, not negative, [n, 2]; the unit cancels.
    configurations
        configuration_id of each pair, [n]. Pairs of one configuration share its relaxation from the unrelaxed start:
        their sums count as a single draw.

    Returns
    -------
    Interval
        No ends below `FEWEST` configurations that cost something.
    """
    sums = _per_configuration(np.asarray(costs, dtype=float).reshape(-1, 2), configurations)
    sums = sums[sums.any(axis=1)]
    if len(sums) < FEWEST:
        return Interval(None, f"too few: {len(sums)} configurations, an interval needs {FEWEST}")
    totals = sums.sum(axis=0)
    if np.any(sums.max(axis=0) >= totals):
        return Interval(
            None, "too few: from a start all of the cost is that of a single configuration, or there is none"
        )
    down, up = _reach(sums / totals)
    ratio = totals[1] / totals[0]
    return Interval((float(1 - ratio * np.exp(up)), float(1 - ratio * np.exp(-down))), None)


def _per_configuration(costs: FloatArray, configurations: Sequence[str]) -> FloatArray:
    """Return the sums of each configuration, sorted: the order in the store does not matter, [k, 2]."""
    if not len(costs):
        return costs
    _, which = np.unique(np.asarray(configurations, dtype=object).astype(str), return_inverse=True)
    columns = [np.bincount(which, weights=column) for column in costs.T]
    sums: FloatArray = np.stack(columns, axis=1)
    return sums[np.lexsort(sums.T)]


def _reach(shares: FloatArray) -> tuple[float, float]:
    """Return how far the logarithm of the ratio reaches down and up; shares of both sums, [k, 2]."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a quarter of a second to import

    count = len(shares)
    left_out = np.log1p(-shares[:, 1]) - np.log1p(-shares[:, 0])
    jackknife = np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())
    student = float(stdtrit(count - 1, _TAILS[1]) * jackknife)
    if count > _MOST or not student > _LEAST:
        return student, student
    low, high = _studentised(shares)
    return (
        float(np.clip(high, student, _WIDEST * student)),
        float(np.clip(-low, student, _WIDEST * student)),
    )


def _studentised(shares: FloatArray) -> tuple[float, float]:
    """Return the quantiles of (log ratio of a resample) / (its standard error), times the standard error."""
    count = len(shares)
    unrelaxed, predicted = shares.T
    drawn = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    sums = drawn @ shares
    ratio = sums[:, 1] / sums[:, 0]
    scatter = drawn @ np.stack([predicted**2, predicted * unrelaxed, unrelaxed**2], axis=1)
    variance = scatter[:, 0] - 2 * ratio * scatter[:, 1] + ratio**2 * scatter[:, 2]
    known = variance > (_LEAST * sums[:, 1]) ** 2  # of a resample of equal configurations nothing is known
    if not known.any():
        return 0.0, 0.0
    errors = np.sqrt(variance[known]) / sums[known, 1]
    quantiles: npt.NDArray[np.float64] = np.quantile(np.log(ratio[known]) / errors, _TAILS)
    low, high = quantiles * np.sqrt(np.square(predicted - unrelaxed).sum())
    return float(low), float(high)
