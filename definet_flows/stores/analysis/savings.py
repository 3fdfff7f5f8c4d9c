"""Savings of pre-relaxation, measured over pairs; reads only the flat rows of records and pairs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from definet_flows.stores.analysis.figures import UNKNOWN, GroupBy, Quantity, Savings, Spending, check_group
from definet_flows.stores.analysis.gates import Gates, joined_rows, named, prerelaxer_names
from definet_flows.stores.analysis.interval import saving_interval
from definet_flows.stores.analysis.prerelaxing import ProposalCost, add_up, proposal_costs
from definet_flows.stores.analysis.rows import with_charges
from definet_flows.stores.filters import Filter
from definet_flows.stores.garbage import uncollected
from definet_flows.stores.opening import StoreLike, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from definet_flows.schemas import Ledger
    from definet_flows.stores.analysis.rows import PairRow, RecordRow
    from definet_flows.stores.records import Records

__all__ = ["Evidence", "GroupBy", "gather", "savings", "savings_by"]

_EVERYTHING = Filter()

_T = TypeVar("_T", "RecordRow", "PairRow")


@dataclass(frozen=True)
class _Measure:
    """A cost: where rows of pairs, ledgers (of hosts too) and proposals have it."""

    unrelaxed: str
    predicted: str
    ledger: str
    proposal: str | None = None


_IONIC = _Measure("steps_unrelaxed", "steps_predicted", "ionic_steps")
_ELECTRONIC = _Measure("electronic_unrelaxed", "electronic_predicted", "electronic_steps")
_CORE_HOURS = _Measure("core_hours_unrelaxed", "core_hours_predicted", "core_hours", "core_hours")
_SECONDS = _Measure("", "", "wall_seconds", "seconds")


@dataclass(frozen=True)
class Evidence:
    """The data that a saving is computed from."""

    pairs: list[PairRow]
    rows: list[RecordRow]
    hosts: list[Ledger]
    gates: Gates
    proposals: list[ProposalCost] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)
    """Name of the pre-relaxer of a key; a key that is missing is a network's."""

    @uncollected()
    def total(self) -> Savings:
        """Return the savings of all of it."""
        same = [pair for pair in self.pairs if pair.verdict == "same minimum"]
        parts = _parts(self.rows, self.gates)
        verdicts = [pair.verdict for pair in self.pairs]
        statuses = [row.status for row in self.rows]
        return Savings(
            ionic=self._quantity(_IONIC, same, parts),
            electronic=self._quantity(_ELECTRONIC, same, parts),
            core_hours=self._quantity(_CORE_HOURS, same, parts),
            seconds=self._spending(_SECONDS, _seconds(same, self.rows), parts),
            proposals=add_up(self.proposals),
            same_minimum=len(same),
            better_minimum=verdicts.count("better minimum"),
            other_minimum=verdicts.count("other minimum"),
            unconverged=verdicts.count("unconverged"),
            not_comparable=verdicts.count("not comparable"),
            ceiling=_ceiling(same),
            gated=len(parts.gated),
            without_control=len(parts.without_control),
            not_compared=0 if self.pairs else len(parts.controls),
            failed=statuses.count("failed"),
            running=statuses.count("running"),
        )

    @uncollected()
    def by(self, group: GroupBy) -> dict[str | int, Savings]:
        """Return the savings of each group, in ascending order of the group's key; hosts count in the total only."""
        if group in ("weights", "prerelaxer"):
            groups = self.apart(None if group == "weights" else self.names)
        else:
            pairs, rows = _grouped(self.pairs, group), _grouped(self.rows, group)
            groups = {
                key: Evidence(pairs[key], rows[key], [], self.gates, self._proposals_for(rows[key]))
                for key in pairs.keys() | rows.keys()
            }
        order = sorted(groups, key=lambda key: (isinstance(key, str), key))
        return {key: groups[key].total() for key in order}

    def apart(self, names: Mapping[str, str] | None = None) -> dict[str | int, Evidence]:
        """Return the evidence of each pre-relaxer: by its name, the network's where a key has none, or by its key."""
        by_key = self.gates.by_weights(self.rows)
        keys = dict.fromkeys([*map(str, by_key), *(pair.weights for pair in self.pairs)])
        groups: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            groups[key if names is None else named(key, names)].append(key)
        return {
            name: Evidence(
                [pair for pair in self.pairs if pair.weights in members],
                list({row.id: row for key in members for row in by_key.get(key, ())}.values()),
                [],
                self.gates.only(members),
                [cost for cost in self.proposals if cost.weights in members],
            )
            for name, members in groups.items()
        }

    def _proposals_for(self, rows: Sequence[RecordRow]) -> list[ProposalCost]:
        own = {row.configuration_id for row in rows}
        return [cost for cost in self.proposals if cost.configuration_id in own]

    def _quantity(self, measure: _Measure, same: Sequence[PairRow], parts: _Parts) -> Quantity:
        costs = map(attrgetter(measure.unrelaxed, measure.predicted, "configuration_id"), same)
        complete = [cost for cost in costs if None not in cost]
        known = np.array([cost[:2] for cost in complete], dtype=float).reshape(-1, 2)
        unrelaxed, predicted = known.T
        sums, count = (float(unrelaxed.sum()), float(predicted.sum())), len(known)
        positive = known[unrelaxed > 0]
        interval = saving_interval(known, [cost[2] for cost in complete])
        return Quantity(
            pairs=count,
            unrelaxed=sums[0] if count else None,
            predicted=sums[1] if count else None,
            saving=1 - sums[1] / sums[0] if sums[0] else None,
            interval=interval.ends,
            interval_reason=interval.reason,
            median_unrelaxed=float(np.median(unrelaxed)) if count else None,
            median_predicted=float(np.median(predicted)) if count else None,
            median_saving=float(np.median(1 - positive[:, 1] / positive[:, 0])) if len(positive) else None,
            campaign=_campaign(measure, sums, count, parts),
            spending=self._spending(measure, sums, parts),
        )

    def _spending(self, measure: _Measure, sums: tuple[float, float], parts: _Parts) -> Spending:
        controls, alone = _sum(measure, parts.controls), _sum(measure, parts.alone)
        unmeasured = _sum(measure, parts.unmeasured)
        done = (*parts.predicted, *parts.controls, *parts.alone)
        return Spending(
            predicted=_sum(measure, parts.predicted),
            controls=controls,
            without_prediction=alone,
            hosts=_sum(measure, self.hosts),
            failed=_sum(measure, parts.unfinished),
            prerelaxing=getattr(add_up(self.proposals), measure.proposal) if measure.proposal else None,
            unknown=sum(cost is None for cost in map(attrgetter(measure.ledger), done)),
            baseline=controls + alone + unmeasured * sums[0] / sums[1] if all(sums) else None,
        )


