"""A campaign in FireWorks with three workers, of which every minute one is killed, on SecantusDB."""

from __future__ import annotations

import contextlib
import io
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.support.scale_meter import KILL_AFTER, Meter
from benchmarks.support.scale_table import look
from definet_flows.stores import open_store
from standins.metered import portion, small_weights
from standins.queue_place import ONCE, Place
from standins.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fireworks import LaunchPad

    from definet_flows.workflows.queue.plan import Plan

WORKERS = 3
_OPEN = ["READY", "WAITING", "RUNNING", "RESERVED", "PAUSED"]
_REPAIR_AFTER = 5  # kills
_POLL = 2.0  # s
_COUNT = 20.0  # s between questions to the LaunchPad


def plan_of(size: int, folder: Path, **changes: Any) -> Plan:  # noqa: ANN401 - fields of the Maker
    """Return the plan of `size` configurations spread over all classes."""
    from definet_flows import DefectFlowMaker  # noqa: PLC0415 - jobflow reads its settings when it is imported
    from definet_flows.defects import preset  # noqa: PLC0415
    from definet_flows.workflows.queue.plan import make_plan  # noqa: PLC0415
    from standins.spring_engine import SpringRelaxMaker  # noqa: PLC0415

    maker = DefectFlowMaker(
        defects=preset("2dmd-low", "MoS2"),
        engine=SpringRelaxMaker(),
        control_fraction=0.05,
        batch_size=500,
        relax_host=False,
        store="campaign",
        model=str(small_weights(folder / "small.safetensors")),
    )
    plan = make_plan(replace(maker, **changes), "MoS2")
    return replace(plan, campaign=portion(plan.campaign, size))


@contextlib.contextmanager
def served(folder: Path, meter: Meter) -> Iterator[Place]:
    """Run the server of a campaign; its port stays the same."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = folder / "port"
    server = Server(folder, int(ports.read_text()) if ports.exists() else None)
    ports.write_text(str(server.port))
    server.start()
    try:
        assert server.process is not None
        meter.watch("server", psutil.Process(server.process.pid))
        yield Place(folder, server.port, ONCE)
    finally:
        meter.note()
        server.stop()


def go_on(folder: Path, size: int, until: float, *, clear: bool = False) -> bool:
    """Run the campaign of a size, or go on with it; return whether it has ended.

    Parameters
    ----------
    folder
        Of the campaign.
    size
        Number of configurations.
    until
        Time to stop, s since the epoch.
    clear
        Delete workflows that have ended every minute, as `lpad delete_wfs -s COMPLETED` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meter = Meter(folder)
    with served(folder, meter) as place:
        plan, launchpad = plan_of(size, folder), place.launchpad()
        run = _Run(place, launchpad, meter, clear)
        run.repair()  # what an interrupted session left
        _launch(plan, launchpad, meter)
        try:
            return run.until(until)
        finally:
            run.stop()
            with open_store(plan.maker.store, read_only=True) as records:
                look(plan, records, folder)


def _launch(plan: Plan, launchpad: LaunchPad, meter: Meter) -> None:
    from definet_flows.workflows.queue.fireworks import launch_fireworks  # noqa: PLC0415

    began = time.process_time()
    launch_fireworks(plan, launchpad)
    meter.add("launch", time.process_time() - began)


@dataclass
class _Run:
    """The workers of a session, and what is done for them."""

    place: Place
    launchpad: LaunchPad
    meter: Meter
    clear: bool
    workers: list[psutil.Popen] = field(default_factory=list)
    killed: int = 0

    def until(self, end: float) -> bool:
        """Work until nothing is open, or until a time; return whether nothing is open."""
        asked, next_kill = 0.0, time.time() + KILL_AFTER
        while time.time() < end:
            self._fill()
            self.meter.note()
            if time.time() - asked > _COUNT:
                asked = time.time()
                if not self._count(_OPEN):
                    return True
                if self._stuck():
                    self.repair()
            if time.time() > next_kill:
                next_kill = time.time() + KILL_AFTER
                self._kill()
            time.sleep(_POLL)
        return False

    def _fill(self) -> None:
        while len(self.workers) < WORKERS:
            worker = self.place.rapidfire(len(self.workers) + self.killed)
            self.workers.append(worker)
            self.meter.watch("worker", worker)

    def _kill(self) -> None:
        self.meter.kill(self.workers.pop(random.randrange(WORKERS)))  # noqa: S311
        self.killed += 1
        if self.killed % _REPAIR_AFTER == 0:
            self.repair()
        if self.clear:
            self._timed("repair", lambda: _clear(self.launchpad))

    def _count(self, states: list[str]) -> int:
        return int(self.launchpad.fireworks.count_documents({"state": {"$in": states}}))

    def _stuck(self) -> bool:
        """Return whether all that is open waits for dead workers."""
        return not self._count(["READY"]) and self._count(["RUNNING"]) <= self.killed % _REPAIR_AFTER

    def repair(self) -> None:
        """Free what dead workers hold, as `definet retry --launchpad` does; the workers that live are ended first."""
        from jobflow import SETTINGS  # noqa: PLC0415 - jobflow reads its settings when it is imported

        from definet_flows.workflows.queue.fireworks_repair import mend  # noqa: PLC0415

        self.stop()
        self._timed("repair", lambda: mend(self.launchpad, SETTINGS.JOB_STORE, dead_after=0, patience=0))

    def stop(self) -> None:
        """End the workers."""
        while self.workers:
            self.meter.kill(self.workers.pop(), counts=False)

    def _timed(self, role: str, step: Callable[[], object]) -> None:
        began = time.process_time()
        step()
        self.meter.add(role, time.process_time() - began)


def _clear(launchpad: LaunchPad) -> None:
    """Delete the workflows that have ended."""
    with contextlib.redirect_stdout(io.StringIO()):
        for fw_id in launchpad.get_wf_ids({"state": "COMPLETED"}):
            launchpad.delete_wf(fw_id)
