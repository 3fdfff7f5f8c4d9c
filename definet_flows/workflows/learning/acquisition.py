"""Choice of the configurations to relax next, so that the network learns most for the time spent.

A strategy is a small class: give it a name, say whether it needs uncertainties, and rank in `choose`; listed in
`ACQUISITIONS` it is an option of `definet learn`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.model.inference.predict import RawPrediction
    from definet_flows.schemas import Configuration, FloatArray

_SMALL = 1e-4  # Å; an error below this changes no ionic step
_LEAST_STEPS = 2.0  # the start and a step


@dataclass(frozen=True)
class StepModel:
    """Ionic steps that a relaxation takes from a start with a known error.

    The residual force of a quasi-Newton relaxation falls by about the same factor each step, so the number of steps
    grows with the logarithm of the start's error.

    Attributes
    ----------
    at_reference
        Steps from a start whose mean error is `REFERENCE`.
    per_e_fold
        Steps more for an error e times as large.
    seconds
        Core-seconds of a step.
    """

    REFERENCE: ClassVar[float] = 0.01  # Å

    at_reference: float = 15.0
    per_e_fold: float = 5.0
    seconds: float = 1.0

    @classmethod
    def fit(cls, errors: FloatArray, steps: FloatArray, seconds: float = 1.0) -> StepModel:
        """Fit to relaxations whose starts' mean errors (Å) are known, [n]; the defaults stand for fewer than three."""
        usable = errors > _SMALL
        x = np.log(errors[usable] / cls.REFERENCE)
        if usable.sum() < 3 or np.ptp(x) < 0.5:  # noqa: PLR2004 - nothing to fit a slope to
            return cls(seconds=seconds)
        slope, offset = np.polyfit(x, steps[usable], 1)
        return cls(at_reference=float(offset), per_e_fold=max(float(slope), 0.0), seconds=seconds)

    def steps(self, errors: FloatArray) -> FloatArray:
        """Return the expected ionic steps from starts with these mean errors, Å."""
        e_folds = np.log(np.maximum(errors, _SMALL) / self.REFERENCE)
        return np.maximum(self.at_reference + self.per_e_fold * e_folds, _LEAST_STEPS)

    def core_hours(self, errors: FloatArray) -> FloatArray:
        """Return the expected core-hours of relaxations from starts with these mean errors, Å."""
        return self.steps(errors) * self.seconds / 3600


@dataclass(frozen=True)
class Pool:
    """The configurations that are not relaxed yet.

    Attributes
    ----------
    fingerprints
        Descriptors of the configurations, [n, d]; configurations with near fingerprints teach the same.
    known
        Fingerprints of the configurations that the network learned from, [m, d].
    uncertainty
        Expected mean |error| of the prediction, Å, [n]; None where the model gives none.
    steps
        Ionic steps and their cost as a function of a start's error.
    """

    fingerprints: FloatArray
    known: FloatArray
    uncertainty: FloatArray | None = None
    steps: StepModel = StepModel()

    def __len__(self) -> int:
        return len(self.fingerprints)

    @cached_property
    def scale(self) -> float:
        """Mean squared distance of a fingerprint from the mean: the square of the distance that counts as near."""
        return float(self.fingerprints.var(axis=0).sum()) or 1.0

    def similarity(self, fingerprint: FloatArray) -> FloatArray:
        """Return the similarity of all fingerprints to a given fingerprint [d], 0 to 1, [n]."""
        squared: FloatArray = np.square(self.fingerprints - fingerprint).sum(1)
        return np.exp(-squared / (2 * self.scale))


class Acquisition(ABC):
    """A strategy; the same pool, count and random state give the same choice.

    Attributes
    ----------
    name
        What `--strategy` and `ActiveLearningMaker.strategy` call it.
    needs_uncertainty
        Whether it needs weights that state uncertainties, Å.
    """

    name: ClassVar[str]
    needs_uncertainty: ClassVar[bool] = True

    def select(self, pool: Pool, count: int, random: np.random.Generator) -> list[int]:
        """Return the indices of at most `count` configurations, the most wanted first.

        Raises
        ------
        InputError
            If the strategy needs uncertainties and the weights give none.
        """
        if self.needs_uncertainty and (pool.uncertainty is None or not np.isfinite(pool.uncertainty).all()):
            msg = f"strategy {self.name!r} needs uncertainties, these weights give none: take --strategy random"
            raise InputError(msg)
        return self.choose(pool, min(count, len(pool)), random)

    @abstractmethod
    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> list[int]:
        """Return `count` indices into the pool; there are at least so many, with uncertainties if they are needed."""


