"""Processor time and memory of the processes of a campaign that is interrupted and goes on; each session is kept."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from definet_flows.atomic import write_whole
from standins.engine_log import read_log

if TYPE_CHECKING:
    from collections.abc import Iterable

KILL_AFTER = 60.0
"""Seconds after which a worker is killed."""


TIMES = "times"
"""File of a campaign's folder in which jobs that are processes of their own say what they took, by bash's `times`."""

_TIME = re.compile(r"(\d+)m([\d.]+)s")


@dataclass
class Meter:
    """What the processes of a session took so far, by role.

    Attributes
    ----------
    folder
        Of the campaign; each session leaves a file in it.
    kills
        Number of processes that were killed.
    """

    folder: Path
    kills: int = 0
    began: float = field(default_factory=time.time)
    _living: dict[psutil.Process, tuple[str, float]] = field(default_factory=dict)
    _cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _memory: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def watch(self, role: str, process: psutil.Process) -> None:
        """Count a process from now on."""
        self._living[process] = (role, 0.0)

    def add(self, role: str, seconds: float) -> None:
        """Count processor time of this process."""
        self._cpu[role] += seconds
        self._memory[role] = max(self._memory[role], peak(psutil.Process()))

    def note(self) -> None:
        """Read the clocks, and write them down; of a process that has ended, the last reading counts."""
        for process, (role, before) in list(self._living.items()):
            with suppress(psutil.Error, OSError, StopIteration):
                now = float(sum(process.cpu_times()[:2]))
                self._cpu[role] += now - before
                self._living[process] = (role, now)
                self._memory[role] = max(self._memory[role], peak(process))
        said = {
            "cpu": self._cpu,
            "memory": self._memory,
            "kills": self.kills,
            "elapsed": time.time() - self.began,
        }
        write_whole(self.folder / f"session_{self.began:.0f}.json", json.dumps(said))

    def kill(self, process: psutil.Popen, *, counts: bool = True) -> None:
        """End a process by SIGKILL."""
        self.note()
        process.kill()
        process.wait()
        del self._living[process]
        self.kills += counts


def peak(process: psutil.Process) -> int:
    """Return the largest resident memory that a process ever had, bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Spent:
    """Sums over the sessions of a campaign; seconds of processor time and bytes, by role.

    Attributes
    ----------
    engine, predictions, starts
        Parts of what the workers took: relaxations and predictions that ended, and every start of a worker.
    between
        What a worker takes from the end of each relaxation to the next end, the engine and predictions not counted, in
        the order of the log.
    """

    cpu: dict[str, float]
    memory: dict[str, int]
    kills: int
    elapsed: float
    engine: float
    predictions: float
    starts: float
    between: list[float]


def spent(folder: Path, log: Path) -> Spent:
    """Return what a campaign took so far."""
    sessions = [json.loads(path.read_text()) for path in sorted(folder.glob("session_*.json"))]
    cpu, memory = defaultdict[str, float](float), defaultdict[str, int](int)
    for session in sessions:
        for role, seconds in session["cpu"].items():
            cpu[role] += seconds
        for role, size in session["memory"].items():
            memory[role] = max(memory[role], size)
    if (folder / TIMES).exists():
        times = _TIME.findall((folder / TIMES).read_text(encoding="utf-8"))
        cpu["jobs"] = sum(60 * int(minutes) + float(seconds) for minutes, seconds in times)
    lines = read_log(log)
    parts = {event: _sum(line["cpu"] for line in lines if line["event"] == event and "cpu" in line) for event in _PARTS}
    return Spent(
        dict(cpu),
        dict(memory),
        kills=sum(session["kills"] for session in sessions),
        elapsed=sum(session["elapsed"] for session in sessions),
        engine=parts["end"],
        predictions=parts["predicted"],
        starts=parts["started"],
        between=_between(lines),
    )


_PARTS = ("end", "predicted", "started")


def _between(lines: Iterable[dict[str, Any]]) -> list[float]:
    """Return our own processor seconds from each end of a relaxation to the next, by the clock of each process."""
    clocks, other, found = dict[int, float](), defaultdict[int, float](float), list[float]()
    for line in lines:
        pid = line["pid"]
        if line["event"] == "predicted":
            other[pid] += line["cpu"]
        elif line["event"] == "end" and "clock" in line:
            if pid in clocks:
                found.append(line["clock"] - clocks[pid] - line["cpu"] - other[pid])
            clocks[pid], other[pid] = line["clock"], 0.0
    return found


def _sum(seconds: Iterable[Any]) -> float:
    return float(sum(seconds))
