"""Raw VASP output, whole or cut off, read into what a relaxation did: vasprun.xml, OUTCAR, OSZICAR."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monty.io import zopen
from pymatgen.io.vasp import Oszicar, Vasprun

from definet_flows.errors import InputError
from definet_flows.ledger.outcome import is_converged, largest_force

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

OPTIMIZERS = {1: "RMM-DIIS", 2: "conjugate gradient", 3: "damped dynamics"}
"""VASP's ionic optimisers by IBRION."""


@dataclass(frozen=True)
class VaspRun:
    """What one execution of VASP did. None where the files do not say.

    Attributes
    ----------
    ionic_steps
        Finished force evaluations.
    electronic_steps
        Steps of the electronic loop, those of an unfinished ionic step included.
    finished
        Whether VASP ended by itself.
    electronically_converged
        Whether the last ionic step's electronic loop reached EDIFF.
    energy
        energy(sigma->0) of the last ionic step, eV.
    start_max_force, max_force
        Largest force at the first and the last ionic step, eV/Å.
    magnetization
        Final total moment, μB.
    force_criterion
        -EDIFFG, eV/Å, where forces decide.
    cores, wall_seconds
        What the run took.
    charge
        Net charge of the cell, elementary charges.
    surface
        What decides the energy surface, whatever the cell: functional, cutoff, smearing, k-points, kind of POTCARs.
    """

    ionic_steps: int
    electronic_steps: int | None = None
    finished: bool | None = None
    electronically_converged: bool | None = None
    energy: float | None = None
    start_max_force: float | None = None
    max_force: float | None = None
    magnetization: float | None = None
    force_criterion: float | None = None
    optimizer: str | None = None
    cores: int | None = None
    wall_seconds: float | None = None
    initial: Structure | None = None
    final: Structure | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    charge: float | None = None
    surface: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the final forces, from a converged electronic loop, meet the criterion."""
        if self.force_criterion is None or self.electronically_converged is False:
            return False
        return is_converged(self.max_force, self.force_criterion)


def read_vasp_run(path: str | Path) -> VaspRun:
    """Read one execution of VASP from its directory or from one of its files, compressed or not.

    A file that is cut off gives what it holds, `finished=False` and a note.

    Parameters
    ----------
    path
        A directory with any of vasprun.xml, OUTCAR and OSZICAR, or one such file.

    Raises
    ------
    InputError
        If there is none of these.
    """
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    runs = [
        read(found[0]) for kind, read in _READERS.items() if (found := [file for file in files if kind in file.name])
    ]
    if not runs:
        msg = f"no VASP output in {path}: expected vasprun.xml, OUTCAR or OSZICAR, plain or compressed"
        raise InputError(msg)
    return _merged(runs)


def _merged(runs: list[VaspRun]) -> VaspRun:
    """Return what the files of one run say together; the one with the most steps was written last."""
    runs = sorted(runs, key=lambda run: -run.ionic_steps)
    known: dict[str, Any] = {
        name: next((value for run in runs if (value := getattr(run, name)) is not None), None)
        for name in VaspRun.__dataclass_fields__
    }
    ends = [run.finished for run in runs if run.finished is not None]
    electronic = [run.electronic_steps for run in runs if run.electronic_steps is not None]
    known |= {
        "finished": all(ends) if ends else None,
        "electronic_steps": max(electronic, default=None),
        "tags": next((run.tags for run in runs if run.tags), {}),
        "surface": next((run.surface for run in runs if run.surface), {}),
        "notes": tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    }
    return VaspRun(**known)


def _read_vasprun(path: Path) -> VaspRun:
    electronic, ended, species = 0, False, []
    for line in _lines(path):
        electronic += "</scstep>" in line
        ended = ended or "</modeling>" in line
        if found := _SPECIES.search(line):
            species.append(found)
    cut = "vasprun.xml is cut off"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is told by the fields
            run = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=ended)
    except Exception as error:  # noqa: BLE001  # a file cut off in its header fails in many ways
        return VaspRun(0, electronic, finished=False, notes=(f"{cut} before its first step ({error!r:.80})",))
    steps, parameters = run.ionic_steps, dict(run.parameters)
    forces = [step["forces"] for step in steps]
    return VaspRun(
        ionic_steps=len(steps),
        electronic_steps=electronic,
        finished=ended,
        electronically_converged=len(steps[-1]["electronic_steps"]) < parameters["NELM"] if steps else None,
        energy=final_energy(steps[-1]) if steps else None,
        start_max_force=largest_force(forces[0]) if steps else None,
        max_force=largest_force(forces[-1]) if steps else None,
        force_criterion=_criterion(parameters.get("EDIFFG")),
        optimizer=OPTIMIZERS.get(parameters.get("IBRION", -1)),
        initial=run.initial_structure,
        final=steps[-1]["structure"] if steps else None,
        tags=dict(run.incar),
        charge=sum(int(one[1]) * float(one[2]) for one in species) - parameters["NELECT"] if species else None,
        surface=_surface(parameters, run.kpoints, {one[3].split()[0] for one in species}),
        notes=() if ended else (f"{cut} after {len(steps)} finished ionic steps",),
    )


_SPECIES = re.compile(r"<rc><c>\s*(\d+)</c><c>\w+ *</c><c>[^<]*</c><c>\s*([\d.]+)</c><c>\s*(\S[^<]*)</c>")
_SURFACE = frozenset(
    {"GGA", "METAGGA", "LMETAGGA", "LHFCALC", "AEXX", "HFSCREEN", "LDAU", "LDAUU"}
    | {"LDAUJ", "LUSE_VDW", "IVDW", "LSORBIT", "ENMAX", "PREC", "ISPIN", "ISMEAR"}
    | {"SIGMA", "LREAL", "LASPH"}
)


def _surface(parameters: dict[str, Any], kpoints: Any, potcars: set[str]) -> dict[str, Any]:  # noqa: ANN401 - Kpoints
    """Return the parameters of the energy surface, as JSON."""
    found = {name: parameters[name] for name in sorted(_SURFACE) if name in parameters}
    return {**found, "KPOINTS": [list(map(float, point)) for point in kpoints.kpts], "POTCAR": sorted(potcars)}


def final_energy(step: dict[str, Any]) -> float:
    """Return energy(sigma->0), eV, by way of the electronic loop: the ionic step's own is 0 in hybrid runs."""
    last = step["electronic_steps"][-1]
    return round(float(step["e_fr_energy"] + last["e_0_energy"] - last["e_fr_energy"]), 8)


