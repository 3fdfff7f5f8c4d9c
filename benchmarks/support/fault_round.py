"""One round of a fault: a campaign of four configurations, its workers, its queue put right, the judge of its end."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from standins.engine_log import Tail, count_repeats

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from fireworks import LaunchPad

    from definet_flows.workflows.queue.plan import Plan
    from standins.queue_place import Place
    from standins.server import Server

RELAXATION = 0.3
"""Seconds of one relaxation."""

FAULTS = ("kill-relax", "kill-predict", "kill-record", "database", "raise", "nan", "disk", "launches")
CONTEXT = get_context("forkserver")
PATIENCE = 240.0
"""Seconds until a queue in which nothing moves counts as stuck."""

NANS = 2
"""Configurations of a round whose forces are no numbers."""

_SESSIONS = 16  # of workers, until what is left open counts as lost


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
        self.launchpad.reset(None, require_password=False, max_reset_wo_password=10**6)  # of the rounds before
        self.file = str(place.folder / "my_launchpad.yaml")
        self.tail = Tail(place.log)
        self.plan = make_campaign(place.folder, fault, seed)
        self.numbers = itertools.count()

    def log(self) -> list[dict[str, Any]]:
        """Return what the log says since the round began."""
        return self.tail.read()

    def worker(self, folder: Path | None = None, raising: int | None = None) -> ForkServerProcess:
        """Start a worker in a folder of its own."""
        from benchmarks.support.fault_worker import work  # noqa: PLC0415 - jobflow reads its settings when it is imported

        where = folder or self.place.folder / f"{self.fault}_{self.seed}" / str(next(self.numbers))
        process = CONTEXT.Process(target=work, args=(str(where), self.file, raising), daemon=True)
        process.start()
        return process

    def launch(self, parts: int = 1) -> None:
        """Launch the campaign, in so many workflows with a prediction each."""
        from definet_flows.workflows.queue.fireworks import launch_fireworks  # noqa: PLC0415

        for part in self.plan.campaign.parts(len(self.plan.campaign.ids) // parts):
            launch_fireworks(replace(self.plan, campaign=part), self.launchpad)

    def revive(self, process: ForkServerProcess) -> ForkServerProcess:
        """Return a living worker: a new worker if this is dead, because others would wait for its locks."""
        if process.is_alive():
            return process
        self.mend()
        return self.worker()

    def end(self, process: ForkServerProcess, patience: float = PATIENCE) -> None:
        """Let a worker run out of work, or end it."""
        process.join(patience)
        process.kill()
        process.join()

    def open(self) -> int:
        """Return how many Fireworks can run, or wait for a Firework that can."""
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

        from definet_flows.workflows.queue.fireworks_repair import mend  # noqa: PLC0415

        mend(self.launchpad, SETTINGS.JOB_STORE, dead_after=0, patience=0)

    def _retry(self) -> bool:
        from definet_flows import open_store  # noqa: PLC0415
        from definet_flows.workflows.queue.fireworks_repair import add_retries  # noqa: PLC0415
        from definet_flows.workflows.recovery.retry import retry_flow, unfinished  # noqa: PLC0415

        with open_store("campaign") as records:
            ids = unfinished(records, self.plan.maker.engine)
        if ids:
            add_retries(self.launchpad, retry_flow(ids, self.plan.maker.engine, "campaign"))
        return bool(ids)

    def _drain(self) -> None:
        """Run workers until nothing is left to run; another follows a worker that dies, after a repair."""
        for _ in range(_SESSIONS):
            self.end(self.worker())
            if not self.open():
                return
            self.mend()

    def judge(self, tries: int, began: float) -> Verdict:
        """Return what became of the configurations."""
        from definet_flows import open_store  # noqa: PLC0415
        from definet_flows.workflows.queue.plan import look_up  # noqa: PLC0415

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


def make_campaign(folder: Path, fault: str, seed: int) -> Plan:
    """Return the plan of a round: weights and engine of its own, so that it shares nothing with another."""
    from definet_flows import DefectFlowMaker  # noqa: PLC0415
    from definet_flows.workflows.queue.plan import make_plan  # noqa: PLC0415
    from standins.copper import CU, write_weights  # noqa: PLC0415
    from standins.spring_engine import SpringRelaxMaker  # noqa: PLC0415

    number = 1000 * FAULTS.index(fault) + seed
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
    if fault == "nan":  # the last two have one relaxation each
        engine = replace(engine, nan_in=few.ids[-NANS:], guarded=seed % 2 == 0)
    return replace(plan, campaign=few, maker=replace(plan.maker, engine=engine))
