"""What a campaign of thousands of configurations costs beside its relaxations.

    python benchmarks/scale.py FOLDER                        # 100, 200 and 1,000 configurations
    python benchmarks/scale.py FOLDER --sizes 100 200 5933   # the whole low-density campaign on 8 x 8 MoS2

Each size is a campaign in a database of its own (SecantusDB on a socket, found as in the tests), control fraction 5 %,
run by two workers (`rlaunch rapidfire`, but for one query: see `queue_place.Worker`). The engine is `spring_engine.py`.
Prints a table; what is finished is kept in FOLDER and not run again, a campaign that was interrupted goes on and its
cost so far counts. FOLDER may be in memory (/dev/shm).

Columns: largest document of any collection; seconds to enumerate and to insert; per configuration, what the two workers
took together, all but the engine's own seconds: elapsed (on a busy machine it holds the waiting for a processor), and
processor time of the workers; processor time of the database server; largest resident memory of any process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from standins.engine_log import read_log
from standins.queue_place import DATABASE, Place
from standins.server import Server

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from definet_flows.workflows.queue.plan import Plan

WORKERS = 2
HOST = "MoS2"
_OPEN = ("READY", "WAITING", "RUNNING", "RESERVED", "PAUSED")
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Cost:
    """Costs of a campaign; seconds are totals, memory and documents in bytes."""

    configurations: int
    recorded: int
    failed: int
    largest_document: int
    enumeration: float
    insertion: float
    workers_elapsed: float
    workers_cpu: float
    server_cpu: float
    engine: float
    network: float
    memory: int

    def each(self, seconds: float) -> float:
        """Return a total per configuration."""
        return seconds / self.configurations


def make_campaign(size: int) -> tuple[Plan, float]:
    """Return the plan of `size` configurations spread over all classes, and the seconds to make it."""
    from definet_flows import DefectFlowMaker  # noqa: PLC0415 - jobflow reads its settings when it is imported
    from definet_flows.defects import preset  # noqa: PLC0415
    from definet_flows.workflows.queue.plan import make_plan  # noqa: PLC0415
    from standins.spring_engine import SpringRelaxMaker  # noqa: PLC0415

    began = time.perf_counter()
    maker = DefectFlowMaker(
        defects=preset("2dmd-low", HOST),
        engine=SpringRelaxMaker(),
        control_fraction=0.05,
        batch_size=500,
        relax_host=False,
        store="campaign",
    )
    plan = make_plan(maker, HOST)
    seconds = time.perf_counter() - began
    every = plan.campaign.configurations
    chosen = tuple(every[k * len(every) // size] for k in range(size))
    return replace(plan, campaign=replace(plan.campaign, configurations=chosen)), seconds


def run_campaign(size: int, folder: Path) -> Cost:
    """Run the campaign of one size, or go on with it."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = folder / "port"
    server = Server(folder, int(ports.read_text()) if ports.exists() else None)
    ports.write_text(str(server.port))
    server.start()
    try:
        place = Place(folder, server.port)
        from jobflow import SETTINGS  # noqa: PLC0415 - jobflow reads its settings when it is imported

        from definet_flows.workflows.queue.fireworks_repair import mend  # noqa: PLC0415

        plan, enumeration = make_campaign(size)
        launchpad = place.launchpad()
        mend(launchpad, SETTINGS.JOB_STORE, dead_after=0, patience=0)  # what an interrupted session left
        insertion = _insert(plan, launchpad, folder)
        _work(place, launchpad, server, len(plan.campaign.ids))
        return _cost(place, plan, server.port, enumeration, insertion)
    finally:
        server.stop()


def _insert(plan: Plan, launchpad: LaunchPad, folder: Path) -> float:
    """Launch the campaign; return the seconds of its first launch."""
    from definet_flows.workflows.queue.fireworks import launch_fireworks  # noqa: PLC0415

    began = time.perf_counter()
    launched = launch_fireworks(plan, launchpad)
    took, kept = time.perf_counter() - began, folder / "insertion.json"
    if launched.added == len(plan.campaign.ids):
        kept.write_text(json.dumps(took))
    return float(json.loads(kept.read_text()))


# ------------------------------------------------------------------ the workers


