"""What pre-relaxing itself cost: every proposal for configurations that are relaxed, rejected proposals too."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from definet_flows.stores.analysis.figures import Proposals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.stores.analysis.gates import Asked
    from definet_flows.stores.analysis.rows import RecordRow

_HOUR = 3600.0  # s


class ProposalCost(NamedTuple):
    """What a proposal took: wall time, s, and cores times wall time, h; None where it is unknown."""

    configuration_id: str
    weights: str
    """Key of the pre-relaxer."""
    seconds: float | None
    core_hours: float | None


def proposal_costs(rows: Sequence[RecordRow], asked: Asked) -> list[ProposalCost]:
    """Return the cost of every proposal for the configurations of relaxations, once each.

    Parameters
    ----------
    rows
        Relaxations. One from a prediction that the store does not hold counts by what its record notes.
    asked
        Proposals on any base; those on the bases of the relaxations count. Relaxations by several engines on one base
        share a proposal.
    """
    places: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        places[row.configuration_id].add((row.host_hash, row.settings_hash))
    found = [
        _cost(prediction.configuration_id, prediction.weights, prediction.seconds, prediction.core_seconds)
        for prediction in asked.predictions
        if any(asked.base(*place) == prediction.base for place in places.get(prediction.configuration_id, ()))
    ]
    stored = {(cost.configuration_id, cost.weights) for cost in found}
    noted = {
        (row.configuration_id, row.weights): (row.proposal_seconds, row.proposal_core_seconds)
        for row in rows
        if row.start == "predicted" and row.weights is not None
    }
    return found + [_cost(*key, *cost) for key, cost in noted.items() if key not in stored]


def _cost(configuration_id: str, weights: str, seconds: float | None, core_seconds: float | None) -> ProposalCost:
    """Return a cost; a time of zero, which earlier versions wrote for a failed prediction, is unknown."""
    core_hours = core_seconds / _HOUR if core_seconds else None
    return ProposalCost(configuration_id, weights, seconds or None, core_hours)


def add_up(costs: Sequence[ProposalCost]) -> Proposals:
    """Return the sums over the proposals that state their cost, and how many do not."""
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    core_hours = [cost.core_hours for cost in costs if cost.core_hours is not None]
    return Proposals(
        count=len(costs),
        seconds=sum(seconds) if seconds else None,
        without_seconds=len(costs) - len(seconds),
        core_hours=sum(core_hours) if core_hours else None,
        without_core_hours=len(costs) - len(core_hours),
    )
