"""Progress of each configuration of a campaign, read from its records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from definet_flows.schemas import AUTO, Choice, Frozen, Provenance
from definet_flows.stores import Filter
from definet_flows.stores.analysis.gates import Gates, find_gates

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

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
        A relaxation is held by a queue, is running, or was running when it was lost.
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


class _Placed(Frozen):
    """Where a relaxation runs; its engine's job writes this when it starts."""

    kind: Literal["record"] = "record"
    id: str
    schema_version: int
    configuration_id: str
    provenance: Provenance = Provenance()


def started_ids(records: Records, ids: Collection[str], settings_hash: str) -> frozenset[str]:
    """Return those of some configurations of which a relaxation has started and not ended.

    A relaxation that a queue holds has a running record without a folder; one that is retried has that of before.

    Parameters
    ----------
    records
        An open store.
    ids, settings_hash
        Configuration ids, and settings hash of the relaxations.
    """
    if not ids:
        return frozenset()
    rows = records.record_rows(Filter(configuration_ids=tuple(ids), settings_hash=settings_hash))
    running = [row.id for row in rows if row.status == "running"]
    found = records.find(_Placed, {"id": {"$in": running}}, list(_Placed.model_fields)) if running else []
    return frozenset(one.configuration_id for one in found if one.provenance.directory is not None)


def progress_of(
    records: Records, ids: tuple[str, ...], controls: Collection[str], settings_hash: str, keys: Sequence[str]
) -> Progress:
    """Sort the configurations of a campaign.

    Parameters
    ----------
    records
        An open store.
    ids, controls, settings_hash, keys
        Of the campaign: configuration ids, ids that are relaxed from the unrelaxed start too, settings hash of its
        relaxations, keys of its pre-relaxers.
    """
    sets: dict[str, set[str]] = {"recorded": set(), "relaxing": set(), "failed": set()}
    for one in _standings(records, ids, controls, settings_hash, keys):
        if one.state is not None:
            sets[one.state].add(one.identity)
    return Progress(**{name: frozenset(some) for name, some in sets.items()})


def settled_in(
    records: Records, ids: tuple[str, ...], controls: Collection[str], settings_hash: str, keys: Sequence[str]
) -> Mapping[str, int]:
    """Return the configurations of a campaign of which nothing is left to do, each with its number of relaxations.

    Every proposal was fit, the relaxations are done, and no pair is missing: a process that is killed between the end
    of a relaxation and its pair leaves none. A rejected proposal is judged again. Parameters as in `progress_of`.
    """
    where = Filter(configuration_ids=ids, settings_hash=settings_hash)
    paired = {(pair.configuration_id, pair.weights) for pair in records.pair_rows(where)}
    found = {}
    for one in _standings(records, ids, controls, settings_hash, keys):
        if one.state == "recorded" and one.wanted >= one.asked and one.pairs <= paired:
            found[one.identity] = len(one.wanted)
    return found


@dataclass(frozen=True)
class _Standing:
    """A configuration of a campaign: its relaxations, the pre-relaxers asked, and the starts that are wanted."""

    identity: str
    rows: list[RecordRow]
    asked: frozenset[str]
    wanted: set[str | None]

    @property
    def state(self) -> str | None:
        """The set that it belongs to; None if something is missing that nobody has begun."""
        return _state([row for row in self.rows if _start(row) in self.wanted], self.wanted)

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """The configuration with the key of each proposal that can be compared with the unrelaxed start."""
        done = {_start(row) for row in self.rows if row.status == "done"}
        return {(self.identity, key) for key in done if key is not None} if None in done else set()


def _standings(
    records: Records, ids: tuple[str, ...], controls: Collection[str], settings_hash: str, keys: Sequence[str]
) -> Iterator[_Standing]:
    rows = records.record_rows(Filter(configuration_ids=ids, settings_hash=settings_hash))
    chosen = _chosen(records, settings_hash) if AUTO in keys else {}
    gates = find_gates(records, rows, keys if len(keys) == 1 and not chosen else None, ids)
    found: dict[str, list[RecordRow]] = defaultdict(list)
    for row in rows:
        found[row.configuration_id].append(row)
    for identity in ids:
        asked = [chosen.get(identity, AUTO)] if AUTO in keys else keys
        wanted = _wanted(gates, (identity, settings_hash), asked, control=identity in controls)
        yield _Standing(identity, found[identity], frozenset(asked), wanted)


def _chosen(records: Records, settings_hash: str) -> dict[str, str]:
    """Return the key of the pre-relaxer that `auto` chose, by configuration_id."""
    choices = records.find(Choice, {"settings_hash": settings_hash})
    return {choice.configuration_id: choice.key or AUTO for choice in choices}


def _start(row: RecordRow) -> str | None:
    """Return the key of the pre-relaxer that a relaxation began from; None for the unrelaxed start."""
    return row.weights if row.start == "predicted" else None


def _wanted(gates: Gates, pairing: tuple[str, str], keys: Sequence[str], *, control: bool) -> set[str | None]:
    """Return the starts that a campaign relaxes; starts that other campaigns want do not count."""
    said = {key: gates.under(pairing, key) for key in keys}
    fit = {key for key, gate in said.items() if gate is None or gate.verdict != "rejected"}
    return {None, *fit} if control or not fit else {*fit}


def _state(rows: list[RecordRow], wanted: set[str | None]) -> str | None:
    """Return the set of a configuration; None if something is missing that nobody has begun."""
    statuses = {row.status for row in rows}
    if "running" in statuses:
        return "relaxing"
    if "failed" in statuses:
        return "failed"
    return "recorded" if wanted == {_start(row) for row in rows} else None