def _work(place: Place, launchpad: LaunchPad, server: Server, total: int) -> None:
    """Run the workers until nothing is left to run; what each took is written down every few seconds."""
    assert server.process is not None
    session = place.folder / f"session_{time.time_ns()}.json"
    watched = [psutil.Process(server.process.pid), *(place.rapidfire(k) for k in range(WORKERS))]
    began = [_seconds(process) for process in watched]
    try:
        while launchpad.fireworks.count_documents({"state": {"$in": list(_OPEN)}}):
            _note(session, watched, began)
            print(f"{_ended(place)} relaxations of {total} configurations have ended", flush=True)
            time.sleep(10)
        _note(session, watched, began)
    finally:
        for worker in watched[1:]:
            worker.kill()
            worker.wait()


def _ended(place: Place) -> int:
    return sum(line["event"] == "end" for line in read_log(place.log))


def _seconds(process: psutil.Process) -> float:
    """Return user and system time."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _note(session: Path, watched: list[psutil.Process], began: list[float]) -> None:
    """Write down what server and workers took so far in this session."""
    cpu = [_seconds(process) - first for process, first in zip(watched, began, strict=True)]
    elapsed = sum(time.time() - process.create_time() for process in watched[1:])
    memory = max(map(_peak, [*watched, psutil.Process()]))
    said = {"elapsed": elapsed, "cpu": sum(cpu[1:]), "server": cpu[0], "memory": memory}
    partial = session.with_suffix(".partial")
    partial.write_text(json.dumps(said))
    partial.replace(session)


def _peak(process: psutil.Process) -> int:
    """Return the largest resident memory that a process ever had, bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# ------------------------------------------------------------------ the table


def _cost(place: Place, plan: Plan, port: int, enumeration: float, insertion: float) -> Cost:
    from definet_flows import open_store  # noqa: PLC0415
    from definet_flows.schemas import Prediction  # noqa: PLC0415
    from definet_flows.workflows.queue.plan import look_up  # noqa: PLC0415

    with open_store("campaign", read_only=True) as records:
        progress = look_up(plan, records).progress
        network = sum(one.seconds for one in records.find(Prediction))
    sessions = [json.loads(path.read_text()) for path in place.folder.glob("session_*.json")]
    total = {name: sum(one[name] for one in sessions) for name in ("elapsed", "cpu", "server")}
    return Cost(
        configurations=len(plan.campaign.ids),
        recorded=len(progress.recorded),
        failed=len(progress.failed),
        largest_document=largest_document(port),
        enumeration=enumeration,
        insertion=insertion,
        workers_elapsed=total["elapsed"],
        workers_cpu=total["cpu"],
        server_cpu=total["server"],
        engine=sum(line.get("seconds", 0) for line in read_log(place.log)),
        network=network,
        memory=max(one["memory"] for one in sessions),
    )


def largest_document(port: int) -> int:
    """Return the size of the largest document in any collection, bytes."""
    with MongoClient[RawBSONDocument]("127.0.0.1", port, document_class=RawBSONDocument) as client:
        database = client[DATABASE]
        return max(len(one.raw) for name in database.list_collection_names() for one in database[name].find())


def show(costs: list[Cost]) -> None:
    """Print the table."""
    table = Table("configurations", "recorded", "failed", header_style="bold")
    headings = ("largest\ndocument kB", "enumerate\ns", "insert\ns", "elapsed\ns each", "workers' CPU\ns each")
    for heading in (*headings, "server's CPU\ns each", "of it the\nnetwork s each", "memory\nMB"):
        table.add_column(heading, justify="right")
    for cost in costs:
        own = (cost.each(one - cost.engine) for one in (cost.workers_elapsed, cost.workers_cpu))
        each = [*own, cost.each(cost.server_cpu), cost.each(cost.network)]
        counts = [f"{cost.configurations:,}", f"{cost.recorded:,}", str(cost.failed)]
        size, seconds = f"{cost.largest_document / 1e3:.0f}", (f"{cost.enumeration:.1f}", f"{cost.insertion:.1f}")
        memory = f"{cost.memory / _MEGABYTE:.0f}"
        table.add_row(*counts, size, *seconds, *(f"{one:.3f}" for one in each), memory)
    Console(width=140).print(table)


def main() -> None:
    """Run each size that is not finished, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    costs: list[Cost] = []
    if options.one:
        place = options.folder.absolute() / str(options.one)
        cost = asdict(run_campaign(options.one, place))
        (place / "cost.json").write_text(json.dumps(cost, indent=1))
        return
    for size in options.sizes:
        kept = options.folder / str(size) / "cost.json"
        if not kept.exists():  # in a process of its own: settings of this size, memory of this size
            subprocess.run([sys.executable, __file__, str(options.folder), "--one", str(size)], check=True)  # noqa: S603
        costs.append(Cost(**json.loads(kept.read_text())))
    show(costs)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
