"""Relaxations with an ASE calculator, each step on disk: a launch after a killed one goes on from where that was."""

from __future__ import annotations

import json
import logging
import os
import time
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ase.io.trajectory import TrajectoryWriter
from atomate2.ase.jobs import AseRelaxMaker
from jobflow import Job, Maker, job
from pymatgen.core import Structure

from definet_flows.ledger import ASE_OPTIMIZER
from definet_flows.ledger.ase_steps import PROCESSOR_SECONDS
from definet_flows.ledger.documents import LAUNCHED, PROCESSOR_TAG
from definet_flows.workflows.recovery.relaunch import ERROR_FILE, STEPS_FILE, take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

logger = logging.getLogger(f"jobflow.{__name__}")


@dataclass
class RelaunchedMaker(Maker):
    """
    Run the Maker of an ASE relaxation so that a killed process loses no step.

    The job returns what the Maker's own returns, and keeps it as that does.

    Parameters
    ----------
    name
        The job name.
    relaxer
        The engine's Maker.
    claim
        "record" (its id), "store" (the record store's name) and what a reader of the steps must know: "optimizer",
        "criterion" (eV/Å).
    """

    name: str = "relax"
    relaxer: Maker = field(default_factory=AseRelaxMaker)
    claim: dict[str, Any] = field(default_factory=dict)

    @job
    def make(self, structure: Structure | str) -> Any:  # noqa: ANN401 - whatever the engine's Maker returns
        """Relax a structure, or its JSON text, or go on from the last positions of an earlier launch."""
        folder = Path.cwd()
        if isinstance(structure, str):
            structure = Structure.from_dict(json.loads(structure))  # `from_str` loses the charge
        structure, notes = take_over(self.claim, structure, folder, tuple(range(len(structure))))
        runner = deepcopy(self.relaxer)
        spent = _keep_steps(cast("AseRelaxMaker", runner), folder / STEPS_FILE)
        try:
            output = type(runner).make.original(runner, structure)  # type: ignore[attr-defined]  # of jobflow's decorator
        except Exception as error:
            (folder / ERROR_FILE).write_text(f"{type(error).__name__}: {error}")
            raise
        if hasattr(output, "tags"):
            told = [f"{PROCESSOR_TAG}: {seconds:.3f}" for seconds in spent]
            output.tags = [*(output.tags or []), *(f"{LAUNCHED}: {note}" for note in notes), *told]
        return output


def relaunched(maker: AseRelaxMaker, structure: Structure, claim: dict[str, Any], criterion: float) -> Job:
    """Return the job of a Maker, its steps on disk and its folder known to the record store.

    Parameters
    ----------
    maker
        Of an ASE relaxation.
    structure
        What it relaxes.
    claim
        "record" and "store".
    criterion
        Largest force at the end, eV/Å.
    """
    if not hasattr(type(maker).make, "original"):
        return maker.make(structure)
    own = maker.make(None)  # its name and its settings: jobflow would read a structure
    optimizer = str(maker.optimizer_kwargs.get("optimizer", ASE_OPTIMIZER))
    made = RelaunchedMaker(maker.name, maker, {**claim, "optimizer": optimizer, "criterion": criterion})
    text = structure.to_json()  # jobflow and queues walk through every number of a Structure, several times
    return Job(made.make, (text,), name=own.name, output_schema=own.output_schema, **own._kwargs)  # noqa: SLF001


def _keep_steps(maker: AseRelaxMaker, path: Path) -> list[float]:
    """Let a Maker's optimiser write each step to a file; the document names the Maker's own settings only.

    Returns
    -------
    list of float
        Empty; takes the processor time of the relaxation when that has ended, s.
    """
    relax, spent = maker.run_ase, list[float]()

    def run_ase(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the Maker's own signature
        given = maker.relax_kwargs
        maker.calculator  # noqa: B018 - a potential is loaded once per process, which is no cost of its first relaxation
        elapsed = _meter()
        with _Steps(path, elapsed) as steps:
            maker.relax_kwargs = {**given, "trajectory": steps}
            try:
                return relax(*args, **kwargs)
            finally:
                maker.relax_kwargs = given
                spent.append(elapsed())

    maker.run_ase = run_ase  # type: ignore[method-assign]  # of this copy alone
    return spent


def _meter() -> Callable[[], float]:
    """Return a function that returns the processor time since now, s."""
    begun = _processor_seconds()
    return lambda: _processor_seconds() - begun


def _processor_seconds() -> float:
    """Return the processor time of this process and of the programs that it has started and waited for, s."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


class _Steps(TrajectoryWriter):
    """A trajectory on disk; each frame holds the processor time that its launch has used so far, s."""

    def __init__(self, path: Path, elapsed: Callable[[], float]) -> None:
        super().__init__(path, mode="w")  # type: ignore[no-untyped-call]
        self._elapsed = elapsed

    def write(self, atoms: Atoms | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - ASE's signature
        """Write a frame."""
        for image in (self.atoms if atoms is None else atoms).iterimages():
            image.info[PROCESSOR_SECONDS] = self._elapsed()
            super().write(image, **kwargs)  # type: ignore[no-untyped-call]
            del image.info[PROCESSOR_SECONDS]  # else it reaches the relaxed structure