class Random(Acquisition):
    """Draw uniformly: the reference for every other strategy."""

    name = "random"
    needs_uncertainty = False

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> list[int]:
        """Draw without replacement."""
        return [int(k) for k in random.permutation(len(pool))[:count]]


class Uncertainty(Acquisition):
    """Take the most uncertain ones."""

    name = "uncertainty"

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> list[int]:
        """Rank by uncertainty, ties by lot."""
        lot = random.permutation(len(pool))
        return [int(k) for k in lot[np.argsort(-_uncertainty(pool)[lot], kind="stable")[:count]]]


class DiverseUncertainty(Acquisition):
    """Take uncertain configurations that differ: each next choice has the largest uncertainty times novelty.

    Novelty is the distance from all configurations that the network learned from and from earlier choices.
    """

    name = "diverse"

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> list[int]:
        """Choose greedily; a configuration like an earlier choice counts for nothing."""
        del random
        uncertainty, novelty = _uncertainty(pool), np.ones(len(pool))
        for fingerprint in pool.known:
            novelty = np.minimum(novelty, 1 - pool.similarity(fingerprint))
        chosen: list[int] = []
        for _ in range(count):
            score = uncertainty * novelty
            score[chosen] = -1.0
            chosen.append(int(score.argmax()))
            novelty = np.minimum(novelty, 1 - pool.similarity(pool.fingerprints[chosen[-1]]))
        return chosen


class ExpectedSaving(Acquisition):
    """Take the configurations that save most ionic steps of the whole pool for each core-hour that they cost.

    Relaxing x is taken to lower the error of y by the factor sqrt(1 - k(x, y)^2), as the posterior standard deviation
    of a Gaussian process of unit prior would; steps follow from errors by the pool's `StepModel`. A pool above
    `MOST_TARGETS` is represented by so many of its members, drawn by lot.
    """

    name = "saving"
    MOST_TARGETS: ClassVar[int] = 1000

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> list[int]:
        """Choose greedily; each choice lowers the errors that the next choice starts from."""
        targets = random.permutation(len(pool))[: self.MOST_TARGETS]
        errors = _uncertainty(pool)
        cost, errors = pool.steps.core_hours(errors), errors[targets]
        # Share of each target's error (columns) left after relaxing each candidate (rows); float32: pools may be large.
        left = np.empty((len(pool), len(targets)), dtype=np.float32)
        for row, fingerprint in zip(left, pool.fingerprints, strict=True):
            row[:] = np.sqrt(np.maximum(1 - pool.similarity(fingerprint)[targets] ** 2, 0.0))
        chosen: list[int] = []
        for _ in range(count):
            saved = (pool.steps.steps(errors) - pool.steps.steps(errors * left)).sum(1) / cost
            saved[chosen] = -1.0
            chosen.append(int(saved.argmax()))
            errors = errors * left[chosen[-1]]
        return chosen


ACQUISITIONS: dict[str, type[Acquisition]] = {
    strategy.name: strategy for strategy in (Random, Uncertainty, DiverseUncertainty, ExpectedSaving)
}
"""Strategies by name."""


def acquisition(name: str) -> Acquisition:
    """Return the strategy of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in ACQUISITIONS:
        msg = f"unknown strategy {name!r}: take {', '.join(ACQUISITIONS)}"
        raise InputError(msg)
    return ACQUISITIONS[name]()


def _uncertainty(pool: Pool) -> FloatArray:
    assert pool.uncertainty is not None  # noqa: S101 - `select` has checked
    return pool.uncertainty


def uncertain_where_unknown(
    candidates: Sequence[tuple[str, Configuration]], asked: Sequence[RawPrediction]
) -> list[RawPrediction]:
    """Return predictions; inserted atoms that the network cannot take yet are as uncertain as anything it can.

    Once some of them are relaxed, the retrained network takes them.
    """
    most = max((raw.uncertainty for raw in asked if raw.uncertainty is not None), default=None)
    return [
        replace(raw, uncertainty=most)
        if raw.displacements is None and any(edit.site is None for edit in configuration.edits)
        else raw
        for (_, configuration), raw in zip(candidates, asked, strict=True)
    ]