_OUTCAR_LAST = {
    "energy": re.compile(r"energy  without entropy=.*energy\(sigma->0\) =\s*(\S+)"),
    "magnetization": re.compile(r"number of electron\s+\S+\s+magnetization\s+(\S+)"),
    "wall_seconds": re.compile(r"Elapsed time \(sec\):\s*(\S+)"),
    "cores": re.compile(r"running (?:on)?\s*(\d+) (?:total cores|mpi-ranks)"),
    "ediffg": re.compile(r"EDIFFG =\s*(\S+)\s+stopping-criterion"),
    "ibrion": re.compile(r"IBRION =\s*(-?\d+)\s+ionic relax"),
    "nelm": re.compile(r"NELM   =\s*(\d+);"),
}
_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")


def _read_outcar(path: Path) -> VaspRun:
    last: dict[str, float] = {}
    electronic, loop, forces, ended = 0, 0, [], False
    lines = _lines(path)
    for line in lines:
        if "TOTAL-FORCE" in line:
            forces.extend(_force_table(lines))
        elif found := _ITERATION.search(line):
            electronic, loop = electronic + 1, int(found[1])
        elif "General timing and accounting" in line:
            ended = True
        else:
            last |= {name: float(found[1]) for name, form in _OUTCAR_LAST.items() if (found := form.search(line))}
    return VaspRun(
        ionic_steps=len(forces),
        electronic_steps=electronic,
        finished=ended,
        electronically_converged=loop < last["nelm"] if "nelm" in last else None,
        energy=last.get("energy"),
        start_max_force=forces[0] if forces else None,
        max_force=forces[-1] if forces else None,
        magnetization=last.get("magnetization"),
        force_criterion=_criterion(last.get("ediffg")),
        optimizer=OPTIMIZERS.get(int(last.get("ibrion", -1))),
        cores=int(last["cores"]) if "cores" in last else None,
        wall_seconds=last.get("wall_seconds"),
        notes=() if ended else (f"OUTCAR is cut off after {len(forces)} finished ionic steps",),
    )


def _force_table(lines: Iterator[str]) -> list[float]:
    """Return the largest force of the table that begins here, as a list of one; empty if it is cut off."""
    next(lines, "")  # the rule above the table
    rows: list[list[float]] = []
    for line in lines:
        if "-----" in line:
            return [largest_force(rows) or 0.0]
        rows.append([_number(word) for word in line.split()[3:6]])
    return []


def _read_oszicar(path: Path) -> VaspRun:
    try:
        run = Oszicar(path)
    except Exception as error:  # noqa: BLE001  # empty, or cut off in its first line
        return VaspRun(0, 0, notes=(f"OSZICAR is unreadable: {error!r:.80}",))
    last = run.ionic_steps[-1] if run.ionic_steps else {}
    return VaspRun(
        ionic_steps=len(run.ionic_steps),
        electronic_steps=sum(len(loop) for loop in run.electronic_steps),
        energy=last.get("E0"),
        magnetization=last.get("mag"),
    )


_READERS: dict[str, Callable[[Path], VaspRun]] = {
    "vasprun.xml": _read_vasprun,
    "OUTCAR": _read_outcar,
    "OSZICAR": _read_oszicar,
}


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, compressed or not; a compressed one may be cut off too."""
    with zopen(path, mode="rt", encoding="latin-1") as file:
        try:
            yield from (str(line) for line in file)
        except EOFError:
            return


def _criterion(ediffg: float | None) -> float | None:
    return -float(ediffg) if ediffg is not None and ediffg < 0 else None


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:  # ******: too large to print
        return float(np.inf)
