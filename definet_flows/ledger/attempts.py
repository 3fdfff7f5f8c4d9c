"""All executions of VASP that custodian needed for one relaxation, as attempts of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from definet_flows.ledger.executions import Execution, read_executions
from definet_flows.schemas import Attempt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from definet_flows.ledger.run import VaspRun

_MACHINE_TAGS = frozenset({"NCORE", "NPAR", "KPAR", "LPLANE", "SYSTEM", "NSIM"})
"""INCAR tags that change no result."""

SURFACE_TAGS = frozenset(
    {"ADDGRID", "ENAUG", "ENCUT", "GGA", "ISMEAR", "ISPIN", "IVDW", "LASPH", "LDIPOL", "LREAL", "METAGGA", "NELECT"}
    | {"NUPDOWN", "PREC", "SIGMA"}
)
"""INCAR tags that change the energy surface itself: ends with different ones cannot be compared."""


def read_runs(directory: str | Path) -> tuple[VaspRun, ...]:
    """Return what every execution of VASP in a folder did, in order. Raises as `read_executions`."""
    return tuple(one.run for one in read_executions(directory))


def read_attempts(directory: str | Path) -> tuple[Attempt, ...]:
    """Return the steps of every attempt in a folder, with custodian's corrections and the tags they changed.

    Raises
    ------
    InputError
        If there is no VASP output at all.
    """
    return attempts_of(read_executions(directory))


def attempts_of(executions: Sequence[Execution], where: str | None = None) -> tuple[Attempt, ...]:
    """Return executions as attempts; `where` is the folder they ran in, with its machine."""
    return tuple(
        Attempt(
            ionic_steps=one.run.ionic_steps,
            electronic_steps=one.run.electronic_steps,
            optimizer=one.run.optimizer,
            corrections=one.corrections,
            changed_tags=_changed(executions[k - 1].tags, one.tags) if k else {},
            finished=one.run.finished is not False,
            directory=where,
        )
        for k, one in enumerate(executions)
    )


def surface_changes(attempts: Sequence[Attempt]) -> dict[str, str]:
    """Return the tags of the energy surface that corrections changed, with their last values."""
    return {name: value for attempt in attempts for name, value in attempt.changed_tags.items() if name in SURFACE_TAGS}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    names = sorted((before.keys() | after.keys()) - _MACHINE_TAGS) if before and after else []
    return {name: str(after.get(name)) for name in names if before.get(name) != after.get(name)}
