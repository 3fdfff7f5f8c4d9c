"""What faults do to a campaign: each is made at seeded random instants, then the records are judged.

    python benchmarks/faults.py FOLDER --tries 50                      # every fault
    python benchmarks/faults.py FOLDER --tries 50 --fault kill-relax   # one of them

A round is a campaign of four configurations (copper, vacancies and nickel; `spring_engine.py` relaxes) on a SecantusDB
that syncs each commit. Faults are made in it, then the queue is put right as `definet retry` does it and runs to its
end. The judge is the log that the engine itself appends to. Prints a table: tries, configurations lost (neither
recorded nor failed with a reason), doubled (relaxed again after their output was stored), redone because a worker died
with the result in its memory, and failed with a reason. FOLDER keeps the rounds: the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine_log import read_log
from queue_place import Place, Server
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerProcess

    from fireworks import LaunchPad

    from definet_flows.workflows.plan import Plan

RELAXATION = 0.3
"""Seconds of one relaxation."""

KILLS = {"kill-relax": ("spring", RELAXATION + 0.3), "kill-predict": ("predict", 1.0), "kill-record": ("record", 0.4)}
"""Of each kill the beginning of the job's name, and the seconds after its begin within which to kill."""

OTHERS = ("database", "raise", "nan", "disk", "launches")
_CONTEXT = get_context("forkserver")
_PATIENCE = 240.0  # s until a queue in which nothing moves counts as stuck


@dataclass(frozen=True)
class Verdict:
    """One round."""

    fault: str
    seed: int
    tries: int
    configurations: int
    recorded: int
    failed: int
    lost: int
    doubled: int
    redone: int
    seconds: float


class Round:
    """One campaign and the faults made in it."""

    def __init__(self, fault: str, seed: int, place: Place, server: Server) -> None:
        self.fault, self.seed, self.place, self.server = fault, seed, place, server
        self.random = random.Random(f"{fault} {seed}")  # noqa: S311 - instants, not secrets
        self.launchpad: LaunchPad = place.launchpad()
        self.file = str(place.folder / "my_launchpad.yaml")
        self.first = len(read_log(place.log))
        self.plan = make_campaign(place.folder, fault, seed)
        self.numbers = itertools.count()

    def log(self) -> list[dict[str, Any]]:
        """Return what the log says since the round began."""
        return read_log(self.place.log)[self.first :]

    def worker(self, folder: Path | None = None, raising: int | None = None) -> ForkServerProcess:
        """Start a worker in a folder of its own."""
        from fault_worker import work  # noqa: PLC0415 - jobflow reads its settings when it is imported

        where = folder or self.place.folder / f"{self.fault}_{self.seed}" / str(next(self.numbers))
        process = _CONTEXT.Process(target=work, args=(str(where), self.file, raising), daemon=True)
        process.start()
        return process

    def open(self) -> int:
        """Return how many Fireworks can run or wait for one that can."""
        return int(self.launchpad.fireworks.count_documents({"state": {"$in": ["READY", "RESERVED", "RUNNING"]}}))

    def finish(self) -> None:
        """Put the queue right and run it to its end, twice: the second time with what failed."""
        for again in (False, True):
            self.mend()
            if again and not self._retry():
                break
            self._drain()

    def mend(self) -> None:
        """Put the queue right, with no worker alive."""
        from jobflow import SETTINGS  # noqa: PLC0415

        from definet_flows.workflows.lost import mend  # noqa: PLC0415

        mend(self.launchpad, SETTINGS.JOB_STORE, dead_after=0, patience=0)

    def _retry(self) -> bool:
        from definet_flows import open_store  # noqa: PLC0415
        from definet_flows.workflows.lost import add_retries  # noqa: PLC0415
        from definet_flows.workflows.retry import retry_flow, unfinished  # noqa: PLC0415

        with open_store("campaign") as records:
            ids = unfinished(records, self.plan.maker.engine)
        if ids:
            add_retries(self.launchpad, retry_flow(ids, self.plan.maker.engine, "campaign"))
        return bool(ids)

    def _drain(self) -> None:
        """Run workers until nothing is left to run; one that dies is followed by another, once it is put right."""
        for _ in range(4):
            process = self.worker()
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            if not self.open():
                return
            self.mend()

    def judge(self, tries: int, began: float) -> Verdict:
        """Return what became of the configurations."""
        from definet_flows import open_store  # noqa: PLC0415
        from definet_flows.workflows.plan import look_up  # noqa: PLC0415

        with open_store("campaign", read_only=True) as records:
            progress = look_up(self.plan, records).progress
            rows = [row for row in records.ledgers() if row.settings_hash == self.plan.settings_hash]
            found = [records.record(row.id) for row in rows if row.status == "failed"]
        silent = {one.configuration_id for one in found if one is not None and not one.error}
        doubled, redone = count_repeats(self.log())
        twice = sum(count > 1 for count in Counter((row.configuration_id, row.start) for row in rows).values())
        known = len(progress.recorded) + len(progress.failed - silent)
        return Verdict(
            fault=self.fault,
            seed=self.seed,
            tries=tries,
            configurations=len(self.plan.campaign.ids),
            recorded=len(progress.recorded),
            failed=len(progress.failed - silent),
            lost=len(self.plan.campaign.ids) - known,
            doubled=doubled + twice,
            redone=redone,
            seconds=time.time() - began,
        )


