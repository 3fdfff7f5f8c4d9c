"""A card for each pre-relaxer and weights: what relaxations saved that began where it said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from definet_flows.report.summary import group_value
from definet_flows.stores.analysis.counts import Counts, count_rows
from definet_flows.stores.analysis.figures import UNASKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from definet_flows.stores import Savings
    from definet_flows.stores.analysis.figures import GroupBy
    from definet_flows.stores.analysis.savings import Evidence


class Times(NamedTuple):
    """When the first and the last relaxation of some finished, UTC, ISO 8601."""

    first: str
    last: str


@dataclass(frozen=True, eq=False)
class Card:
    """A pre-relaxer, for the network with a set of weights."""

    key: str
    label: str
    """Names of the pre-relaxer and of the model, such as `definet · definet-2dmd`"""
    times: Times | None
    """None if no relaxation from its proposals tells when it finished"""
    savings: Savings
    spent: Counts
    """Relaxations from its proposals, and their controls"""


class Group(NamedTuple):
    """A row of a table of groups."""

    label: str
    """Of the card"""
    value: str
    savings: Savings


def cards_of(evidence: Evidence, labels: Mapping[str, str], times: Mapping[str, Times]) -> list[Card]:
    """Return the cards, the latest first; those of unknown times come last.

    Relaxations of the host, and of what nothing was asked about, count for a card that stands alone.
    """
    every = {str(key): part for key, part in evidence.apart().items()}
    begun = {row.weights for row in evidence.rows if row.start == "predicted"}
    parts = {key: part for key, part in every.items() if key in begun}
    if every.keys() - {UNASKED} == parts.keys() and len(parts) == 1:
        parts = dict.fromkeys(parts, evidence)
    cards = [
        Card(key, labels.get(key, key), times.get(key), part.total(), count_rows(part.rows))
        for key, part in sorted(parts.items())
    ]
    return sorted(cards, key=lambda card: card.times.last if card.times else "", reverse=True)


def group_tables(evidence: Evidence, cards: Sequence[Card], groups: Sequence[GroupBy]) -> dict[GroupBy, list[Group]]:
    """Return the rows of each table of groups: those of a card together, cards in their order."""
    parts = {str(key): part for key, part in evidence.apart().items()}
    return {
        by: [
            Group(card.label, group_value(by, value), savings)
            for card in cards
            for value, savings in parts[card.key].by(by).items()
        ]
        for by in groups
    }
