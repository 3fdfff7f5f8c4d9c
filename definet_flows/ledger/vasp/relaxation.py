"""The folder of a relaxation by VASP, every execution counted, read into an Outcome."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.ledger.outcome import Outcome, point_group
from definet_flows.ledger.vasp.attempts import attempts_of, surface_changes
from definet_flows.ledger.vasp.executions import Execution, read_executions
from definet_flows.ledger.vasp.output.inputs import read_inputs
from definet_flows.schemas import Attempt, Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.ledger.vasp.run import VaspRun


RATTLED = "start rattled"
"""Beginning of the note on a rattled start; it holds for every continuation."""

NO_NUMBERS = "energy or forces of the last ionic step are no numbers (NaN, inf or ***)"
"""The error of a relaxation that ended so."""

TRIALS = "spin_*"
"""Folders inside a relaxation's own in which starting moments were tried; their steps count."""


def read_relaxation(directory: str | Path, *, where: str | None = None, wall_seconds: float | None = None) -> Outcome:
    """Read a folder in which VASP relaxed a structure, with or without custodian.

    Parameters
    ----------
    directory
        Holds the last execution's output, and custodian's archives of those before it.
    where
        Name of the folder in attempts and messages, such as machine:/path.
    wall_seconds
        Wall time of all of it, s, as measured outside; None: the sum over the finished executions.

    Raises
    ------
    InputError
        If there is no VASP output at all.
    """
    return read_with_executions(directory, where=where, wall_seconds=wall_seconds)[0]


def read_with_executions(
    directory: str | Path, *, where: str | None = None, wall_seconds: float | None = None
) -> tuple[Outcome, tuple[Execution, ...]]:
    """Return the outcome as `read_relaxation`, and the executions."""
    folder, parts = Path(directory), _everything(Path(directory))
    executions = tuple(execution for _, found in parts for execution in found)
    attempts = tuple(attempt for place, found in parts for attempt in attempts_of(found, _name(place, folder, where)))
    runs = [execution.run for execution in executions]
    first, last = next((run for run in runs if run.initial is not None), runs[0]), runs[-1]
    end = next((execution.last for execution in reversed(executions) if execution.last is not None), None)
    group = point_group(end) if last.finished is not False else None
    wall = wall_seconds if wall_seconds is not None else _told(runs)
    cores = next((run.cores for run in reversed(runs) if run.cores), None)
    inputs = read_inputs(folder)
    ledger = Ledger(
        ionic_steps=sum(run.ionic_steps for run in runs),
        electronic_steps=sum(run.electronic_steps or 0 for run in runs),
        attempts=attempts,
        converged=last.finished is not False and last.converged,
        force_criterion=next((run.force_criterion for run in runs if run.force_criterion is not None), 0.0),
        start_max_force=_finite(next((run.start_max_force for run in runs if run.ionic_steps), None)),
        max_force=_finite(last.max_force),
        energy=_finite(last.energy),
        magnetization=_finite(last.magnetization),
        optimizer=last.optimizer,
        wall_seconds=wall,
        cores=cores,
        core_hours=cores * wall / 3600 if cores and wall is not None else None,
        point_group_start=point_group(first.initial),
        point_group_end=group,
        inputs=inputs.hash,
        potcars=inputs.potcars,
        notes=(*remarks(attempts, group), *_gaps(executions), *_wall_notes(runs, wall_seconds)),
    )
    error = None if last.sound else NO_NUMBERS
    return Outcome(structure=end, ledger=ledger, trajectory_length=last.ionic_steps, error=error), executions


def read_all_executions(directory: str | Path, *, trajectories: bool = False) -> tuple[Execution, ...]:
    """Return the executions of a relaxation in order, the trials of moments first, as `read_executions` does."""
    return tuple(
        execution for _, found in _everything(Path(directory), trajectories=trajectories) for execution in found
    )


def _everything(directory: Path, *, trajectories: bool = False) -> list[tuple[Path, tuple[Execution, ...]]]:
    """Return the executions of a relaxation by folder: those in which moments were tried, then its own."""
    found = []
    for folder in (*sorted(path for path in directory.glob(TRIALS) if path.is_dir()), directory):
        try:
            found.append((folder, read_executions(folder, trajectories=trajectories)))
        except InputError:  # no output
            if folder == directory and not found:
                raise
    return found


