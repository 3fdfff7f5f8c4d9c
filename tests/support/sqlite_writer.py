"""A process that makes writers of a store, each to be killed; it has imported everything once for all of them.

Each line on stdin, `FILE SEED PREFIX`, makes one by fork. The writer says `ready PID` and then, a line a write, what
was acknowledged; once it is dead this process says `gone`.
"""

from __future__ import annotations

import os
import random
import sys

from definet_flows.stores import SqliteStore


def say(line: str) -> None:
    """Write a whole line at once: what is read of it is true."""
    os.write(1, f"{line}\n".encode())


def write(path: str, seed: str, prefix: str) -> None:
    chance = random.Random(int(seed))  # noqa: S311 - seeded on purpose
    known: list[str] = []
    with SqliteStore(path) as store:
        say(f"ready {os.getpid()}")
        for k in range(1_000_000):
            known.append(f"{prefix}-{k}")
            batch = [known[-1], *chance.sample(known, min(len(known), chance.choice((0, 0, 1, 3))))]
            store.update([{"id": name, "round": k, "table": [k] * chance.choice((1, 500))} for name in set(batch)])
            say(f"{k} {' '.join(set(batch))}")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            write(*line.split())
        os.waitpid(child, 0)
        say("gone")


if __name__ == "__main__":
    main()
