"""What faults do to a campaign: each is made at seeded random instants, then the records are judged.

    python benchmarks/faults.py FOLDER --tries 50                      # every fault
    python benchmarks/faults.py FOLDER --tries 50 --fault kill-relax   # a single fault

A round is a campaign of four configurations (copper, vacancies and nickel; `spring_engine.py` relaxes) on a SecantusDB
that syncs each commit. Several faults are made in it, then the queue is put right as `definet retry` does it and runs
to its end. The judge is the log that the engine itself appends to. Prints a table: tries, configurations lost (neither
recorded nor failed with a reason), doubled (relaxed again after their output was stored), redone because a worker died
with the result in its memory, and failed with a reason. FOLDER keeps the rounds: the same command goes on. Processes
are killed, not the machine: FOLDER may be in memory (/dev/shm), where a round takes a third of the time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.support.fault_round import CONTEXT, NANS, PATIENCE, RELAXATION, Round, Verdict
from standins.queue_place import Place
from standins.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerProcess

KILLS = {"kill-relax": ("spring", RELAXATION + 0.3), "kill-predict": ("predict", 0.5), "kill-record": ("record", 0.4)}
"""Of each kill the beginning of the job's name, and the seconds after its begin within which to kill."""


# ------------------------------------------------------------------ the faults; each returns how often it was made


def kill(this: Round, most: int) -> int:
    """Kill the worker while it does jobs of one kind, at random instants after their begin."""
    kind, span = KILLS[this.fault]
    this.launch(parts=4 if kind == "predict" else 1)
    hits, process, seen = 0, this.worker(), len(this.log())
    end = time.monotonic() + PATIENCE
    while hits < most and time.monotonic() < end:
        begun = [line for line in this.log()[seen:] if line["event"] == "task" and line["name"].startswith(kind)]
        if begun:
            time.sleep(max(0.0, begun[-1]["time"] + this.random.uniform(0, span) - time.time()))
            seen = len(this.log())
            hits += 1
            process.kill()
            process.join()
            process = this.revive(process)
        elif not process.is_alive():
            break
        time.sleep(0.01)
    this.end(process, 60)
    return hits


def restart(this: Round, most: int) -> int:
    """Stop the database at a random instant, gently or not, and start it again, while there is work."""
    this.launch()
    process, made = this.worker(), 0
    while made < most and this.open():
        time.sleep(this.random.uniform(0.2, 3))
        this.server.stop(this.random.choice([signal.SIGTERM, signal.SIGKILL]))
        time.sleep(this.random.uniform(0, 2))
        this.server.start()
        made += 1
        process = this.revive(process)
    this.end(process, 30)
    return made


def raise_(this: Round, most: int) -> int:
    """Let each prediction batch raise, before or after its work."""
    del most
    this.launch(parts=4)
    this.end(this.worker(raising=this.seed))
    return sum(line["event"] == "raised" for line in this.log())


def find_nan(this: Round, most: int) -> int:
    """Let the forces of some configurations be no numbers."""
    del most
    this.launch()
    this.end(this.worker())
    return NANS


def fill_disk(this: Round, most: int) -> int:
    """Run in file systems that become full at a random instant."""
    this.launch()
    made = 0
    for k in range(2 * most):
        place = this.place.folder / f"disk_{this.seed}_{k}"
        place.mkdir()
        size = this.random.randrange(100, 1200)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place], check=True)  # noqa: S603, S607
        try:
            this.end(this.worker(place), 30)  # a worker whose rocket could not say that it failed waits for itself
            made += not os.statvfs(place).f_bavail
        finally:
            subprocess.run(["umount", "-l", place], check=True)  # noqa: S603, S607
        this.mend()
        if made == most or not this.open():
            break
    return made


def launch_twice(this: Round, most: int) -> int:
    """Launch the campaign from two processes within a second, before and while two workers run."""
    from benchmarks.support.fault_worker import launch as launch_later  # noqa: PLC0415

    workers: list[ForkServerProcess] = []
    for _ in range(most):
        waits = (0.0, this.random.uniform(0, 1))
        both = [CONTEXT.Process(target=launch_later, args=(this.plan, this.file, wait)) for wait in waits]
        for process in both:
            process.start()
        for process in both:
            process.join()
        workers = workers or [this.worker(), this.worker()]
        time.sleep(this.random.uniform(0, 2))
    for process in workers:
        this.end(process)
    return most


FAULTS: dict[str, tuple[Callable[[Round, int], int], int]] = {
    **dict.fromkeys(KILLS, (kill, 8)),
    "database": (restart, 5),
    "raise": (raise_, 4),
    "nan": (find_nan, NANS),
    "disk": (fill_disk, 4),
    "launches": (launch_twice, 3),
}
"""How to make each fault, and how often at most in a round."""


# ------------------------------------------------------------------ rounds and table


def run_faults(fault: str, tries: int, folder: Path) -> list[Verdict]:
    """Make a fault until it was tried this often, counting what FOLDER keeps; return all verdicts."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{fault}.jsonl"
    verdicts = [Verdict(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    if sum(verdict.tries for verdict in verdicts) >= tries:
        return verdicts
    place_folder = folder / f"{fault}_{time.time_ns()}"
    place_folder.mkdir()
    server = Server(place_folder, None, "--sync-on-commit")
    server.start()
    try:
        place = Place(place_folder, server.port)
        CONTEXT.set_forkserver_preload(["benchmarks.support.fault_worker"])
        while (missing := tries - sum(verdict.tries for verdict in verdicts)) > 0:
            make, most = FAULTS[fault]
            began, this = time.time(), Round(fault, len(verdicts), place, server)
            made = make(this, min(most, missing))
            this.finish()
            verdicts.append(this.judge(made, began))
            with kept.open("a") as file:
                file.write(json.dumps(asdict(verdicts[-1])) + "\n")
            print(verdicts[-1], flush=True)
    finally:
        server.stop()
    return verdicts


def show(verdicts: list[Verdict]) -> None:
    """Print the table."""
    table = Table("fault", header_style="bold")
    for heading in (
        "tries",
        "configurations",
        "recorded",
        "failed with\na reason",
        "lost",
        "doubled",
        "died in\nmemory",
    ):
        table.add_column(heading, justify="right")
    for fault, group in itertools.groupby(verdicts, key=lambda verdict: verdict.fault):
        rows = list(group)
        fields = ("tries", "configurations", "recorded", "failed", "lost", "doubled", "redone")
        table.add_row(fault, *(str(sum(getattr(row, field) for row in rows)) for field in fields))
    Console(width=120).print(table)


def main() -> None:
    """Make the faults asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--fault", choices=FAULTS, action="append")
    options = parser.parse_args()
    folder, found = options.folder.absolute(), []
    for fault in options.fault or FAULTS:
        if len(options.fault or FAULTS) > 1:  # jobflow reads the settings of a place once: a process for each
            command = [sys.executable, __file__, str(folder), "--tries", str(options.tries), "--fault", fault]
            subprocess.run(command, check=True)  # noqa: S603
        found += run_faults(fault, options.tries, folder)
    show(found)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        main()
