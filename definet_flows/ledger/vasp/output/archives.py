"""custodian's account of a folder: the archived outputs, and its words for the error that ended each execution."""

from __future__ import annotations

import json
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definet_flows.ledger.vasp.output.names import KINDS
from definet_flows.ledger.vasp.output.packed import DAMAGE, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEPT = (*KINDS, "INCAR", "POSCAR", "CONTCAR")
_ARCHIVES = "error.*.tar*"


@dataclass(frozen=True)
class CustodianLog:
    """Content of custodian.json.

    Attributes
    ----------
    archived
        Errors by number of the archive that they left.
    job
        Which of custodian's jobs left it, by number of the archive, from 0.
    unarchived
        Errors that left none, since nothing could be corrected.
    """

    archived: dict[int, tuple[str, ...]]
    job: dict[int, int]
    unarchived: tuple[str, ...]


def read_log(directory: Path) -> CustodianLog:
    """Return the content of custodian.json in a folder; empty where it is missing or cut off."""
    found = CustodianLog({}, {}, ())
    for path in sorted(directory.glob("custodian.json*"))[:1]:
        try:
            log: list[dict[str, Any]] = json.loads("".join(Lines(path)))
            return _log(log)
        except (ValueError, TypeError, AttributeError):  # cut off, or not custodian's: the executions count anyway
            continue
    return found


def _log(log: list[dict[str, Any]]) -> CustodianLog:
    archived: dict[int, tuple[str, ...]] = {}
    jobs: dict[int, int] = {}
    unarchived: tuple[str, ...] = ()
    for number, job in enumerate(log):
        for correction in job.get("corrections") or ():
            words = tuple(str(error) for error in correction.get("errors") or ())
            if correction.get("actions") is None and "actions" in correction:  # nothing to correct, nothing archived
                unarchived += words
            else:
                archived[len(archived) + 1] = words
                jobs[len(archived)] = number
    return CustodianLog(archived, jobs, unarchived)


def archives(directory: Path, log: CustodianLog) -> dict[int, Path | None]:
    """Return custodian's archives by number, in order; None for an archive that is gone."""
    named = {path.name.split(".")[1]: path for path in sorted(directory.glob(_ARCHIVES), reverse=True)}
    found: dict[int, Path | None] = {int(number): path for number, path in named.items() if number.isdigit()}
    # numbers run from 1 without a gap, and custodian knows how many there were
    return {number: found.get(number) for number in range(1, max([0, *found, *log.archived]) + 1)}


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[Path, str]]:
    """Unpack an archive for as long as it is looked at; yield the folder, and the fault of the archive."""
    problem = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile() and Path(member.name).name.startswith(_KEPT):
                        member.name = Path(member.name).name
                        archive.extract(member, folder, filter="data")
        except (tarfile.TarError, *DAMAGE) as error:  # cut off where the disk was full: the unpacked part is read
            problem = f"{path.name} is damaged: {error}"
        yield Path(folder), problem
