"""How wrong a prediction probably is: one number per structure, calibrated on structures whose truth is known.

The expected mean |component| error is a power law of how far the network moves the atoms and of how many are missing:
structures that relax far, and those with many vacancies, are the ones it gets wrong. It costs nothing beyond
the prediction, and within a set of the 2DMD data it ranks structures better than the number of defects does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from definet_flows.schemas import VACANCY, FloatArray, Frozen

_STILL = 1e-4  # Å; mean motion below which the logarithm is flat
_LEAST = 1e-6  # Å; smallest error that is distinguished from zero


@dataclass(frozen=True)
class Sample:
    """Predictions of a set with their true errors.

    Attributes
    ----------
    displacements
        As `predict` gives them, Å, [n, n_sites, 3].
    markers
        Site markers, [n, n_sites].
    errors
        Mean |component| error of each structure, Å, [n].
    """

    displacements: FloatArray
    markers: npt.NDArray[np.integer]
    errors: FloatArray

    def every_second(self, first: int) -> Sample:
        """Return every second structure, from the given index on."""
        half = slice(first, None, 2)
        return Sample(self.displacements[half], self.markers[half], self.errors[half])


class Calibration(Frozen):
    """Expected error = exp(intercept) motion^a (1 + vacancies per 100 sites)^b, fitted in logarithms."""

    intercept: float
    motion: float = Field(description="exponent a of the atoms' mean displacement in Å")
    vacancies: float = Field(description="exponent b")
    n: int = Field(description="structures it was fitted on")
    rank: float | None = Field(
        default=None, description="mean within-set Spearman correlation, structures not fitted on"
    )
    ratio: float | None = Field(default=None, description="mean error over mean estimate, structures not fitted on")

    @classmethod
    def fit(cls, samples: Mapping[str, Sample]) -> Self:
        """Fit on every second structure of each set, sets weighing the same; report on the others."""
        fitted = {name: sample.every_second(0) for name, sample in samples.items() if len(sample.errors) > 1}
        rows = np.concatenate([_features(s.displacements, s.markers) for s in fitted.values()])  # [n, 3]
        logs = np.log(np.concatenate([s.errors for s in fitted.values()]) + _LEAST)
        weights = np.concatenate([np.full(len(s.errors), len(s.errors) ** -0.5) for s in fitted.values()])
        solution = np.linalg.lstsq(rows * weights[:, None], logs * weights, rcond=None)[0]
        intercept, motion, vacancies = (float(x) for x in solution)
        raw = cls(intercept=intercept, motion=motion, vacancies=vacancies, n=len(rows))
        # The exponential of a mean logarithm is below the mean: lift it, so that sums of errors come out right.
        _, lift = raw.measure(fitted)
        raised = raw.model_copy(update={"intercept": intercept + float(np.log(lift))})
        rank, ratio = raised.measure({name: sample.every_second(1) for name, sample in samples.items()})
        known = {"rank": rank, "ratio": ratio}
        return raised.model_copy(update={key: value if np.isfinite(value) else None for key, value in known.items()})

    def estimate(self, displacements: FloatArray, markers: npt.NDArray[np.integer]) -> FloatArray:
        """Return the expected mean |component| error of predictions [n, n_sites, 3], Å, [n]."""
        weights = np.array([self.intercept, self.motion, self.vacancies])
        estimates: FloatArray = np.exp(_features(displacements, markers) @ weights)
        return estimates

    def measure(self, samples: Mapping[str, Sample]) -> tuple[float, float]:
        """Return the mean within-set rank correlation and the mean over sets of mean error / mean estimate."""
        ranks, ratios = [], []
        for sample in samples.values():
            estimates = self.estimate(sample.displacements, sample.markers)
            ranks.append(rank_correlation(estimates, sample.errors))
            ratios.append(sample.errors.mean() / estimates.mean() if len(estimates) else np.nan)
        known = [np.array(values)[np.isfinite(values)] for values in (ranks, ratios)]
        return tuple(float(values.mean()) if len(values) else np.nan for values in known)  # type: ignore[return-value]


def rank_correlation(estimates: FloatArray, errors: FloatArray) -> float:
    """Return Spearman's correlation; NaN where there is nothing to rank."""
    if len(errors) < 3 or np.ptp(estimates) == 0 or np.ptp(errors) == 0:  # noqa: PLR2004 - two always rank perfectly
        return np.nan
    from scipy.stats import spearmanr  # noqa: PLC0415 - a second to import

    return float(spearmanr(estimates, errors).statistic)


def defect_motion(moved: FloatArray, pristine: FloatArray, markers: npt.NDArray[np.integer]) -> FloatArray:
    """Return what the defects alone move: the network's output less its own of the pristine host, less its mean.

    moved [n, n_sites, 3], pristine [n_sites, 3], Å, markers [n, n_sites] -> [n, n_sites, 3]; the mean is over atoms.
    """
    relative = moved - pristine
    atoms = (markers != VACANCY)[..., None]  # [n, n_sites, 1]
    mean: FloatArray = (relative * atoms).sum(1, keepdims=True) / atoms.sum(1, keepdims=True)
    out: FloatArray = relative - mean
    return out


def _features(displacements: FloatArray, markers: npt.NDArray[np.integer]) -> FloatArray:
    """Return [1, log mean motion, log (1 + vacancies per 100 sites)] of each structure, [n, 3]."""
    atoms = markers != VACANCY
    size = np.where(atoms, np.linalg.norm(displacements, axis=-1), 0.0)  # [n, n_sites]
    motion = size.sum(1) / atoms.sum(1)
    missing = 100 * (~atoms).mean(1)
    return np.stack([np.ones(len(motion)), np.log(motion + _STILL), np.log1p(missing)], axis=1)