def savings(records: Records | StoreLike, where: Filter = _EVERYTHING) -> Savings:
    """Compute the savings of a campaign, from pairs and ledgers only.

    Parameters
    ----------
    records
        Open records; or a maggma Store, a path or a name, as in `open_store`, which is opened for reading.
    where
        Which records and pairs count. With `weights`, relaxations from unrelaxed starts count for the
        configurations that these weights were asked about.
    """
    return gather(records, where).total()


def savings_by(records: Records | StoreLike, by: GroupBy, where: Filter = _EVERYTHING) -> dict[str | int, Savings]:
    """Compute the savings of each group, in ascending order of the group's key.

    Host relaxations are shared by groups; they are counted only in the total that `savings` gives.

    Raises
    ------
    InputError
        If there is no such grouping.
    """
    check_group(by)
    return gather(records, where).by(by)


@uncollected()
def gather(records: Records | StoreLike, where: Filter = _EVERYTHING) -> Evidence:
    """Read what a saving is computed from; no structure is read.

    Parameters
    ----------
    records
        Open records; or a maggma Store, a path or a name, as in `open_store`, which is opened for reading.
    where
        Which records and pairs count.

    Returns
    -------
    Evidence
        `total()` and `by(field)` give the savings: ionic and electronic steps, core-hours (h).
    """
    with opened(records) as found:
        rows, gates = joined_rows(found, where)
        hosts = found.host_ledgers({row.settings_hash for row in rows}, {row.host_hash for row in rows})
        asked = gates.asked
        if asked is not None and not asked.predictions:  # verdicts needed none
            asked = asked._replace(predictions=found.prediction_rows(where.weights, where.configuration_ids))
        proposals = [] if asked is None else proposal_costs(rows, asked)
        pairs = with_charges(found.pair_rows(where), rows)
        return Evidence(pairs, rows, hosts, gates, proposals, prerelaxer_names(found))


