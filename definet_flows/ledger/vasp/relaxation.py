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
"""How a note on a rattled start begins; it holds for whatever goes on from there."""

NO_NUMBERS = "energy or forces of the last ionic step are no numbers (NaN, inf or ***)"
"""What is wrong with a relaxation that ended so."""

TRIALS = "spin_*"
"""Folders inside a relaxation's own in which starting moments were tried; their steps count."""


def read_relaxation(directory: str | Path, *, where: str | None = None, wall_seconds: float | None = None) -> Outcome:
    """Read a folder in which VASP relaxed a structure, with or without custodian.

    Parameters
    ----------
    directory
        Holds the last execution's output, and custodian's archives of those before it.
    where
        What attempts and messages call the folder, such as machine:/path.
    wall_seconds
        Wall time of all of it, s, as measured outside; None: the sum of what each finished execution says.

    Raises
    ------
    InputError
        If there is no VASP output at all.
    """
    return read_with_executions(directory, where=where, wall_seconds=wall_seconds)[0]


def read_with_executions(
    directory: str | Path, *, where: str | None = None, wall_seconds: float | None = None
) -> tuple[Outcome, tuple[Execution, ...]]:
    """Return what `read_relaxation` does, and the executions that it was read from."""
    folder, parts = Path(directory), _everything(Path(directory))
    executions = tuple(one for _, found in parts for one in found)
    attempts = tuple(one for place, found in parts for one in attempts_of(found, _name(place, folder, where)))
    runs = [one.run for one in executions]
    first, last = next((run for run in runs if run.initial is not None), runs[0]), runs[-1]
    end = next((one.last for one in reversed(executions) if one.last is not None), None)
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
    return tuple(one for _, found in _everything(Path(directory), trajectories=trajectories) for one in found)


def _everything(directory: Path, *, trajectories: bool = False) -> list[tuple[Path, tuple[Execution, ...]]]:
    """Return the executions of a relaxation by folder: those in which moments were tried, then its own."""
    found = []
    for folder in (*sorted(path for path in directory.glob(TRIALS) if path.is_dir()), directory):
        try:
            found.append((folder, read_executions(folder, trajectories=trajectories)))
        except InputError:  # it came to nothing
            if folder == directory and not found:
                raise
    return found


def _name(place: Path, folder: Path, where: str | None) -> str | None:
    """Return what attempts in `place` call it, if they call the relaxation's folder `where`."""
    return where if where is None or place == folder else f"{where}/{place.name}"


def _told(runs: Sequence[VaspRun]) -> float | None:
    known = [run.wall_seconds for run in runs if run.wall_seconds is not None]
    return sum(known) if known else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _gaps(executions: Sequence[Execution]) -> tuple[str, ...]:
    """Return what of the executions is not, or not fully, counted."""
    notes = [f"{one.missing}: its steps are not counted, the number of steps is a lower bound" for one in executions]
    told = [note for one, note in zip(executions, notes, strict=True) if one.missing]
    told += [note for one in executions for note in one.run.notes if not one.missing and _matters(note)]
    if ml := sum(one.run.ml_steps for one in executions):
        told.append(f"{ml} steps by a machine-learned force field are not counted as ionic steps")
    if executions[-1].run.ends_by_ml:
        told.append("the end was reached by a machine-learned force field, not by DFT")
    return tuple(dict.fromkeys(told))


def _matters(note: str) -> bool:
    """Say whether a note on one execution matters to the relaxation: that it was cut off, its attempt says."""
    return "is damaged" in note or "not used" in note


def _wall_notes(runs: Sequence[VaspRun], measured: float | None) -> tuple[str, ...]:
    silent = sum(run.wall_seconds is None for run in runs)
    return (f"wall time without {silent} unfinished executions",) if silent and measured is None else ()


def remarks(attempts: Sequence[Attempt], group: str | None) -> tuple[str, ...]:
    """Return what a reader of the ledger must know: changed optimisers and settings, a symmetric end."""
    notes = []
    optimizers = list(dict.fromkeys(attempt.optimizer for attempt in attempts if attempt.optimizer))
    if len(optimizers) > 1:
        notes.append(f"optimiser changed: {', then '.join(optimizers)}")
    if changed := surface_changes(attempts):
        told = ", ".join(f"{name} {value}" for name, value in sorted(changed.items()))
        notes.append(f"corrections changed the energy surface: {told}")
    if group not in (None, "1"):
        notes.append(f"symmetric end ({group}): stationary, not tested for stability")
    return tuple(notes)


def combined(earlier: Ledger | None, now: Ledger | None) -> Ledger | None:
    """Return one ledger for a relaxation that went on elsewhere: every attempt once, start and end as they were.

    Attempts in a folder that `now` tells of are taken from there, so the same run told twice counts once.
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
    kept = len(before) == len(earlier.attempts)  # else what the folder told before is in there too
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


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
