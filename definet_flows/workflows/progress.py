"""Where each configuration of a campaign stands, read off its records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from definet_flows.stores.table import Arm


@dataclass(frozen=True)
class Progress:
    """Configuration ids by what their records say; each id in at most one set.

    Attributes
    ----------
    recorded
        Every relaxation that the campaign wants of it is done.
    relaxing
        One is running, or was when it was lost.
    failed
        One failed and none is running.
    """

    recorded: frozenset[str]
    relaxing: frozenset[str]
    failed: frozenset[str]

    @property
    def begun(self) -> frozenset[str]:
        """All of them."""
        return self.recorded | self.relaxing | self.failed


def progress_of(rows: Iterable[Arm], ids: Collection[str], controls: Collection[str], weights: str) -> Progress:
    """Sort the configurations of a campaign.

    Parameters
    ----------
    rows
        Records of these configurations with the campaign's settings.
    ids, controls, weights
        Of the campaign: configuration ids, those that are relaxed from both starts, sha256 of the weights.
    """
    arms: dict[str, list[Arm]] = defaultdict(list)
    for row in rows:
        if row.start == "unrelaxed" or row.weights == weights:
            arms[row.configuration_id].append(row)
    sets: dict[str, set[str]] = {"recorded": set(), "relaxing": set(), "failed": set()}
    for identity in ids:
        standing = _standing(arms[identity], weights, control=identity in controls) if identity in arms else None
        if standing is not None:
            sets[standing].add(identity)
    return Progress(**{name: frozenset(found) for name, found in sets.items()})


def _standing(rows: list[Arm], weights: str, *, control: bool) -> str | None:
    """Return the set of a configuration; None if something is missing that nobody has begun."""
    statuses = {row.status for row in rows}
    if "running" in statuses:
        return "relaxing"
    if "failed" in statuses:
        return "failed"
    starts = {row.start for row in rows}
    refused = any(row.weights == weights and row.gate == "rejected" for row in rows)
    wanted = {"unrelaxed"} if refused else {"unrelaxed", "predicted"} if control else {"predicted"}
    return "recorded" if wanted <= starts else None
