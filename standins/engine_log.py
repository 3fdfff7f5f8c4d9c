"""The engine's own log: a JSON object on each line, appended whole or not at all, whatever databases say."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

LOG = "SPRING_LOG"
"""Environment variable: the file that takes a JSON object on each line."""


def log(event: str, **said: Any) -> None:  # noqa: ANN401 - any JSON
    """Append a line to the log, if the variable names it, in a single write that kill -9 cannot cut."""
    path = os.environ.get(LOG)
    if path is None:
        return
    line = json.dumps({"event": event, "time": time.time(), "pid": os.getpid(), **said}) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def count_repeats(lines: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many relaxations began again after their output was stored, and how many after they had ended."""
    events: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.get("record"):
            events[line["record"]].append(line["event"])
    doubled = redone = 0
    for history in events.values():
        for position, event in enumerate(history):
            if event == "begin":
                doubled += "stored" in history[:position]
                redone += "end" in history[:position] and "stored" not in history[:position]
    return doubled, redone


class Tail:
    """What is appended to a log from now on; a line is parsed once, however often the log is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, path.stat().st_size if path.exists() else 0
        self.lines: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """Return all lines so far."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
            self.offset += len(new)
            self.lines += [json.loads(line) for line in new.splitlines()]
        return self.lines
