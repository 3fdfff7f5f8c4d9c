"""A launched campaign as it goes on: its stages, rate, savings and last failures, read from the record store alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from definet_flows.schemas import Frozen, Provenance
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.stores import Filter
from definet_flows.workflows.queue.status import predicted_ids, progress_in, started_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from definet_flows.stores import Records
    from definet_flows.stores.analysis.rows import RecordRow

_WINDOW = timedelta(hours=24)
_FAILURES = 10
_STAGES = {1: "singles", 2: "pairs", 3: "rest"}


@dataclass(frozen=True)
class StageCounts:
    """Numbers of configurations; each is waiting, relaxing, recorded or failed.

    A relaxation that a queue holds and has not started is waiting.
    """

    name: str
    enumerated: int
    predicted: int
    relaxing: int
    recorded: int
    failed: int

    @property
    def waiting(self) -> int:
        """Number of which a relaxation is missing and none has started that has not ended."""
        return self.enumerated - self.relaxing - self.recorded - self.failed


@dataclass(frozen=True)
class Failure:
    """A relaxation that failed."""

    finished: str | None
    name: str
    charge: int
    configuration_id: str
    reason: str


@dataclass(frozen=True)
class Watched:
    """A campaign at a moment.

    Attributes
    ----------
    campaign
        As it was launched.
    stages, total
        Counts of each stage, and of all; a campaign launched without the sizes of its configurations has no stages.
    rate
        Configurations that ended per hour, over the last 24 hours or since the launch; None if no time is recorded.
    end
        When all have ended at this rate, UTC; None if the rate is 0 or unknown, or nothing is left.
    steps_saved
        Ionic steps of the unrelaxed less those of the predicted start, over the pairs that end in the same minimum.
    pairs
        Number of these pairs.
    core_hours
        Of all relaxations that state them; None if none does.
    failures
        The last ten, the latest last.
    """

    campaign: LaunchedCampaign
    stages: tuple[StageCounts, ...]
    total: StageCounts
    rate: float | None
    end: datetime | None
    steps_saved: int
    pairs: int
    core_hours: float | None
    failures: tuple[Failure, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.total.recorded + self.total.failed == self.total.enumerated


class _Timed(Frozen):
    """When a relaxation ended."""

    kind: Literal["record"] = "record"
    id: str
    schema_version: int
    provenance: Provenance = Provenance()


class Watcher:
    """Looks at the campaigns of a store again and again; the time of each relaxation is read once."""

    def __init__(self) -> None:
        self._times: dict[str, str | None] = {}

    def look(self, records: Records, at: datetime | None = None) -> list[Watched]:
        """Return every launched campaign at a time, the latest last; now if no time is given."""
        found = sorted(records.find(LaunchedCampaign), key=lambda launched: launched.launched)
        return [self._watched(records, campaign, at or datetime.now(UTC)) for campaign in found]

    def _watched(self, records: Records, campaign: LaunchedCampaign, at: datetime) -> Watched:
        where = Filter(configuration_ids=campaign.configuration_ids, settings_hash=campaign.settings_hash)
        rows = records.record_rows(where)
        times = self._read_times(records, rows)
        progress = progress_in(records, campaign)
        sets = {
            "predicted": predicted_ids(records, campaign),
            "relaxing": started_in(records, campaign, progress),
            "recorded": progress.recorded,
            "failed": progress.failed,
        }
        total = _counts("all", campaign.configuration_ids, sets)
        rate = _rate(campaign, rows, times, progress.recorded | progress.failed, at)
        left = total.waiting + total.relaxing
        pairs = [pair for pair in records.pair_rows(where) if pair.verdict == "same minimum"]
        hours = [row.core_hours for row in rows if row.core_hours is not None]
        return Watched(
            campaign=campaign,
            stages=tuple(_counts(name, ids, sets) for name, ids in _stages(campaign)),
            total=total,
            rate=rate,
            end=at + timedelta(hours=left / rate) if rate and left else None,
            steps_saved=sum(pair.steps_unrelaxed - pair.steps_predicted for pair in pairs),
            pairs=len(pairs),
            core_hours=sum(hours) if hours else None,
            failures=_failures(rows, times),
        )

    def _read_times(self, records: Records, rows: Sequence[RecordRow]) -> Mapping[str, str | None]:
        """Return when each relaxation ended, by record id; what is known from an earlier look is not read again."""
        for row in rows:
            if row.status == "running":  # a failed relaxation that was begun again ends at another time
                self._times.pop(row.id, None)
        new = [row.id for row in rows if row.status != "running" and row.id not in self._times]
        fields = ["id", "kind", "schema_version", "provenance"]
        if new:
            for timed in records.find(_Timed, {"id": {"$in": new}}, fields):
                self._times[timed.id] = timed.provenance.finished
        return self._times


def _stages(campaign: LaunchedCampaign) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each stage and its ids; nothing where the campaign does not know the sizes."""
    found: dict[int, list[str]] = defaultdict(list)
    if len(campaign.sizes) == len(campaign.configuration_ids):
        for identity, size in zip(campaign.configuration_ids, campaign.sizes, strict=True):
            found[min(size, max(_STAGES))].append(identity)
    for size in sorted(found):
        yield _STAGES.get(size, "bulk"), found[size]


def _counts(name: str, ids: Sequence[str], sets: Mapping[str, AbstractSet[str]]) -> StageCounts:
    """Count the ids of a stage that lie in each set."""
    own = set(ids)
    return StageCounts(name, len(own), **{state: len(own & some) for state, some in sets.items()})


def _rate(
    campaign: LaunchedCampaign,
    rows: Sequence[RecordRow],
    times: Mapping[str, str | None],
    ended: frozenset[str],
    at: datetime,
) -> float | None:
    """Return configurations per hour; a configuration ends with the last of its relaxations."""
    ends: dict[str, datetime] = {}
    for row in rows:
        finished = _moment(times.get(row.id))
        if row.configuration_id in ended and finished is not None:
            ends[row.configuration_id] = max(finished, ends.get(row.configuration_id, finished))
    since = max(at - _WINDOW, _moment(campaign.launched) or at - _WINDOW)
    hours = (at - since) / timedelta(hours=1)
    if not ends or hours <= 0:
        return None
    return Counter(since <= end <= at for end in ends.values())[True] / hours


def _failures(rows: Sequence[RecordRow], times: Mapping[str, str | None]) -> tuple[Failure, ...]:
    failed = [
        Failure(times.get(row.id), row.name, row.charge, row.configuration_id, row.error or "no reason recorded")
        for row in rows
        if row.status == "failed"
    ]
    return tuple(sorted(failed, key=lambda failure: failure.finished or "")[-_FAILURES:])


def _moment(text: str | None) -> datetime | None:
    """Return a recorded time in UTC; None where it is missing or no time."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
