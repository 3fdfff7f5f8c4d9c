"""All executions of VASP that custodian needed for one relaxation, the archived ones first."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from monty.serialization import loadfn

from definet_flows.errors import InputError
from definet_flows.ledger.vasprun import VaspRun, read_vasp_run
from definet_flows.schemas import Attempt

_MACHINE_TAGS = frozenset({"NCORE", "NPAR", "KPAR", "LPLANE", "SYSTEM"})
"""INCAR tags that change no result."""


def read_runs(directory: str | Path) -> tuple[VaspRun, ...]:
    """Return every execution of VASP in a directory in order: custodian's error archives, then the last one.

    Raises
    ------
    InputError
        If there is no VASP output at all.
    """
    directory = Path(directory)
    archives = sorted(directory.glob("error.*.tar.gz"), key=lambda path: int(path.name.split(".")[1]))
    runs = [run for path in archives if (run := _archived(path)) is not None]
    try:
        runs.append(read_vasp_run(directory))
    except InputError:
        if not runs:
            raise
    return tuple(runs)


def read_attempts(directory: str | Path) -> tuple[Attempt, ...]:
    """Return the steps of every attempt in a directory, with custodian's corrections and the tags they changed.

    Raises
    ------
    InputError
        If there is no VASP output at all.
    """
    runs = read_runs(directory)
    corrections = _corrections(Path(directory))
    return tuple(
        Attempt(
            ionic_steps=run.ionic_steps,
            electronic_steps=run.electronic_steps,
            optimizer=run.optimizer,
            corrections=corrections[k] if k < len(corrections) else (),
            changed_tags=_changed(runs[k - 1].tags, run.tags) if k else {},
            finished=run.finished is not False,
        )
        for k, run in enumerate(runs)
    )


def _archived(path: Path) -> VaspRun | None:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
        for member in archive.getmembers():
            if member.isfile() and Path(member.name).name.startswith(("vasprun.xml", "OUTCAR", "OSZICAR")):
                member.name = Path(member.name).name
                archive.extract(member, folder, filter="data")
        try:
            return read_vasp_run(folder)
        except InputError:  # stopped before VASP wrote anything: no steps
            return None


def _corrections(directory: Path) -> list[tuple[str, ...]]:
    """Return custodian's errors, one tuple per correction: correction k ended attempt k."""
    for path in sorted(directory.glob("custodian.json*")):
        log: list[dict[str, Any]] = loadfn(path)
        return [
            tuple(str(error) for error in correction.get("errors") or ())
            for job in log
            for correction in job.get("corrections") or ()
        ]
    return []


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    names = sorted((before.keys() | after.keys()) - _MACHINE_TAGS) if before and after else []
    return {name: str(after.get(name)) for name in names if before.get(name) != after.get(name)}
