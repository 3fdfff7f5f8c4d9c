"""Everything the page shows, read from a store once."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from definet_flows.errors import InputError
from definet_flows.report.cards import Card, Times, cards_of, group_tables
from definet_flows.report.figures.deviations import Deviation, Deviations, deviation
from definet_flows.report.figures.overlays import Overlay, overlay
from definet_flows.report.names import Names, names_of
from definet_flows.report.rows import Key, Row, table_rows
from definet_flows.schemas import AUTO, signed
from definet_flows.stores import Filter, explain_nothing
from definet_flows.stores.analysis.counts import Counts, count_rows
from definet_flows.stores.analysis.figures import GroupBy
from definet_flows.stores.analysis.gates import both_starts
from definet_flows.stores.analysis.savings import gather

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from definet_flows.report.cards import Group
    from definet_flows.schemas import DefectRecord, Pair
    from definet_flows.stores import Records, Savings

WORST = 10
GROUPS: tuple[GroupBy, ...] = tuple(by for by in get_args(GroupBy) if by not in {"name", "prerelaxer", "weights"})
"""The table of configurations filters by name; in each table the pre-relaxers and weights stand apart."""

_EVERYTHING = Filter()


@dataclass(frozen=True, eq=False)
class Contents:
    """The content of a store, as the page needs it."""

    source: str
    """Name of the store on the page"""
    chosen: str
    """The filter in words; empty without a filter"""
    total: Savings
    """Of all relaxations; its counts and costs are shown, its saving where there is a single card"""
    spent: Counts
    cards: list[Card]
    """Pre-relaxers and weights that proposed a start, the latest first"""
    refused: tuple[str, ...]
    """A line for each of those whose proposals began no relaxation"""
    groups: dict[GroupBy, list[Group]]
    rows: list[Row]
    pairs: list[Pair]
    errors: dict[Key, float]
    """Largest atomic error of each prediction whose relaxation converged, Å"""
    deviations: dict[str, Deviation]
    """Of the converged relaxations from predictions, by the key of what proposed them"""
    relaxations: int
    """Number of predictions in `deviations`"""
    worst: list[Overlay]
    """Largest atomic error first"""


def read_contents(records: Records, source: str, where: Filter = _EVERYTHING) -> Contents:
    """Read a store: ledgers and pairs for the costs, structures of the relaxations from predictions for the errors.

    Parameters
    ----------
    records
        An open store.
    source
        Its name on the page.
    where
        Which relaxations count, as in `savings`.

    Raises
    ------
    InputError
        If no relaxation matches, or the store holds a document that this version cannot read.
    """
    evidence, names = gather(records, where), names_of(records)
    if not evidence.rows:
        raise InputError(explain_nothing(records, where))
    counted = {row.id for row in evidence.rows}
    starts = [both for both in both_starts(records, where) if counted & {row.id for row in both.rows}]
    pairs = list(records.pairs(where))
    labels = names.labels(dict.fromkeys(key for both in starts if (key := both.weights) is not None))
    rows = table_rows(starts, pairs, labels)
    structures = _Structures({row.key: row for row in rows})
    for record in records.records(where):
        structures.add(record)
    cards = cards_of(evidence, labels, structures.times)
    return Contents(
        source=source,
        chosen=_in_words(where, names),
        total=evidence.total(),
        spent=count_rows(evidence.rows),
        cards=cards,
        refused=_refused(rows, {card.key for card in cards}),
        groups=group_tables(evidence, cards, GROUPS),
        rows=rows,
        pairs=pairs,
        errors=structures.errors,
        deviations={key: found.joined() for key, found in structures.deviations.items()},
        relaxations=sum(map(len, structures.deviations.values())),
        worst=list(structures.worst()),
    )


def _in_words(where: Filter, names: Names) -> str:
    """Return a filter in words: `host MoS2, charge 0, weights definet · definet-2dmd`."""
    parts = where.model_dump(exclude_none=True, exclude={"configuration_ids", "weights", "charge"})
    words = [f"{field.replace('_', ' ')} {value}" for field, value in parts.items()]
    words += [] if where.charge is None else [f"charge {signed(where.charge)}"]
    return ", ".join([*words, *(f"from {label}" for label in names.labels(sorted(where.keys or ())).values())])


def _refused(rows: Sequence[Row], shown: set[str]) -> tuple[str, ...]:
    """Return what was asked and began no relaxation, in words."""
    asked = Counter(row.start for row in rows if row.weights not in {*shown, AUTO, None})
    lines = [
        f"{label}: no relaxation began from its proposals for {count} configurations." for label, count in asked.items()
    ]
    chosen = sum(row.weights == AUTO for row in rows)
    return (*lines, *([f"auto chose no pre-relaxer for {chosen} configurations."] if chosen else []))


class _Structures:
    """Results of a single pass over whole records; few records are kept."""

    def __init__(self, rows: Mapping[Key, Row]) -> None:
        self.rows = rows
        self.deviations: dict[str, Deviations] = {}
        self.errors: dict[Key, float] = {}
        self.times: dict[str, Times] = {}
        self._worst: list[tuple[float, str, DefectRecord]] = []

    def add(self, record: DefectRecord) -> None:
        """Add a record."""
        self._note_time(record)
        found = deviation(record)
        if found is None or record.prediction is None:
            return
        largest = float(found.error.max(initial=0.0))
        self.deviations.setdefault(record.prediction.weights, Deviations()).add(found)
        self.errors[record.configuration_id, record.settings_hash, record.prediction.weights] = largest
        item = (largest, record.id, record)
        (heapq.heappush if len(self._worst) < WORST else heapq.heappushpop)(self._worst, item)

    def _note_time(self, record: DefectRecord) -> None:
        time = record.provenance.finished
        if time is None or record.prediction is None or record.start != "predicted":
            return
        key = record.prediction.weights
        known = self.times.get(key, Times(time, time))
        self.times[key] = Times(min(known.first, time), max(known.last, time))

    def worst(self) -> Iterator[Overlay]:
        """Yield the drawings of the predictions that were farthest off."""
        for largest, _, record in sorted(self._worst, key=lambda item: (-item[0], item[1])):
            row = self.rows.get(_key(record))
            yield overlay(record, largest, _facts(largest, row))


def _key(record: DefectRecord) -> Key:
    return record.configuration_id, record.settings_hash, record.prediction.weights if record.prediction else None


def _facts(largest: float, row: Row | None) -> tuple[str, ...]:
    lines = [f"largest error of the prediction: {largest:.3f} Å"]
    if row is not None:
        unrelaxed = "not run" if row.steps_unrelaxed is None else f"{row.steps_unrelaxed}"
        lines.append(f"predicted by {row.start}")
        lines.append(f"{row.host}, {row.n_sites} sites, relaxed by {row.engine}")
        lines.append(f"ionic steps: {row.steps_predicted} from the prediction, from the unrelaxed start {unrelaxed}")
        lines.append(f"gate: {row.gate}{': ' + row.reason if row.reason else ''}")
        lines.append(f"ends: {row.outcome}")
    return tuple(lines)
