"""The learning curve of GaN: what each start shows on the held-out pairs, in a file, and the tables made of it."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.schemas import Frozen
from definet_flows.starts.auto import Measured, expected
from definet_flows.stores.analysis.interval import saving_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ROOT = Path(__file__).parents[1]

DATA = _ROOT / "benchmarks" / "data" / "gan-learning.jsonl.gz"
"""Measurements, each a line of JSON."""

LABELS = DATA.with_name("gan-records.jsonl.gz")
"""The records that are learned from, and the controls of the held-out pairs: a file of `dft_records`."""

PAGE = _ROOT / "docs" / "notes" / "learning-curve.md"
"""The page that shows the tables, between two marks."""

WAYS = ("fields", "network", "fields + network")
"""The starts that are compared."""


class Measurement(Frozen):
    """What a way shows on a held-out pair after so many records."""

    records: int = Field(description="relaxations that were learned from")
    way: str = Field(description="one of WAYS")
    configuration_id: str
    name: str = Field(description="defects, such as v_Ga+In_Ga")
    verdict: str = Field(description="of the gate on the proposal")
    stated: float | None = Field(description="expected mean |component| error, Å")
    mean_unrelaxed: float = Field(description="mean |component| error of the unrelaxed start, Å")
    largest_unrelaxed: float = Field(description="its largest error of an atom, Å")
    mean: float | None = Field(description="mean |component| error of the proposal, Å; None without a proposal")
    largest: float | None = Field(description="its largest error of an atom, Å")
    steps_unrelaxed: int | None = Field(description="ionic steps from the unrelaxed start")
    steps: int | None = Field(description="ionic steps from the proposal; None if it is not relaxed")
    ends: str | None = Field(description="verdict on both ends")
    force_unrelaxed: float | None = Field(description="largest force at the unrelaxed start, eV/Å")
    force: float | None = Field(description="largest force at the proposal, eV/Å")

    @property
    def fit(self) -> bool:
        """Whether the gate lets the proposal start a relaxation."""
        return self.verdict != "rejected" and self.mean is not None

    @property
    def errors(self) -> tuple[float, float]:
        """Mean and largest error of the start that is taken, Å: of the unrelaxed start where the gate rejects."""
        if self.fit and self.mean is not None and self.largest is not None:
            return self.mean, self.largest
        return self.mean_unrelaxed, self.largest_unrelaxed

    @property
    def cost(self) -> tuple[int, int] | None:
        """Ionic steps unrelaxed and from the start that is taken; None where a relaxation is missing.

        A pair that does not end in the same minimum, or a deeper one, saves nothing.
        """
        if self.steps_unrelaxed is None or (self.fit and self.steps is None):
            return None
        helps = self.fit and self.ends in ("same minimum", "better minimum") and self.steps is not None
        return self.steps_unrelaxed, self.steps if helps and self.steps is not None else self.steps_unrelaxed


def read(data: Path) -> list[Measurement]:
    """Return the measurements in a file."""
    with gzip.open(data, "rt", encoding="utf-8") as file:
        return [Measurement.model_validate_json(line) for line in file]


def write(data: Path, found: Iterable[Measurement]) -> None:
    """Write measurements to a file; the same measurements give the same bytes."""
    lines = "".join(f"{one.model_dump_json()}\n" for one in found)
    data.write_bytes(gzip.compress(lines.encode(), mtime=0))


# ------------------------------------------------------------------ tables


def tables(found: Sequence[Measurement]) -> str:
    """Return the tables of errors, of ionic steps, and of each pair after the most records with steps, in Markdown."""
    groups = [
        (count, way, [one for one in found if (one.records, one.way) == (count, way)])
        for count in sorted({one.records for one in found})
        for way in WAYS
    ]
    errors = [(str(count), way, *_errors(group)) for count, way, group in groups if group]
    steps = [(str(count), way, *_steps(group)) for count, way, group in groups if any(one.steps for one in group)]
    blocks = (_table(_ERRORS, errors), _table(_STEPS, steps), _table(_PAIRS, list(_pairs(found))))
    return "\n".join([line for block in blocks for line in (*block, "")])


_ERRORS = ("records", "start", "accepted", "mean: Dummy", "start", "largest: Dummy", "start", "all: mean", "largest")
_STEPS = (
    *("records", "start", "relaxed", "same minimum", "steps unrelaxed", "from the start", "saved", "95 %"),
    *("of all", "force at the start", "`auto` expects"),
)
_PAIRS = ("pair", "mean: Dummy", *WAYS, "steps unrelaxed", *WAYS)


def _errors(group: Sequence[Measurement]) -> tuple[str, ...]:
    """Return the means over the accepted pairs of the mean and the largest error, Å, then over all pairs."""
    fit = [one for one in group if one.fit]
    columns = [(one.mean_unrelaxed, one.errors[0], one.largest_unrelaxed, one.errors[1]) for one in fit]
    of_fit = [mean(column) for column in zip(*columns, strict=True)] if fit else []
    of_all = [mean(column) for column in zip(*(one.errors for one in group), strict=True)]
    cells = [f"{value:.{4 - k // 2}f}" for k, value in enumerate(of_fit)] or ["-"] * 4
    return f"{len(fit)} of {len(group)}", *cells, f"{of_all[0]:.4f}", f"{of_all[1]:.3f}"


def _steps(group: Sequence[Measurement]) -> tuple[str, ...]:
    """Return the ionic steps over the pairs in the same minimum, then the saving over all pairs."""
    relaxed = [one for one in group if one.fit and one.steps is not None]
    same = [one for one in relaxed if one.ends == "same minimum"]
    costs = [cost for one in same if (cost := one.cost) is not None]
    unrelaxed, predicted = (sum(column) for column in zip(*costs, strict=True)) if costs else (0, 0)
    ends = saving_interval(costs, [one.configuration_id for one in same]).ends if costs else None
    asked = [cost for one in group if (cost := one.cost) is not None]
    forces = [(one.force_unrelaxed, one.force) for one in relaxed if one.force_unrelaxed and one.force]
    measured = [Measured(1 - after / before, 2) for one in relaxed if (cost := one.cost) for before, after in (cost,)]
    return (
        str(len(relaxed)),
        str(len(same)),
        str(unrelaxed),
        str(predicted),
        _percent(1 - predicted / unrelaxed) if unrelaxed else "-",
        f"{_percent(ends[0])} to {_percent(ends[1])}" if ends else "-",
        _percent(1 - sum(after for _, after in asked) / sum(before for before, _ in asked)) if asked else "-",
        " to ".join(f"{median(column):.2f}" for column in zip(*forces, strict=True)) or "-",
        _percent(expected(measured, 2)),
    )


def _pairs(found: Sequence[Measurement]) -> Iterator[tuple[str, ...]]:
    """Yield the mean error, Å, and the ionic steps of each way for each pair, after the most records with steps."""
    most = max((one.records for one in found if one.steps is not None), default=0)
    by_pair: dict[str, dict[str, Measurement]] = defaultdict(dict)
    for one in found:
        if one.records == most:
            by_pair[one.configuration_id][one.way] = one
    for made in by_pair.values():
        any_way, asked = next(iter(made.values())), [made.get(way) for way in WAYS]
        means = (_cell(one, None if one is None or one.mean is None else f"{one.mean:.4f}") for one in asked)
        steps = (_cell(one, None if one is None or one.steps is None else str(one.steps)) for one in asked)
        yield any_way.name, f"{any_way.mean_unrelaxed:.4f}", *means, str(any_way.steps_unrelaxed), *steps


def _cell(one: Measurement | None, text: str | None) -> str:
    if one is not None and one.verdict == "rejected":
        return "rejected"
    return text or "-"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
