"""Progress of each configuration of a campaign, read from its records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from definet_flows.stores import Filter
from definet_flows.stores.analysis.gates import Gates, find_gates

if TYPE_CHECKING:
    from collections.abc import Collection

    from definet_flows.schemas import Start
    from definet_flows.stores import Records
    from definet_flows.stores.analysis.rows import RecordRow


@dataclass(frozen=True)
class Progress:
    """Configuration ids by the state of their records; each id in a single set at most.

    Attributes
    ----------
    recorded
        Every relaxation that the campaign wants of it is done.
    relaxing
        A relaxation is running, or was running when it was lost.
    failed
        A relaxation failed and none is running.
    """

    recorded: frozenset[str]
    relaxing: frozenset[str]
    failed: frozenset[str]

    @property
    def begun(self) -> frozenset[str]:
        """All of them."""
        return self.recorded | self.relaxing | self.failed


def progress_of(
    records: Records, ids: tuple[str, ...], controls: Collection[str], settings_hash: str, weights: str
) -> Progress:
    """Sort the configurations of a campaign.

    Parameters
    ----------
    records
        An open store.
    ids, controls, settings_hash, weights
        Of the campaign: configuration ids, ids that are relaxed from both starts, settings hash of its relaxations,
        sha256 of the weights.
    """
    rows = records.record_rows(Filter(configuration_ids=ids, settings_hash=settings_hash))
    gates = find_gates(records, rows, weights, ids)
    arms: dict[str, list[RecordRow]] = defaultdict(list)
    for row in rows:
        if row.start == "unrelaxed" or row.weights == weights:
            arms[row.configuration_id].append(row)
    sets: dict[str, set[str]] = {"recorded": set(), "relaxing": set(), "failed": set()}
    for identity in ids:
        wanted = _wanted(gates, (identity, settings_hash), weights, control=identity in controls)
        state = _state([row for row in arms[identity] if row.start in wanted], wanted)
        if state is not None:
            sets[state].add(identity)
    return Progress(**{name: frozenset(found) for name, found in sets.items()})


def _wanted(gates: Gates, pairing: tuple[str, str], weights: str, *, control: bool) -> set[Start]:
    """Return the starts that a campaign relaxes; starts that other campaigns want do not count."""
    gate = gates.under(pairing, weights)
    if gate is not None and gate.verdict == "rejected":
        return {"unrelaxed"}
    return {"unrelaxed", "predicted"} if control else {"predicted"}


def _state(rows: list[RecordRow], wanted: set[Start]) -> str | None:
    """Return the set of a configuration; None if something is missing that nobody has begun."""
    statuses = {row.status for row in rows}
    if "running" in statuses:
        return "relaxing"
    if "failed" in statuses:
        return "failed"
    return "recorded" if wanted == {row.start for row in rows} else None
