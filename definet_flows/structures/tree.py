"""Pre-relaxation of a tree of calculations in place: every POSCAR, whatever made the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from definet_flows.atomic import write_whole
from definet_flows.errors import InputError
from definet_flows.ledger.vasp.charge import charge_from_path
from definet_flows.schemas import Frozen
from definet_flows.starts.proposals import PreRelaxer
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.crystals import CrystalFile, read_crystals
from definet_flows.structures.files import Tell
from definet_flows.structures.in_host import PredictedCrystal, predict_crystals
from definet_flows.structures.match import HostFinder

ORIGINAL = "POSCAR.unrelaxed"
"""Name of the original beside a pre-relaxed POSCAR."""

_CHUNK = 128  # files between two writings
_UNDISTORTED = "Unperturbed"  # ShakeNBreak's folder beside those of its trial distortions


class TreeEntry(Frozen):
    """What became of one POSCAR."""

    path: str
    action: Literal["moved", "gated", "left"] = Field(description="gated: left as it was because the gate objects")
    reason: str = ""
    note: str = Field(default="", description="what a reader must know")
    host: str | None = None
    inferred: str = Field(default="", description="what of host and supercell was not given")
    defects: str = ""
    charge: int = Field(default=0, description="elementary charges, from the folder's name or pydefect's file")
    largest_displacement: float | None = Field(default=None, description="Å")
    uncertainty: float | None = Field(default=None, description="expected mean |error|, Å")


def prerelax_tree(
    prerelaxer: PreRelaxer,
    root: Path,
    finder: HostFinder,
    *,
    write_rejected: bool = False,
    tell: Tell | None = None,
) -> list[TreeEntry]:
    """Pre-relax every POSCAR below a folder, the original kept beside it as `POSCAR.unrelaxed`.

    Atoms keep their order, everything but the coordinates stays as it is. Trial distortions of ShakeNBreak are kept:
    what is predicted for (and judged on) their sibling `Unperturbed` is added to them. A POSCAR beside which there is
    another `POSCAR.unrelaxed` is pre-relaxed already and is left.

    Parameters
    ----------
    write_rejected
        Move also what the gate rejects.

    Raises
    ------
    InputError
        If `root` is no folder or there is no POSCAR in it.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    paths = sorted(path for path in root.rglob("POSCAR") if path.is_file())
    if not paths:
        raise InputError(f"{root}: no file named POSCAR in there")
    report: dict[Path, TreeEntry] = {}
    for start in range(0, len(paths), _CHUNK):
        tasks = []
        for path in paths[start : start + _CHUNK]:
            task = _task(path, root)
            if isinstance(task, str):
                report[path] = TreeEntry(path=str(path), action="left", reason=task)
            else:
                tasks.append(task)
        for task, predicted in zip(tasks, _predictions(prerelaxer, finder, tasks), strict=True):
            report[task.path] = _decide(task, predicted, write_rejected=write_rejected)
        if tell is not None:
            tell(min(start + _CHUNK, len(paths)), len(paths))
    return [report[path] for path in paths]


@dataclass(frozen=True, eq=False)
class _Task:
    path: Path
    file: CrystalFile
    charge: int
    undistorted: Crystal | None = None

    @property
    def crystal(self) -> Crystal:
        return self.file.crystals[0]


def _predictions(prerelaxer: PreRelaxer, finder: HostFinder, tasks: Sequence[_Task]) -> list[PredictedCrystal]:
    crystals = [replace(task.undistorted or task.crystal, charge=float(task.charge)) for task in tasks]
    return predict_crystals(prerelaxer, finder, crystals)


def _task(path: Path, root: Path) -> _Task | str:
    """Return what is to be predicted, or why the file is left as it is."""
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    original = path.with_name(ORIGINAL)
    try:
        data = path.read_bytes()
        if original.exists() and original.read_bytes() != data:
            return f"pre-relaxed before: {ORIGINAL} is there"
        file = read_crystals(path, data)
        return _Task(path, file, charge_from_path(path.parent, root) or 0, _undistorted(path, file.crystals[0]))
    except (InputError, OSError) as error:
        return str(error)


def _undistorted(path: Path, crystal: Crystal) -> Crystal | None:
    """Return the structure that a trial distortion of ShakeNBreak was made from: its sibling, same atoms in order."""
    sibling = path.parent.parent / _UNDISTORTED
    if path.parent == sibling:
        return None
    for reference in (sibling / ORIGINAL, sibling / path.name):
        if reference.is_file():
            (other,) = read_crystals(sibling / path.name, reference.read_bytes()).crystals
            same = np.array_equal(other.numbers, crystal.numbers) and np.allclose(other.lattice, crystal.lattice)
            return other if same else None
    return None


def _decide(task: _Task, predicted: PredictedCrystal, *, write_rejected: bool) -> TreeEntry:
    """Write a POSCAR that may be moved, and tell what was done."""
    entry = TreeEntry(
        path=str(task.path),
        action="left",
        reason=predicted.reason,
        host=predicted.found.label if predicted.found else None,
        inferred=predicted.found.inferred if predicted.found else "",
        defects=predicted.defects,
        charge=task.charge,
        uncertainty=predicted.uncertainty,
    )
    if predicted.gate is None:
        return entry
    if not predicted.defects:
        return entry.model_copy(update={"reason": "the bulk supercell: nothing to move"})
    if predicted.frac is None or (predicted.rejected and not write_rejected):
        return entry.model_copy(update={"action": "gated", "reason": predicted.gate.reason})
    original = task.path.with_name(ORIGINAL)
    if not original.exists():
        write_whole(original, task.file.text([None], [{}]))
    frac, note = predicted.frac, predicted.note
    if task.undistorted is not None:  # the distortion is there on purpose: it stays
        frac = task.crystal.moved(predicted.frac - task.undistorted.frac)
        added = f"displacements of {_UNDISTORTED} were added to the distortion"
        note = "; ".join(filter(None, (predicted.remark, added)))
    write_whole(task.path, task.file.text([frac], [{}]))
    return entry.model_copy(update={"action": "moved", "note": note, "largest_displacement": predicted.largest})
