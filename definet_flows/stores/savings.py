"""What pre-relaxation saved: measured over pairs, beside everything that is not in the headline."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from pydantic import Field

from definet_flows.schemas import Frozen, Pair
from definet_flows.stores.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from definet_flows.stores.access import Records
    from definet_flows.stores.ledgers import LedgerRow

_RESAMPLES = 1000
_SEED = 20250501
_EVERYTHING = Filter()

_T = TypeVar("_T")

GroupBy = Literal["host", "name", "n_defects", "n_sites", "weights", "engine"]


class Quantity(Frozen):
    """One cost (ionic steps, electronic steps or core-hours) over the pairs in the same minimum that know it."""

    pairs: int = Field(description="pairs that know this cost of both arms")
    unrelaxed: float = Field(description="sum over the unrelaxed arms")
    predicted: float = Field(description="sum over the predicted arms")
    saving: float | None = Field(description="1 - predicted / unrelaxed; None without pairs")
    interval: tuple[float, float] | None = Field(
        description="95 % bootstrap interval of `saving`; None below two pairs"
    )
    median_unrelaxed: float | None
    median_predicted: float | None
    median_saving: float | None = Field(description="median over pairs of 1 - predicted / unrelaxed")


class Spending(Frozen):
    """Ionic steps a campaign took in all, and what it would have taken from unrelaxed starts."""

    predicted: int = Field(description="relaxations from predictions")
    controls: int = Field(description="unrelaxed arms of configurations that also have a predicted arm")
    without_prediction: int = Field(description="unrelaxed arms of gated or not predicted configurations")
    hosts: int = Field(description="relaxations of pristine hosts")
    failed: int = Field(description="relaxations that failed")
    baseline: float | None = Field(
        description="the same configurations from unrelaxed starts: measured where there is an unrelaxed arm, else "
        "the predicted arm's steps times unrelaxed / predicted of the pairs; None without pairs"
    )

    @property
    def total(self) -> int:
        """Everything that was computed, ionic steps."""
        return self.predicted + self.controls + self.without_prediction + self.hosts + self.failed

    @property
    def net(self) -> float | None:
        """Saving net of controls, host relaxation and failures; None where nothing can be said."""
        return 1 - self.total / self.baseline if self.baseline else None


class Savings(Frozen):
    """The saving of the pairs in the same minimum, and the counts of all else."""

    ionic: Quantity
    electronic: Quantity
    core_hours: Quantity
    same_minimum: int
    better_minimum: int
    other_minimum: int
    unconverged: int
    not_comparable: int = Field(description="pairs whose arms were given more than different positions")
    ceiling: float | None = Field(
        description="the ionic saving if every predicted arm took the fewest evaluations its optimiser can: one line "
        "search of conjugate gradient is three; None without pairs"
    )
    gated: int = Field(description="configurations whose prediction was rejected, relaxed from the unrelaxed start")
    failed: int = Field(description="relaxations that failed")
    running: int = Field(description="relaxations not finished")
    campaign: float | None = Field(
        description="ionic saving over all predicted configurations, a gated-out one counted as no saving"
    )
    spending: Spending

    @property
    def saving(self) -> float | None:
        """The headline: 1 - sum(predicted) / sum(unrelaxed) of ionic steps over pairs in the same minimum."""
        return self.ionic.saving

    @property
    def pairs(self) -> int:
        """All pairs, whatever their verdict."""
        compared = self.same_minimum + self.better_minimum + self.other_minimum
        return compared + self.unconverged + self.not_comparable

    @property
    def message(self) -> str:
        """One line that says what is known, or what is missing."""
        if self.saving is not None:
            return f"{self.saving:.1%} of ionic steps saved; pairs in the same minimum: {self.same_minimum}"
        if self.pairs:
            return f"no saving can be stated: pairs converged in the same minimum: none of {self.pairs}"
        if self.spending.total or self.gated or self.failed or self.running:
            return "no saving can be stated: no configuration was relaxed from both starts (raise the control fraction)"
        return "no relaxations match: the store is empty or the filters exclude everything in it"


@dataclass(frozen=True)
class _Evidence:
    """Everything a saving is computed from."""

    pairs: list[Pair]
    rows: list[LedgerRow]
    host_steps: int


def savings(records: Records, where: Filter = _EVERYTHING) -> Savings:
    """Compute what a campaign saved, from pairs and ledgers only.

    Parameters
    ----------
    records
        An open store.
    where
        Which records and pairs count. With `weights`, the unrelaxed arms of the configurations that
        these weights were asked about.
    """
    return _account(_gather(records, where))


def savings_by(records: Records, by: GroupBy, where: Filter = _EVERYTHING) -> dict[str | int, Savings]:
    """Compute the savings of each group, in ascending order of the group's key.

    Host relaxations are shared by groups; they are counted only in the total that `savings` gives.
    """
    evidence = _gather(records, where)
    pairs, rows = _grouped(evidence.pairs, _PAIR_KEYS[by]), _grouped(evidence.rows, _ROW_KEYS[by])
    if by == "weights":
        rows = {key: _of_weights(evidence.rows, str(key)) for key in pairs.keys() | rows.keys()}
    return {
        key: _account(_Evidence(pairs.get(key, []), rows.get(key, []), 0))
        for key in sorted(pairs.keys() | rows.keys(), key=lambda key: (isinstance(key, str), key))
    }


_PAIR_KEYS: dict[GroupBy, Callable[[Pair], str | int | None]] = {
    "host": lambda pair: pair.host_formula,
    "name": lambda pair: pair.name,
    "n_defects": lambda pair: pair.n_defects,
    "n_sites": lambda pair: pair.n_sites,
    "weights": lambda pair: pair.weights,
    "engine": lambda pair: pair.engine,
}
_ROW_KEYS: dict[GroupBy, Callable[[LedgerRow], str | int | None]] = {
    "host": lambda row: row.host.formula,
    "name": lambda row: row.name,
    "n_defects": lambda row: row.n_defects,
    "n_sites": lambda row: row.host.n_sites,
    "weights": lambda row: row.weights,
    "engine": lambda row: row.engine,
}


def _grouped(items: Iterable[_T], key: Callable[[_T], str | int | None]) -> dict[str | int, list[_T]]:
    groups: dict[str | int, list[_T]] = defaultdict(list)
    for item in items:
        value = key(item)
        if value is not None:
            groups[value].append(item)
    return groups


def _gather(records: Records, where: Filter) -> _Evidence:
    rows = list(records.ledgers(where.model_copy(update={"weights": None})))
    if where.weights is not None:
        rows = _of_weights(rows, where.weights)
    hosts = records.host_steps({row.settings_hash for row in rows}, {row.host.hash for row in rows})
    return _Evidence(list(records.pairs(where)), rows, hosts)


def _of_weights(rows: Iterable[LedgerRow], weights: str) -> list[LedgerRow]:
    """Return the ledgers of the configurations that these weights were asked about, both arms."""
    rows = list(rows)
    arms = {row.arm for row in rows if row.weights == weights}
    return [row for row in rows if row.weights == weights or (row.start == "unrelaxed" and row.arm in arms)]


def _account(evidence: _Evidence) -> Savings:
    same = [pair for pair in evidence.pairs if pair.verdict == "same minimum"]
    ionic = _quantity([(pair.steps_unrelaxed, pair.steps_predicted) for pair in same])
    verdicts = [pair.verdict for pair in evidence.pairs]
    gated = _gated(evidence.rows)
    return Savings(
        ionic=ionic,
        electronic=_quantity([(pair.electronic_unrelaxed, pair.electronic_predicted) for pair in same]),
        core_hours=_quantity([(pair.core_hours_unrelaxed, pair.core_hours_predicted) for pair in same]),
        same_minimum=len(same),
        better_minimum=verdicts.count("better minimum"),
        other_minimum=verdicts.count("other minimum"),
        unconverged=verdicts.count("unconverged"),
        not_comparable=verdicts.count("not comparable"),
        ceiling=_ceiling(same),
        gated=len(gated),
        failed=sum(row.status == "failed" for row in evidence.rows),
        running=sum(row.status == "running" for row in evidence.rows),
        campaign=_campaign(ionic, evidence.rows, gated),
        spending=_spending(ionic, evidence),
    )


def _quantity(costs: Sequence[tuple[float | None, float | None]]) -> Quantity:
    known = np.array([cost for cost in costs if None not in cost], dtype=float).reshape(-1, 2)
    unrelaxed, predicted = known.T
    total, count = float(unrelaxed.sum()), len(known)
    positive = known[unrelaxed > 0]
    return Quantity(
        pairs=count,
        unrelaxed=total,
        predicted=float(predicted.sum()),
        saving=1 - float(predicted.sum()) / total if total else None,
        interval=_interval(positive) if len(positive) > 1 else None,
        median_unrelaxed=float(np.median(unrelaxed)) if count else None,
        median_predicted=float(np.median(predicted)) if count else None,
        median_saving=float(np.median(1 - positive[:, 1] / positive[:, 0])) if len(positive) else None,
    )


def _ceiling(pairs: Sequence[Pair]) -> float | None:
    known = [(pair.steps_unrelaxed, pair.floor) for pair in pairs if pair.floor is not None]
    total = sum(steps for steps, _ in known)
    return 1 - sum(min(steps, floor) for steps, floor in known) / total if total else None


def _interval(costs: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of 1 - sum(predicted) / sum(unrelaxed) over pairs [n, 2]."""
    random = np.random.default_rng(_SEED)
    sums = np.array([costs[random.integers(len(costs), size=len(costs))].sum(axis=0) for _ in range(_RESAMPLES)])
    low, high = np.percentile(1 - sums[:, 1] / sums[:, 0], [2.5, 97.5])
    return float(low), float(high)


