"""Identity of a process: its number, its running system and its PID namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STARTED = 19  # field of /proc/PID/stat behind the name in brackets: start time in ticks since boot
_ENDED = "ZX"  # states of a process that is dead and was not waited for


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes
    ----------
    place
        The running system and the PID namespace; empty where they cannot be known: `pid` then means nothing.
    pid
        Its number there.
    born
        When it was started, in the system's own units.
    """

    place: str
    pid: int
    born: str


def this_process() -> Process:
    """Return the calling process."""
    pid = os.getpid()
    try:
        if str((_PROC / "self").readlink()) != str(pid):  # the numbers in /proc are those of another namespace
            return Process("", pid, "")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        place = f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return Process("", pid, "")
    return Process(place, pid, _born(pid) or "")


def runs(other: Process) -> bool | None:
    """Return whether a process runs; None where this machine cannot know it."""
    here = this_process()
    if not (here.place and other.born) or here.place != other.place:
        return None
    return _born(other.pid) == other.born


def _born(pid: int) -> str | None:
    """Return when a process was started; None if it is dead."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in _ENDED else fields[_STARTED]
