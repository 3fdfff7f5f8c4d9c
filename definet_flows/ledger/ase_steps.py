"""Steps of an ASE relaxation that its process did not live to tell of: the trajectory on disk -> an Outcome."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from ase.io import Trajectory
from pymatgen.io.ase import AseAtomsAdaptor

from definet_flows.errors import InputError
from definet_flows.ledger.outcome import Outcome, core_hours, is_converged, largest_force, point_group
from definet_flows.schemas import Attempt, Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

PROCESSOR_SECONDS = "definet_processor_seconds"
"""Name in a frame's `info` of the processor time that its launch has used when the frame is written, s."""


def read_steps(
    path: Path, *, criterion: float, optimizer: str, where: str, wall_seconds: float | None = None
) -> Outcome:
    """Return what a relaxation that was stopped has come to.

    Parameters
    ----------
    path
        ASE's trajectory, a frame for each force evaluation; the last may be cut off.
    criterion
        Largest force at the end, eV/Å.
    optimizer
        Its name in ASE.
    where
        The folder as documents name it, machine:/path.
    wall_seconds
        Wall time of the launch, s.

    Raises
    ------
    InputError
        If there is no frame.
    """
    frames = whole_frames(path)
    if not frames:
        msg = f"{path} holds no step of a relaxation"
        raise InputError(msg)
    forces = [frame.get_forces(apply_constraint=False) for frame in frames]  # type: ignore[no-untyped-call]
    start, end = (AseAtomsAdaptor.get_structure(frames[k]) for k in (0, -1))
    max_force = largest_force(forces[-1])
    ledger = Ledger(
        ionic_steps=len(frames),
        attempts=(Attempt(ionic_steps=len(frames), optimizer=optimizer, finished=False, directory=where),),
        converged=is_converged(max_force, criterion),
        force_criterion=criterion,
        start_max_force=largest_force(forces[0]),
        max_force=max_force,
        energy=float(frames[-1].get_potential_energy()),  # type: ignore[no-untyped-call]
        optimizer=optimizer,
        wall_seconds=wall_seconds,
        core_hours=core_hours(frames[-1].info.get(PROCESSOR_SECONDS)),
        point_group_start=point_group(start),
        point_group_end=point_group(end),
    )
    return Outcome(structure=end, ledger=ledger, trajectory_length=len(frames))


def whole_frames(path: Path) -> list[Atoms]:
    """Return the frames of a trajectory that can be read, in order: a killed process may leave the last in pieces."""
    frames: list[Atoms] = []
    # ASE raises whatever the damaged bytes lead to; the end is an IndexError
    with suppress(Exception), Trajectory(path) as reader:  # type: ignore[no-untyped-call]
        for index in count():
            frame = reader[index]
            frame.get_forces(apply_constraint=False)
            frame.get_potential_energy()
            frames.append(frame)
    return frames