def count_repeats(lines: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many relaxations began again after their output was stored, and how many after they had ended."""
    events: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.get("record"):
            events[line["record"]].append(line["event"])
    doubled = redone = 0
    for told in events.values():
        for position, event in enumerate(told):
            if event == "begin":
                doubled += "stored" in told[:position]
                redone += "end" in told[:position] and "stored" not in told[:position]
    return doubled, redone


def make_campaign(folder: Path, fault: str, seed: int) -> Plan:
    """Return the plan of a round: weights and engine of its own, so that it shares nothing with another."""
    from dataclasses import replace  # noqa: PLC0415

    from flow_helpers import CU, write_weights  # noqa: PLC0415
    from spring_engine import SpringRelaxMaker  # noqa: PLC0415

    from definet_flows import DefectFlowMaker  # noqa: PLC0415
    from definet_flows.workflows.plan import make_plan  # noqa: PLC0415

    number = 1000 * sorted([*KILLS, *OTHERS]).index(fault) + seed
    weights = write_weights(folder / f"{fault}_{seed}.safetensors", seed=number)
    engine = SpringRelaxMaker(seconds=RELAXATION + 1e-6 * number)
    maker = DefectFlowMaker(
        supercell=(2, 2, 2),
        defects=("v_Cu", "Ni_Cu"),
        max_defects=2,
        engine=engine,
        control_fraction=0.3,
        model=str(weights.path),
        relax_host=False,
        store="campaign",
    )
    plan = make_plan(maker, CU)
    few = replace(plan.campaign, configurations=plan.campaign.configurations[:4])
    if fault == "nan":
        engine = replace(engine, nan_in=few.ids[seed // 2 % 4], guarded=seed % 2 == 0)
    return replace(plan, campaign=few, maker=replace(plan.maker, engine=engine))


# ------------------------------------------------------------------ the faults; each returns how often it was made


def kill(this: Round, most: int) -> int:
    """Kill the worker while it does jobs of one kind, at random instants after their begin."""
    kind, span = KILLS[this.fault]
    launch(this)
    hits, process, seen = 0, this.worker(), len(this.log())
    end = time.monotonic() + _PATIENCE
    while hits < most and time.monotonic() < end:
        told = [line for line in this.log()[seen:] if line["event"] == "task" and line["name"].startswith(kind)]
        if told:
            time.sleep(max(0.0, told[-1]["time"] + this.random.uniform(0, span) - time.time()))
            seen = len(this.log())
            hits += 1
            process.kill()
            process.join()
            this.mend()  # else others would wait for the dead worker's lock, five minutes
            process = this.worker()
        elif not process.is_alive():
            break
        time.sleep(0.01)
    process.join(60)
    process.kill()
    process.join()
    return hits


def restart(this: Round, most: int) -> int:
    """Stop the database at a random instant, gently or not, and start it again."""
    launch(this)
    process = this.worker()
    for _ in range(most):
        time.sleep(this.random.uniform(0.5, 6))
        this.server.stop(this.random.choice([signal.SIGTERM, signal.SIGKILL]))
        time.sleep(this.random.uniform(0, 2))
        this.server.start()
    process.join(30)
    process.kill()
    process.join()
    return most


def raise_(this: Round, most: int) -> int:
    """Let the prediction batch raise, before or after its work."""
    del most
    launch(this)
    _run(this.worker(raising=this.seed))
    return sum(line["event"] == "raised" for line in this.log())


def find_nan(this: Round, most: int) -> int:
    """Let one configuration's forces be no numbers."""
    del most
    launch(this)
    _run(this.worker())
    return 1


def fill_disk(this: Round, most: int) -> int:
    """Run in a file system that becomes full at a random instant."""
    del most
    launch(this)
    place = this.place.folder / f"disk_{this.seed}_small"
    place.mkdir()
    size = this.random.randrange(100, 2000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place], check=True)  # noqa: S603, S607
    try:
        _run(this.worker(place))
    finally:
        subprocess.run(["umount", "-l", place], check=True)  # noqa: S603, S607
    return 1


def launch_twice(this: Round, most: int) -> int:
    """Launch the campaign from two processes within a second, while two workers run."""
    del most
    from fault_worker import launch as launch_later  # noqa: PLC0415

    waits = (0.0, this.random.uniform(0, 1))
    both = [_CONTEXT.Process(target=launch_later, args=(this.plan, this.file, wait)) for wait in waits]
    for one in both:
        one.start()
    for one in both:
        one.join()
    workers = [this.worker(), this.worker()]
    for one in workers:
        _run(one)
    return 1


def _run(process: ForkServerProcess) -> None:
    """Let a worker run out of work."""
    process.join(_PATIENCE)
    process.kill()
    process.join()


def launch(this: Round) -> None:
    """Launch the campaign."""
    from definet_flows.workflows.launch import launch_fireworks  # noqa: PLC0415

    launch_fireworks(this.plan, this.launchpad)


FAULTS: dict[str, tuple[Callable[[Round, int], int], int]] = {
    **dict.fromkeys(KILLS, (kill, 4)),
    "database": (restart, 2),
    "raise": (raise_, 1),
    "nan": (find_nan, 1),
    "disk": (fill_disk, 1),
    "launches": (launch_twice, 1),
}
"""Of each fault how to make it, and how often in one round."""


# ------------------------------------------------------------------ rounds and table


def run_faults(fault: str, tries: int, folder: Path) -> list[Verdict]:
    """Make a fault until it was tried this often, counting what FOLDER keeps; return all verdicts."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{fault}.jsonl"
    verdicts = [Verdict(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    if sum(one.tries for one in verdicts) >= tries:
        return verdicts
    place_folder = folder / f"{fault}_{time.time_ns()}"
    place_folder.mkdir()
    server = Server(place_folder, None, "--sync-on-commit")
    server.start()
    try:
        place = Place(place_folder, server.port)
        _CONTEXT.set_forkserver_preload(["fault_worker"])
        while (missing := tries - sum(one.tries for one in verdicts)) > 0:
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
    for fault, group in itertools.groupby(verdicts, key=lambda one: one.fault):
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
