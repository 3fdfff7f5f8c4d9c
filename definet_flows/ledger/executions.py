"""All executions of VASP in one folder: those that custodian stopped and archived, then the last one.

custodian archives once per *correction*, not once per execution: when two handlers correct the same end, or when it
gives up after an archive, the same output is there twice. An output that the next one begins with, byte for byte, is
the same execution seen earlier, and is counted once; VASP's own date and timings tell executions apart.
"""

from __future__ import annotations

import tarfile
import tempfile
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monty.io import zopen
from monty.serialization import loadfn
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Vasprun

from definet_flows.errors import InputError
from definet_flows.ledger.run import VaspRun
from definet_flows.ledger.vasprun import read_vasp_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emmet.core.trajectory import RelaxTrajectory

_KEPT = ("vasprun.xml", "OUTCAR", "OSZICAR", "INCAR", "POSCAR", "CONTCAR")
_IDENTITY = ("OUTCAR", "vasprun.xml", "OSZICAR")  # the first of them tells whether two outputs are of one execution
_CLOSEST = 0.5  # of the start's shortest distance: nearer atoms are no positions to go on from


@dataclass(frozen=True)
class Execution:
    """One execution of VASP.

    Attributes
    ----------
    run
        What its output says.
    tags
        INCAR it was run with; of the output where the file is missing.
    corrections
        custodian's words for what ended it.
    last
        Last trustworthy positions, in the engine's order; None if there are none.
    trajectory
        Positions, energies and forces of its finished ionic steps, if asked for and a vasprun.xml holds them.
    """

    run: VaspRun
    tags: dict[str, Any]
    corrections: tuple[str, ...]
    last: Structure | None
    trajectory: RelaxTrajectory | None = None


def read_executions(directory: str | Path, *, trajectories: bool = False) -> tuple[Execution, ...]:
    """Return every execution of VASP in a folder, in order.

    Parameters
    ----------
    directory
        The folder; or a single file of one execution, which is then all there is.
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
        return (Execution(run, run.tags, (), _trusted(run, run.initial, run.final)),)
    archived, unarchived = _corrections(directory)
    found: list[Execution] = []
    before = b""
    for number, folder in _folders(directory):
        words = archived.get(number, ())
        output = _identity(folder)
        if not output:  # stopped before VASP wrote anything: no steps
            continue
        run = read_vasp_run(folder)
        frames = _trajectory(folder) if trajectories else None
        one = Execution(run, _incar(folder) or run.tags, words, _last(folder, run), frames)
        if before and output.startswith(before):
            earlier = found.pop()
            one = replace(one, tags=earlier.tags, corrections=earlier.corrections + words)
        found.append(one)
        before = output
    if not found:
        msg = f"no VASP output in {directory}: expected vasprun.xml, OUTCAR or OSZICAR, plain or compressed"
        raise InputError(msg)
    found[-1] = replace(found[-1], corrections=found[-1].corrections + tuple(dict.fromkeys(unarchived)))
    return tuple(found)


def _folders(directory: Path) -> Iterator[tuple[int, Path]]:
    """Yield custodian's archives with their numbers, unpacked for as long as they are looked at; then the folder."""
    named = {path.name.split(".")[1]: path for path in directory.glob("error.*.tar.gz")}
    archives = {int(number): path for number, path in named.items() if number.isdigit()}
    for number in sorted(archives):
        with _unpacked(archives[number]) as folder:
            yield number, folder
    yield 0, directory


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    if member.isfile() and Path(member.name).name.startswith(_KEPT):
                        member.name = Path(member.name).name
                        archive.extract(member, folder, filter="data")
        except (tarfile.ReadError, EOFError, OSError):  # cut off where the disk was full: what came out is read
            pass
        yield Path(folder)


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _identity(folder: Path) -> bytes:
    """Return the output that tells one execution from another; empty if VASP wrote nothing."""
    for name in _IDENTITY:
        path = _file(folder, name)
        if path is not None and (content := _bytes(path)):
            return content
    return b""


def _bytes(path: Path) -> bytes:
    with zopen(path, mode="rb") as file:
        try:
            return bytes(file.read())
        except (EOFError, OSError, zlib.error):
            return path.read_bytes()


def _incar(folder: Path) -> dict[str, Any]:
    path = _file(folder, "INCAR")
    if path is None:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tags that pymatgen does not know are compared as text
            return dict(Incar.from_file(path))
    except Exception:  # noqa: BLE001  # a file cut off anywhere fails in many ways
        return {}


def _corrections(directory: Path) -> tuple[dict[int, tuple[str, ...]], tuple[str, ...]]:
    """Return custodian's errors by number of the archive that they left, and those that left none."""
    archived: dict[int, tuple[str, ...]] = {}
    unarchived: tuple[str, ...] = ()
    for path in sorted(directory.glob("custodian.json*"))[:1]:
        try:
            log: list[dict[str, Any]] = loadfn(path, cls=None)
        except (ValueError, EOFError, OSError):  # cut off: the executions count all the same
            continue
        for correction in (one for job in log for one in job.get("corrections") or ()):
            words = tuple(str(error) for error in correction.get("errors") or ())
            if correction.get("actions") is None and "actions" in correction:  # nothing to correct, nothing archived
                unarchived += words
            else:
                archived[len(archived) + 1] = words
    return archived, unarchived


def _last(folder: Path, run: VaspRun) -> Structure | None:
    """Return the CONTCAR if it is whole and sane, else the positions of the last finished ionic step."""
    start = run.initial or _structure(_file(folder, "POSCAR"))
    return _trusted(run, start, _structure(_file(folder, "CONTCAR")), run.final)


def _trusted(run: VaspRun, start: Structure | None, *candidates: Structure | None) -> Structure | None:
    """Return the first candidate that a relaxation can go on from; None if forces that mean little led there."""
    if start is None or not run.ionic_steps or run.electronically_converged is False or (run.energy or 0.0) > 0:
        return None
    return next((one for one in candidates if one is not None and _sane(one, start)), None)


def _trajectory(folder: Path) -> RelaxTrajectory | None:
    from emmet.core.trajectory import RelaxTrajectory  # noqa: PLC0415 - a second to import, and rarely asked for

    path = _file(folder, "vasprun.xml")
    if path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is told by the run
            run = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False)
            return RelaxTrajectory.from_vasprun(run, store_electronic_steps=False) if run.ionic_steps else None
    except Exception:  # noqa: BLE001  # cut off before its first step
        return None


def _structure(path: Path | None) -> Structure | None:
    if path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with it is judged here
            return Structure.from_file(path)
    except Exception:  # noqa: BLE001  # a file cut off anywhere fails in many ways
        return None


def _sane(structure: Structure, start: Structure) -> bool:
    """Say whether positions can be gone on from: the same atoms in the same cell, none on top of another."""
    if structure.species != start.species or not np.allclose(structure.lattice.matrix, start.lattice.matrix, atol=1e-4):
        return False
    return bool(np.isfinite(structure.frac_coords).all() and _shortest(structure) > _CLOSEST * _shortest(start))


def _shortest(structure: Structure) -> float:
    distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
    return float(distances.min())