def _gated(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Return the unrelaxed arms that stand alone because their prediction was rejected."""
    rows = list(rows)
    predicted = {row.arm for row in rows if row.start == "predicted"}
    return [
        row
        for row in rows
        if row.start == "unrelaxed"
        and row.arm not in predicted
        and row.prediction is not None
        and row.prediction.gate.verdict == "rejected"
    ]


def _campaign(ionic: Quantity, rows: Iterable[LedgerRow], gated: Sequence[LedgerRow]) -> float | None:
    """Return the saving if the pairs stand for all accepted predictions, gated configurations saving nothing.

    Pairs are a sample (the control fraction), gated configurations are all of them: each weighs as
    many configurations as it stands for.
    """
    if not ionic.unrelaxed:
        return None
    accepted = len({row.arm for row in rows if row.start == "predicted" and row.status == "done"})
    weight = max(accepted, ionic.pairs) / ionic.pairs
    unchanged = sum(row.steps for row in gated)
    return 1 - (weight * ionic.predicted + unchanged) / (weight * ionic.unrelaxed + unchanged)


def _spending(ionic: Quantity, evidence: _Evidence) -> Spending:
    done = [row for row in evidence.rows if row.status == "done"]
    predicted = [row for row in done if row.start == "predicted"]
    unrelaxed = {row.arm: row.steps for row in done if row.start == "unrelaxed"}
    arms = {row.arm for row in predicted}
    controls = sum(steps for arm, steps in unrelaxed.items() if arm in arms)
    alone = sum(steps for arm, steps in unrelaxed.items() if arm not in arms)
    baseline = None
    if ionic.predicted and ionic.unrelaxed:
        unmeasured = {row.arm: row.steps for row in predicted if row.arm not in unrelaxed}
        baseline = sum(unrelaxed.values()) + sum(unmeasured.values()) * ionic.unrelaxed / ionic.predicted
    return Spending(
        predicted=sum(row.steps for row in predicted),
        controls=controls,
        without_prediction=alone,
        hosts=evidence.host_steps,
        failed=sum(row.steps for row in evidence.rows if row.status == "failed"),
        baseline=baseline,
    )
