"""Raw VASP output, whole or cut off, read into what a relaxation did: vasprun.xml, OUTCAR, OSZICAR."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.io.vasp import Oszicar, Vasprun

from definet_flows.errors import InputError
from definet_flows.ledger.outcar import read_outcar, with_cell
from definet_flows.ledger.outcome import largest_force
from definet_flows.ledger.run import OPTIMIZERS, VaspRun, force_criterion, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable


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
    found = {kind: next((file for file in files if kind in file.name), None) for kind in _READERS}
    runs = [read(file) for kind, read in _READERS.items() if (file := found[kind]) is not None]
    if not runs:
        msg = f"no VASP output in {path}: expected vasprun.xml, OUTCAR or OSZICAR, plain or compressed"
        raise InputError(msg)
    merged, outcar = _merged(runs), found["OUTCAR"]
    return with_cell(merged, outcar) if merged.initial is None and outcar is not None else merged


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
    for line in lines_of(path):
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
        energy=_last_energy(steps),
        start_max_force=largest_force(forces[0]) if steps else None,
        max_force=largest_force(forces[-1]) if steps else None,
        force_criterion=force_criterion(parameters.get("EDIFFG")),
        optimizer=OPTIMIZERS.get(parameters.get("IBRION", -1)),
        initial=run.initial_structure,
        final=steps[-1]["structure"] if steps else None,
        tags=dict(run.incar),
        charge=sum(int(one[1]) * float(one[2]) for one in species) - parameters["NELECT"] if species else None,
        surface=_surface(parameters, run.kpoints, {one[3].split()[0] for one in species}),
        notes=() if ended else (f"{cut} after {len(steps)} finished ionic steps",),
    )


def _last_energy(steps: list[dict[str, Any]]) -> float | None:
    """Return the last energy, eV; None where a damaged file lacks it."""
    try:
        return final_energy(steps[-1])
    except (LookupError, TypeError, ValueError):
        return None


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
    "OUTCAR": read_outcar,
    "OSZICAR": _read_oszicar,
}
