"""All executions of VASP for one relaxation, as attempts of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from definet_flows.ledger.vasp.executions import Execution, read_executions
from definet_flows.schemas import Attempt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from definet_flows.ledger.vasp.run import VaspRun

_FILES = frozenset({"KPOINTS", "POTCAR"})
MACHINE_TAGS = frozenset({"NCORE", "NPAR", "KPAR", "LPLANE", "SYSTEM", "NSIM"})
"""INCAR tags that change no result."""

SURFACE_TAGS = frozenset(
    {"ADDGRID", "ENAUG", "ENCUT", "GGA", "ISMEAR", "ISPIN", "IVDW", "LASPH", "LDIPOL", "LREAL", "METAGGA", "NELECT"}
    | {"NUPDOWN", "PREC", "SIGMA", "AEXX", "HFSCREEN", "LHFCALC", "LDAU", "LDAUU", "LDAUJ", "LSORBIT", "LUSE_VDW"}
    | {"KPOINTS", "POTCAR"}
)
"""INCAR tags (and files) that change the energy surface itself: ends with different ones cannot be compared."""


def read_runs(directory: str | Path) -> tuple[VaspRun, ...]:
    """Return the results of every execution of VASP in a folder, in order. Raises as `read_executions`."""
    return tuple(execution.run for execution in read_executions(directory))


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
            ionic_steps=execution.run.ionic_steps,
            electronic_steps=execution.run.electronic_steps,
            optimizer=execution.run.optimizer,
            corrections=execution.corrections,
            changed_tags=changed_tags(executions[k - 1], execution) if k else {},
            finished=execution.run.finished is not False,
            directory=where,
        )
        for k, execution in enumerate(executions)
    )


def surface_changes(attempts: Sequence[Attempt]) -> dict[str, str]:
    """Return the tags of the energy surface that corrections changed, with their last values."""
    return {name: value for attempt in attempts for name, value in attempt.changed_tags.items() if name in SURFACE_TAGS}


def changed_tags(before: Execution, after: Execution) -> dict[str, str]:
    """Return the INCAR tags that changed between two executions, k-points and potentials too."""
    old, new = before.tags, after.tags
    names = sorted((old.keys() | new.keys()) - MACHINE_TAGS) if old and new else []
    found = {name: str(new.get(name)) for name in names if old.get(name) != new.get(name)}
    return found | {name: value for name, value in surface_differences(before.run, after.run).items() if name in _FILES}


def surface_differences(before: VaspRun, after: VaspRun) -> dict[str, str]:
    """Return the settings of the energy surface that differ between two runs; the later values, if both are known.

    An OUTCAR lists irreducible k-points, which depend on the symmetry of the positions too: they are not compared.
    """
    old, new = before.surface, after.surface
    if not old or not new or old.get("told by") != new.get("told by"):
        return {}
    names = (old.keys() | new.keys()) - ({"KPOINTS"} if "told by" in old else set())
    return {name: _value(name, new) for name in sorted(names) if old.get(name) != new.get(name)}


def _value(name: str, surface: dict[str, Any]) -> str:
    mesh = surface.get(name)
    return " ".join(f"{x:g}" for x in mesh[0]) if name == "KPOINTS" and mesh and len(mesh) == 1 else str(mesh)[:40]
