"""Everything the page shows, read from a store once."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from definet_flows.errors import InputError
from definet_flows.report.figures.deviations import Deviation, Deviations, deviation
from definet_flows.report.figures.overlays import Overlay, overlay
from definet_flows.report.rows import Key, Row, table_rows
from definet_flows.stores import Filter
from definet_flows.stores.analysis.figures import UNASKED
from definet_flows.stores.analysis.gates import both_starts
from definet_flows.stores.analysis.savings import GroupBy, gather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from definet_flows.schemas import DefectRecord, Pair
    from definet_flows.stores import Records, Savings

WORST = 10
GROUPS: tuple[GroupBy, ...] = tuple(by for by in get_args(GroupBy) if by != "name")
"""The table of configurations filters by name; there may be as many names as configurations."""


@dataclass(frozen=True, eq=False)
class Version:
    """A set of weights: the times of its first and last relaxation, and its savings."""

    weights: str
    """sha256"""
    first: str | None
    """UTC, ISO 8601; None if no record has it"""
    last: str | None
    savings: Savings


@dataclass(frozen=True, eq=False)
class Contents:
    """The content of a store, as the page needs it."""

    source: str
    """Name of the store on the page"""
    total: Savings
    groups: dict[GroupBy, dict[str | int, Savings]]
    rows: list[Row]
    pairs: list[Pair]
    errors: dict[Key, float]
    """Largest atomic error of each prediction whose relaxation converged, Å"""
    deviations: Deviation
    relaxations: int
    """Number of predictions in `deviations`"""
    worst: list[Overlay]
    """Largest atomic error first"""
    versions: list[Version]


def read_contents(records: Records, source: str) -> Contents:
    """Read a store: ledgers and pairs for the costs, structures of the relaxations from predictions for the errors.

    Raises
    ------
    InputError
        If the store holds no relaxation, or a document that this version cannot read.
    """
    starts, pairs = list(both_starts(records)), list(records.pairs())
    if not starts:
        msg = f"record store {source!r} holds no relaxations: name another with --store, or run `definet quickstart`"
        raise InputError(msg)
    rows = table_rows(starts, pairs)
    structures = _Structures({row.key: row for row in rows})
    for record in records.records():
        structures.add(record)
    evidence = gather(records, Filter())
    groups = {by: evidence.by(by) for by in GROUPS}
    return Contents(
        source=source,
        total=evidence.total(),
        groups=groups,
        rows=rows,
        pairs=pairs,
        errors=structures.errors,
        deviations=structures.deviations.joined(),
        relaxations=len(structures.deviations),
        worst=list(structures.worst()),
        versions=structures.versions(groups["weights"]),
    )


class _Structures:
    """Results of a single pass over whole records; few records are kept."""

    def __init__(self, rows: dict[Key, Row]) -> None:
        self.rows = rows
        self.deviations = Deviations()
        self.errors: dict[Key, float] = {}
        self._worst: list[tuple[float, str, DefectRecord]] = []
        self._times: dict[str, tuple[str, str]] = {}

    def add(self, record: DefectRecord) -> None:
        """Add a record."""
        self._note_time(record)
        found = deviation(record)
        if found is None or record.prediction is None:
            return
        largest = float(found.error.max(initial=0.0))
        self.deviations.add(found)
        self.errors[record.configuration_id, record.settings_hash, record.prediction.weights] = largest
        item = (largest, record.id, record)
        (heapq.heappush if len(self._worst) < WORST else heapq.heappushpop)(self._worst, item)

    def _note_time(self, record: DefectRecord) -> None:
        time = record.provenance.finished
        if time is None or record.prediction is None or record.start != "predicted":
            return
        first, last = self._times.get(record.prediction.weights, (time, time))
        self._times[record.prediction.weights] = min(first, time), max(last, time)

    def worst(self) -> Iterator[Overlay]:
        """Yield the drawings of the predictions that were farthest off."""
        for largest, _, record in sorted(self._worst, key=lambda item: (-item[0], item[1])):
            row = self.rows.get(_key(record))
            yield overlay(record, largest, _facts(largest, row))

    def versions(self, groups: dict[Any, Savings]) -> list[Version]:
        """Return the sets of weights in the order of their first relaxation, those without a time last."""
        unknown: tuple[str | None, str | None] = (None, None)
        times = {key: self._times.get(key, unknown) for key in groups}
        versions = [Version(key, *times[key], total) for key, total in groups.items() if key != UNASKED]
        return sorted(versions, key=lambda version: (version.first is None, version.first or "", version.weights))


def _key(record: DefectRecord) -> Key:
    return record.configuration_id, record.settings_hash, record.prediction.weights if record.prediction else None


def _facts(largest: float, row: Row | None) -> tuple[str, ...]:
    lines = [f"largest error of the prediction: {largest:.3f} Å"]
    if row is not None:
        unrelaxed = "not run" if row.steps_unrelaxed is None else f"{row.steps_unrelaxed}"
        lines.append(f"{row.host}, {row.n_sites} sites, relaxed by {row.engine}")
        lines.append(f"ionic steps: {row.steps_predicted} from the prediction, from the unrelaxed start {unrelaxed}")
        lines.append(f"gate: {row.gate}{': ' + row.reason if row.reason else ''}")
        lines.append(f"ends: {row.outcome}")
    return tuple(lines)
