"""`definet run` on a SQLite store, killed a minute after each start of work, until nothing is left to do."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import psutil

from benchmarks.support.scale_fill import fill
from benchmarks.support.scale_meter import KILL_AFTER, Meter
from benchmarks.support.scale_queue import plan_of
from benchmarks.support.scale_table import look
from definet_flows.stores import open_store
from definet_flows.workflows.engines.base import ENGINES
from definet_flows.workflows.queue.plan import enlist
from standins.engine_log import LOG, Tail
from standins.metered import ENGINE, SIZE, small_weights
from standins.queue_place import ROOT
from standins.spring_engine import SpringRelaxMaker

if TYPE_CHECKING:
    from pathlib import Path

REAL = 500
"""Configurations that jobs relax where all others are in the store already."""

_POLL = 0.5  # s


def go_on(folder: Path, size: int, until: float, real: int | None = None) -> bool:
    """Run the campaign of a size, or go on with it; return whether it has ended.

    Parameters
    ----------
    folder
        Of the campaign.
    size
        Number of configurations.
    until
        Time to stop, s since the epoch.
    real
        Number of configurations that jobs relax; all others are written into the store first. None: all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DEFINET_FLOWS_DATA_DIR"] = str(folder / "data")
    ENGINES[ENGINE] = SpringRelaxMaker
    plan = plan_of(size, folder, store=str(folder / "records.sqlite"), engine=ENGINE, batch_size=100)
    filled = fill(plan, real) if real is not None else 0
    enlist(plan, "definet run")  # so that `definet status` and its `--watch` can look at it
    meter, ended = Meter(folder), False
    while time.time() < until and not ended:
        process = _started(folder, size)
        meter.watch("run", process)
        ended = _ended(process, meter, Tail(log_of(folder)), until)
    with open_store(plan.maker.store, read_only=True) as records:
        look(plan, records, folder, filled)
    return ended and process.returncode == 0


def log_of(folder: Path) -> Path:
    """Return the engine's log."""
    return folder / "engine.jsonl"


def _started(folder: Path, size: int) -> psutil.Popen:
    what = ["run", "MoS2", "--preset", "2dmd-low", "--engine", ENGINE, "--control-fraction", "0.05", "--no-relax-host"]
    what += ["--prerelaxer", "definet", "--model", str(small_weights(folder / "small.safetensors"))]
    where = ["--store", str(folder / "records.sqlite"), "--folder", str(folder / "jobs")]
    own = {LOG: str(log_of(folder)), SIZE: str(size), "DEFINET_FLOWS_DATA_DIR": str(folder / "data")}
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "standins.metered", *what, *where]
        return psutil.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def _ended(process: psutil.Popen, meter: Meter, tail: Tail, until: float) -> bool:
    """Return whether a process ended by itself; else it is killed, a minute after its first relaxation began."""
    kill_at = None
    while process.poll() is None:
        meter.note()
        if kill_at is None and any(line["event"] == "begin" for line in tail.read()):
            kill_at = time.time() + KILL_AFTER
        if time.time() > (kill_at or until) or time.time() > until:
            meter.kill(process)
            return False
        time.sleep(_POLL)
    return True
