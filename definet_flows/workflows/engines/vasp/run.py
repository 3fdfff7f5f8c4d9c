"""A run of VASP in a folder of its own: custodian's handlers new each time, every execution counted at the end."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomate2.vasp.run import DEFAULT_HANDLERS
from custodian.utils import backup
from custodian.vasp.handlers import VASP_BACKUP_FILES, PositiveEnergyErrorHandler
from emmet.core.tasks import TaskDoc

from definet_flows.errors import InputError
from definet_flows.ledger import Outcome, read_all_executions, read_relaxation
from definet_flows.ledger.documents import COUNTED, counted

if TYPE_CHECKING:
    from custodian.custodian import ErrorHandler

RECORD_FILE = "definet_record.json"
"""File in a VASP job's folder that names its record."""
RECORD_KEY = RECORD_FILE.replace(".", ":")
"""Its name in a Maker's `write_additional_data`: FireWorks takes no dots in keys."""

_ARCHIVES = "error.*.tar.gz"
_LEFTOVERS = ("OUTCAR*", "vasprun.xml*", _ARCHIVES, "custodian.json*")
_WORDS = ("std_err.txt", "vasp.out")  # VASP, or its launcher, says here why it stopped
_LONGEST = 500  # characters of an error
_OUT_OF_TIME = "Walltime reached"  # the note of custodian's WalltimeHandler


class ArchivingPositiveEnergyHandler(PositiveEnergyErrorHandler):
    """custodian's own archives nothing where it halves POTIM, and those steps would be lost."""

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Correct, and archive files that custodian leaves out: the output with the INCAR that led to it."""
        folder, incar = Path(directory), Path(directory, "INCAR")
        before, used = len(list(folder.glob(_ARCHIVES))), incar.read_text()
        corrected: dict[str, Any] = super().correct(directory)  # type: ignore[no-untyped-call]
        if corrected["actions"] and len(list(folder.glob(_ARCHIVES))) == before:
            mended = incar.read_text()
            incar.write_text(used)
            backup(VASP_BACKUP_FILES, directory=directory)
            incar.write_text(mended)
        return corrected


def fresh_handlers() -> list[ErrorHandler]:
    """Return atomate2's handlers, new: its own are shared by all runs of a process and remember earlier structures.

    A second ZBRENT, say, changes the optimiser; it must be the second of *this* relaxation.
    """
    kinds = [type(handler) for handler in DEFAULT_HANDLERS]
    return [ArchivingPositiveEnergyHandler() if kind is PositiveEnergyErrorHandler else kind() for kind in kinds]


def require_own_folder(directory: Path) -> None:
    """Refuse a folder in which VASP ran before: its steps would be counted as this relaxation's.

    Raises
    ------
    InputError
        If there is output or an archive of custodian.
    """
    found = [path.name for pattern in _LEFTOVERS for path in sorted(directory.glob(pattern))]
    if found:
        msg = f"{directory} holds {found[0]} of another run: give each job a folder, run_locally(create_folders=True)"
        raise InputError(msg)


def folder_name(directory: Path) -> str:
    """Return a folder as documents name it, machine:/path."""
    return f"{socket.gethostname()}:{directory.resolve()}"


def failed_document(
    directory: Path, error: Exception, wall_seconds: float, notes: tuple[str, ...] = (), *, trajectories: bool = False
) -> TaskDoc:
    """Return the document of a run that ended in an error: its steps, and its last positions."""
    words = " ".join(f"{type(error).__name__}: {error}{_last_words(directory)}".split())[:_LONGEST]
    try:
        outcome = _outcome(directory, wall_seconds, notes)
        document = _with_executions(replace(outcome, error=words), directory, trajectories=trajectories)
    except InputError:  # nothing was computed
        document = counted(Outcome(None, None, None, words))
    except Exception as damage:  # noqa: BLE001 - the failure is recorded with any fault of the folder
        unread = f"{words}; the folder cannot be read: {type(damage).__name__}: {damage}"
        document = counted(Outcome(None, None, None, unread[:_LONGEST]))
    return TaskDoc(dir_name=folder_name(directory), state="failed", calcs_reversed=[], **{COUNTED: document})


def count_steps(
    document: TaskDoc, directory: Path, wall_seconds: float, notes: tuple[str, ...] = (), *, trajectories: bool = False
) -> None:
    """Add the executions in its folder to a document: all of them, archived ones included.

    Parameters
    ----------
    document
        Document of the last execution.
    directory
        The folder.
    wall_seconds
        Wall time of all of it, s.
    notes
        Notes for a reader of the ledger that the folder does not hold.
    trajectories
        Add the trajectory of every execution too, in order; jobflow moves them to the additional store `data`.
    """
    outcome = _outcome(directory, wall_seconds, notes)
    setattr(document, COUNTED, _with_executions(outcome, directory, trajectories=trajectories))


def _outcome(directory: Path, wall_seconds: float, notes: tuple[str, ...]) -> Outcome:
    outcome = read_relaxation(directory, where=folder_name(directory), wall_seconds=wall_seconds)
    if outcome.ledger is None:
        msg = f"no ledger of {directory}"
        raise InputError(msg)
    ledger = outcome.ledger.model_copy(update={"notes": (*outcome.ledger.notes, *notes)})
    late = _OUT_OF_TIME in ledger.attempts[-1].corrections and not ledger.converged
    return replace(outcome, ledger=ledger, error="stopped before the wall time ran out" if late else outcome.error)


def _with_executions(outcome: Outcome, directory: Path, *, trajectories: bool) -> dict[str, Any]:
    document = counted(outcome)
    if trajectories and outcome.ledger is not None:
        frames = [execution.trajectory for execution in read_all_executions(directory, trajectories=True)]
        document["trajectory"] = [None if frame is None else frame.to_pmg().as_dict() for frame in frames]
    return document


def _last_words(directory: Path) -> str:
    """Return the last line that VASP wrote to its standard streams; empty if there is none."""
    for name in _WORDS:
        path = directory / name
        lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
        if words := [line.strip() for line in lines if line.strip()]:
            return f"; {name} ends: {words[-1]}"
    return ""