def _grouped(items: Iterable[_T], field: GroupBy) -> dict[str | int, list[_T]]:
    groups: dict[str | int, list[_T]] = defaultdict(list)
    for item in items:
        key = getattr(item, field)
        groups[UNKNOWN if key is None else key].append(item)  # a pair whose records cannot be read has no charge
    return groups


@dataclass(frozen=True)
class _Parts:
    """Relaxations by their purpose, found once for all costs."""

    predicted: list[RecordRow]
    controls: list[RecordRow]
    alone: list[RecordRow]
    """From the unrelaxed start, of configurations not relaxed from a prediction."""
    unmeasured: list[RecordRow]
    """From a prediction, without a control; a single relaxation for each configuration."""
    unfinished: list[RecordRow]
    without_control: set[tuple[str, str]]
    """Finished from a prediction, never begun from the unrelaxed start."""
    gated: list[RecordRow]
    """From the unrelaxed start only, because every prediction was rejected."""
    refused: list[RecordRow]
    """From the unrelaxed start, each as often as there are weights whose prediction was rejected."""


def _parts(rows: Sequence[RecordRow], gates: Gates) -> _Parts:
    begun = [row for row in rows if row.start == "predicted"]
    lone = [row for row in rows if row.start == "unrelaxed"]
    predicted = {row.pairing: row for row in begun if row.status == "done"}
    unrelaxed = {row.pairing: row for row in lone if row.status == "done"}
    asked = {row.pairing for row in begun}
    return _Parts(
        predicted=[row for row in begun if row.status == "done"],
        controls=[row for pairing, row in unrelaxed.items() if pairing in predicted],
        alone=[row for pairing, row in unrelaxed.items() if pairing not in predicted],
        unmeasured=[row for pairing, row in predicted.items() if pairing not in unrelaxed],
        unfinished=[row for row in rows if row.status != "done"],
        without_control=predicted.keys() - {row.pairing for row in lone},
        gated=[row for row in lone if row.gate == "rejected" and row.pairing not in asked],
        refused=gates.refused(rows),
    )


def _seconds(pairs: Sequence[PairRow], rows: Sequence[RecordRow]) -> tuple[float, float]:
    """Return the wall seconds of pairs from both starts, of pairs that state both."""
    unrelaxed = {row.pairing: row.wall_seconds for row in rows if row.start == "unrelaxed"}
    predicted = {(*row.pairing, row.weights): row.wall_seconds for row in rows if row.start == "predicted"}
    sums = np.zeros(2)
    for pair in pairs:
        key = pair.configuration_id, pair.settings_hash
        both = unrelaxed.get(key), predicted.get((*key, pair.weights))
        if None not in both:
            sums += np.array(both, dtype=float)
    return float(sums[0]), float(sums[1])


def _ceiling(pairs: Sequence[PairRow]) -> float | None:
    known = [(pair.steps_unrelaxed, pair.floor) for pair in pairs if pair.floor is not None]
    total = sum(steps for steps, _ in known)
    return 1 - sum(min(steps, floor) for steps, floor in known) / total if total else None


def _campaign(measure: _Measure, sums: tuple[float, float], pairs: int, parts: _Parts) -> float | None:
    """Return the saving if the pairs stand for all accepted predictions, gated configurations saving nothing.

    Pairs are a sample (the control fraction), gated configurations are all of them: each weighs as many configurations
    as it stands for. Each set of weights has a campaign of its own: what two sets gated out counts twice, like
    relaxations from the predictions of both. None where a gated relaxation that is done does not state the cost: it
    would count as free.
    """
    unrelaxed, predicted = sums
    done = (row for row in parts.refused if row.status == "done")
    if not unrelaxed or any(getattr(row, measure.ledger) is None for row in done):
        return None
    weight = max(len(parts.predicted), pairs) / pairs
    unchanged = _sum(measure, parts.refused)
    return 1 - (weight * predicted + unchanged) / (weight * unrelaxed + unchanged)


def _sum(measure: _Measure, rows: Iterable[RecordRow | Ledger]) -> int | float:
    costs: list[int | float | None] = list(map(attrgetter(measure.ledger), rows))
    return sum(cost for cost in costs if cost is not None)
