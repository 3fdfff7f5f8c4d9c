"""The table of `benchmarks/scale.py`: what each campaign cost, and whether all of it is in the record store."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.support.scale_meter import Spent, spent
from definet_flows.atomic import write_whole
from standins.engine_log import count_repeats, read_log

if TYPE_CHECKING:
    from definet_flows.stores import Records
    from definet_flows.workflows.queue.plan import Plan

RECORDED = "recorded.json"
"""File of a campaign's folder that holds what its record store says."""

_MEGABYTE = 1 << 20
_PART = 500  # relaxations


@dataclass(frozen=True)
class Recorded:
    """What the record store says of a campaign.

    Attributes
    ----------
    configurations
        Number of them.
    worked
        Number of those that jobs have ended in the sessions of this folder.
    recorded, failed
        Configurations of which every relaxation is done, or one failed.
    lost
        Neither recorded nor failed.
    surplus
        Records beyond those that the campaign wants: doubled.
    """

    configurations: int
    worked: int
    recorded: int
    failed: int
    lost: int
    surplus: int


def look(plan: Plan, records: Records, place: Path, filled: int = 0) -> None:
    """Write down what the record store says of a campaign, in its folder."""
    from definet_flows.workflows.queue.plan import look_up  # noqa: PLC0415 - jobflow reads its settings

    progress = look_up(plan, records).progress
    ended = len(progress.recorded) + len(progress.failed)
    wanted = Counter(dict.fromkeys(plan.campaign.ids, 1)) + Counter(plan.campaign.controls)
    held = Counter(row.configuration_id for row in records.record_rows())
    found = Recorded(
        configurations=len(plan.campaign.ids),
        worked=ended - filled,
        recorded=len(progress.recorded),
        failed=len(progress.failed),
        lost=len(plan.campaign.ids) - ended,
        surplus=(held - wanted).total(),
    )
    write_whole(place / RECORDED, json.dumps(asdict(found)))


@dataclass(frozen=True)
class Cost:
    """A campaign in the table."""

    way: str
    ended: bool
    recorded: Recorded
    spent: Spent
    repeats: tuple[int, int]

    def row(self) -> list[str]:
        """Return the cells of its row."""
        said, cpu = self.recorded, self.spent.cpu
        ours = sum(seconds for role, seconds in cpu.items() if role != "server")
        own = ours - self.spent.engine - self.spent.predictions
        memory = {role: size for role, size in self.spent.memory.items() if role != "server"}
        server = self.spent.memory.get("server")
        parts = own, own - self.spent.starts, self.spent.predictions, self.spent.engine, cpu.get("server")
        each = [None if part is None else part / max(said.worked, 1) for part in parts]
        return [
            self.way + ("" if self.ended else ", not ended"),
            f"{said.configurations:,}",
            f"{said.worked:,}",
            f"{said.recorded:,}, {said.failed}",
            f"{said.lost if self.ended else '-'}, {said.surplus}",
            f"{self.spent.kills}, {self.repeats[1]}",
            *_flat(self.spent.between),
            *("-" if seconds is None else f"{seconds:.3f}" for seconds in each),
            f"{max(memory.values()) / _MEGABYTE:.0f}",
            "-" if server is None else f"{server / _MEGABYTE:.0f}",
            f"{self.spent.elapsed / 60:.0f}",
        ]


def _flat(between: list[float]) -> tuple[str, str]:
    """Return the mean over all relaxations, and those of the first and the last `_PART` where they are apart."""
    if not between:
        return "-", "-"
    apart = len(between) >= 2 * _PART
    parts = (between[:_PART], between[-_PART:]) if apart else ()
    return f"{fmean(between):.3f}", ", ".join(f"{fmean(part):.3f}" for part in parts) or "-"


_HEADS = (
    "way",
    "configurations",
    "by jobs",
    "recorded, failed",
    "lost, doubled",
    "killed, relaxed again",
    "own, s from end to end",
    "first and last 500",
    "own, s each",
    "without starts",
    "prediction",
    "engine",
    "server",
    "memory, MB",
    "server, MB",
    "elapsed, min",
)


def costs(folder: Path) -> list[Cost]:
    """Return the cost of every campaign in a folder."""
    found = []
    for said in sorted(folder.glob(f"*/*/{RECORDED}"), key=lambda path: (path.parts[-3], int(path.parts[-2]))):
        place, log = said.parent, said.parent / "engine.jsonl"
        recorded = Recorded(**json.loads(said.read_text()))
        repeats = count_repeats(read_log(log))
        found.append(Cost(said.parts[-3], (place / "ended").exists(), recorded, spent(place, log), repeats))
    return found


def markdown(found: list[Cost]) -> str:
    """Return the table in Markdown."""
    rows = [_HEADS, ["---"] * len(_HEADS), *(cost.row() for cost in found)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