def _name(place: Path, folder: Path, where: str | None) -> str | None:
    """Return the name of `place` in attempts that call the relaxation's folder `where`."""
    return where if where is None or place == folder else f"{where}/{place.name}"


def _told(runs: Sequence[VaspRun]) -> float | None:
    known = [run.wall_seconds for run in runs if run.wall_seconds is not None]
    return sum(known) if known else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _gaps(executions: Sequence[Execution]) -> tuple[str, ...]:
    """Return notes on executions that are not, or not fully, counted."""
    notes = [
        f"{execution.missing}: its steps are not counted, the number of steps is a lower bound"
        for execution in executions
    ]
    gaps = [note for execution, note in zip(executions, notes, strict=True) if execution.missing]
    gaps += [
        note for execution in executions for note in execution.run.notes if not execution.missing and _matters(note)
    ]
    if ml := sum(execution.run.ml_steps for execution in executions):
        gaps.append(f"{ml} steps by a machine-learned force field are not counted as ionic steps")
    if executions[-1].run.ends_by_ml:
        gaps.append("the end was reached by a machine-learned force field, not by DFT")
    return tuple(dict.fromkeys(gaps))


def _matters(note: str) -> bool:
    """Return whether a note on an execution matters to the relaxation; its attempt already says if it was cut off."""
    return "is damaged" in note or "not used" in note


def _wall_notes(runs: Sequence[VaspRun], measured: float | None) -> tuple[str, ...]:
    silent = sum(run.wall_seconds is None for run in runs)
    return (f"wall time without {silent} unfinished executions",) if silent and measured is None else ()


def remarks(attempts: Sequence[Attempt], group: str | None) -> tuple[str, ...]:
    """Return the notes of a ledger: changed optimisers and settings, a symmetric end."""
    notes = []
    optimizers = list(dict.fromkeys(attempt.optimizer for attempt in attempts if attempt.optimizer))
    if len(optimizers) > 1:
        notes.append(f"optimiser changed: {', then '.join(optimizers)}")
    if changed := surface_changes(attempts):
        words = ", ".join(f"{name} {value}" for name, value in sorted(changed.items()))
        notes.append(f"corrections changed the energy surface: {words}")
    if group not in (None, "1"):
        notes.append(f"symmetric end ({group}): stationary, not tested for stability")
    return tuple(notes)


def combined(earlier: Ledger | None, now: Ledger | None) -> Ledger | None:
    """Return the ledger of a relaxation that went on in another folder: every attempt once, with its first start.

    Attempts in a folder that `now` covers are taken from `now`, so that a run in both ledgers counts once.
    """
    if earlier is None or now is None:
        return now or earlier
    places = {attempt.directory for attempt in now.attempts} - {None}
    before = tuple(attempt for attempt in earlier.attempts if attempt.directory not in places)
    if not before:
        return now
    attempts = (*before, *now.attempts)
    electronic = [attempt.electronic_steps for attempt in attempts]
    rattle = [note for note in earlier.notes if note.startswith(RATTLED)]
    kept = len(before) == len(earlier.attempts)  # else the earlier sums include a folder of `now`
    return now.model_copy(
        update={
            "ionic_steps": sum(attempt.ionic_steps for attempt in attempts),
            "electronic_steps": sum(n for n in electronic if n is not None) if any(electronic) else None,
            "attempts": attempts,
            "start_max_force": earlier.start_max_force,
            "point_group_start": earlier.point_group_start,
            "wall_seconds": _sum(earlier.wall_seconds, now.wall_seconds) if kept else earlier.wall_seconds,
            "core_hours": _sum(earlier.core_hours, now.core_hours) if kept else earlier.core_hours,
            "notes": tuple(dict.fromkeys((*remarks(attempts, now.point_group_end), *rattle, *now.notes))),
        }
    )


def _sum(first: float | None, other: float | None) -> float | None:
    return None if first is None or other is None else first + other
