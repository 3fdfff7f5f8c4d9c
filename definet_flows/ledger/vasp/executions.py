"""All executions of VASP in one folder: those that custodian stopped and archived, then the last one.

custodian archives once per *correction*, not once per execution: when two handlers correct the same end, or when it
gives up after an archive, the same output is there twice. If the next output begins with it, byte for byte, both are of
the same execution, which counts once; VASP's own date and timings differ between executions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.io.vasp import Incar, Vasprun

from definet_flows.errors import InputError
from definet_flows.ledger.vasp.output.archives import CustodianLog, archives, read_log, unpacked
from definet_flows.ledger.vasp.output.cleaned import cleaned
from definet_flows.ledger.vasp.output.names import labels, output_files
from definet_flows.ledger.vasp.output.packed import Fingerprint, Lines, file_in, fingerprint
from definet_flows.ledger.vasp.output.vasprun import read_files, read_vasp_run
from definet_flows.ledger.vasp.positions import contradicts, read_poscar, trusted
from definet_flows.ledger.vasp.run import VaspRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emmet.core.trajectory import RelaxTrajectory
    from pymatgen.core import Structure

_IDENTITY = (
    "OUTCAR",
    "vasprun.xml",
    "OSZICAR",
)  # the first of them decides whether two outputs are of the same execution


@dataclass(frozen=True)
class Execution:
    """An execution of VASP.

    Attributes
    ----------
    run
        Its output, read.
    tags
        INCAR it was run with; of the output where the file is missing.
    corrections
        custodian's words for the error that ended it.
    last
        Last trustworthy positions, in the engine's order; None if there are none.
    trajectory
        Positions, energies and forces of its finished ionic steps, if asked for and a vasprun.xml holds them.
    start
        Where it began; of its output, else of its POSCAR.
    ends
        Where a run that continues it may begin: CONTCAR, the last finished step, where the output says it closed.
    label
        The run in the folder that it belongs to, such as `.relax1`.
    missing
        Why its output cannot be read; empty if it can.
    """

    run: VaspRun
    tags: dict[str, Any]
    corrections: tuple[str, ...]
    last: Structure | None
    trajectory: RelaxTrajectory | None = None
    start: Structure | None = None
    ends: tuple[Structure, ...] = ()
    label: str = ""
    missing: str = ""


@dataclass(frozen=True)
class _Source:
    """Place of the output of an execution."""

    folder: Path | None  # None: it is gone
    run: str  # label of the run that it belongs to
    label: str = ""  # of its files
    words: tuple[str, ...] = ()
    problem: str = ""
    latest: bool = False


def read_executions(directory: str | Path, *, trajectories: bool = False) -> tuple[Execution, ...]:
    """Return every execution of VASP in a folder, in order.

    An archive that is gone, empty or unreadable gives an execution without steps that says so. Of several runs in one
    folder (`vasprun.xml.relax1`, `.relax2`) each is an execution.

    Parameters
    ----------
    directory
        The folder; or a single file of an execution.
    trajectories
        Read the trajectories too.

    Raises
    ------
    InputError
        If there is no VASP output at all.
    """
    directory = Path(directory)
    if directory.is_file():
        run = read_vasp_run(directory)
        ends = tuple(end for end in (run.final, run.closing) if end is not None)
        return (Execution(run, run.tags, (), trusted(run, run.initial, None), start=run.initial, ends=ends),)
    log = read_log(directory)
    found: list[Execution] = []
    before: Fingerprint | None = None
    for source in _sources(directory, log):
        files = _files(source)
        output = next((files[name] for name in _IDENTITY if name in files and _holds(files[name])), None)
        if output is None:  # VASP wrote nothing, or its output is gone
            found += [_missing(source)] if source.problem else []
            continue
        execution = _read(source, files, trajectories=trajectories)
        if before is not None and fingerprint(output, before.length) == before:
            earlier = found.pop()
            execution = replace(execution, tags=earlier.tags, corrections=earlier.corrections + source.words)
        found.append(execution)
        before = None if source.latest else fingerprint(output)
    if all(execution.missing for execution in found):
        msg = f"no VASP output in {directory}: expected vasprun.xml, OUTCAR or OSZICAR, plain or compressed"
        raise InputError("; ".join([msg, *(execution.missing for execution in found)]))
    found[-1] = replace(found[-1], corrections=found[-1].corrections + tuple(dict.fromkeys(log.unarchived)))
    return tuple(found)


def _sources(directory: Path, log: CustodianLog) -> Iterator[_Source]:
    """Yield custodian's archives, unpacked for as long as they are looked at, each before the run it belongs to."""
    archived = archives(directory, log)
    runs = labels(output_files(directory)) or [""]
    for place, run in enumerate(runs):
        for number, path in archived.items():
            if min(log.job.get(number, 0), len(runs) - 1) != place:
                continue
            words = log.archived.get(number, ())
            if path is None:
                yield _Source(None, run, words=words, problem=f"archive error.{number} of custodian is gone")
                continue
            with unpacked(path) as (folder, problem):
                yield _Source(folder, run, words=words, problem=problem)
        yield _Source(directory, run, label=run, latest=place == len(runs) - 1)


def _files(source: _Source) -> dict[str, Path]:
    """Return the output of an execution by kind."""
    found = reversed(output_files(source.folder)) if source.folder is not None else ()
    return {file.kind: file.path for file in found if file.label == source.label}


def _missing(source: _Source) -> Execution:
    run = VaspRun(0, finished=False, notes=(source.problem,))
    return Execution(run, {}, source.words, None, label=source.run, missing=source.problem)


def _read(source: _Source, files: dict[str, Path], *, trajectories: bool) -> Execution:
    folder = source.folder or Path()
    run = read_files(files, folder)
    contcar = read_poscar(file_in(folder, f"CONTCAR{source.label}"))
    notes = [source.problem] if source.problem else []
    if contcar is not None and contradicts(run, contcar):
        notes.append("CONTCAR is not where the output ends: not used")
    run = replace(run, notes=(*run.notes, *notes), finished=False if source.problem else run.finished)
    start = run.initial or read_poscar(file_in(folder, f"POSCAR{source.label}"))
    tags = _incar(file_in(folder, f"INCAR{source.label}")) or run.tags
    frames = _trajectory(files.get("vasprun.xml")) if trajectories else None
    ends = tuple(end for end in (contcar, run.final, run.closing) if end is not None)
    last = trusted(run, start, contcar)
    return Execution(run, tags, source.words, last, frames, start=start, ends=ends, label=source.run)


def _holds(path: Path) -> bool:
    """Return whether a file has content."""
    return next(iter(Lines(path)), "") != ""


def _incar(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tags that pymatgen does not know are compared as text
            return dict(Incar.from_str("".join(Lines(path))))
    except Exception:  # noqa: BLE001  # a file cut off anywhere fails in many ways
        return {}


def _trajectory(path: Path | None) -> RelaxTrajectory | None:
    from emmet.core.trajectory import RelaxTrajectory  # noqa: PLC0415 - a second to import, and rarely asked for

    if path is None:
        return None
    try:
        with warnings.catch_warnings(), cleaned(path) as file:
            warnings.simplefilter("ignore")  # the run reports the same
            run = Vasprun(
                file.path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False
            )
            return RelaxTrajectory.from_vasprun(run, store_electronic_steps=False) if run.ionic_steps else None
    except Exception:  # noqa: BLE001  # cut off before its first step
        return None
