"""Raw VASP output, whole or cut off, read into results: vasprun.xml, OUTCAR, OSZICAR."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.io.vasp import Oszicar, Vasprun

from definet_flows.errors import InputError
from definet_flows.ledger.outcome import largest_force
from definet_flows.ledger.vasp.output.cleaned import Cleaned, cleaned
from definet_flows.ledger.vasp.output.names import KINDS, output_file, output_files
from definet_flows.ledger.vasp.output.outcar import read_outcar
from definet_flows.ledger.vasp.output.packed import Lines
from definet_flows.ledger.vasp.run import CONTROLS, OPTIMIZERS, VaspRun, are_numbers, force_criterion

if TYPE_CHECKING:
    from collections.abc import Callable


def read_vasp_run(path: str | Path) -> VaspRun:
    """Read an execution of VASP from its directory or from a file of it, compressed or not.

    A file that is cut off gives what it holds, `finished=False` and a note. Of several runs in a directory
    (`vasprun.xml.relax1`, `.relax2`) the last is read.

    Parameters
    ----------
    path
        A directory with any of vasprun.xml, OUTCAR and OSZICAR, or such a file.

    Raises
    ------
    InputError
        If there is none of these.
    """
    path = Path(path)
    if not path.is_dir():
        kind = next((kind for kind in KINDS if kind in path.name), None)
        return read_files({} if kind is None else {kind: path}, path)
    files = output_files(path)
    if not files:  # NAME.OUTCAR and so on
        named = [output for file in sorted(path.iterdir()) if (output := output_file(file)) is not None]
        files = [output for output in named if output.name == named[0].name]
    return read_files({output.kind: output.path for output in reversed(files) if output.label == files[-1].label}, path)


def read_files(files: dict[str, Path], place: Path) -> VaspRun:
    """Read an execution from its files by kind. Raises as `read_vasp_run`; `place` is the name in the message."""
    runs = {kind: read(files[kind]) for kind, read in _READERS.items() if kind in files}
    if not runs:
        msg = f"no VASP output in {place}: expected vasprun.xml, OUTCAR or OSZICAR, plain or compressed"
        raise InputError(msg)
    if any(run.ml_steps for run in runs.values()) and len(runs) > 1:
        runs.pop("OSZICAR", None)  # it does not mark steps of a machine-learned force field
    return _merged(list(runs.values()))


_EXACT = ("initial", "charge", "valence", "surface", "tags", "controls", "began")
"""Results that are better known from a vasprun.xml, however short it is."""


def _merged(runs: list[VaspRun]) -> VaspRun:
    """Return the joint results of the files of a run; the file with the most steps was written last."""
    latest = sorted(runs, key=lambda run: -run.ionic_steps)
    known: dict[str, Any] = {
        name: next((value for run in latest if (value := getattr(run, name)) is not None), None)
        for name in VaspRun.__dataclass_fields__
    }
    known |= {name: next((value for run in runs if (value := getattr(run, name))), known[name]) for name in _EXACT}
    ends = [run.finished for run in runs if run.finished is not None]
    electronic = [run.electronic_steps for run in runs if run.electronic_steps is not None]
    last = [run for run in runs if run.ionic_steps == latest[0].ionic_steps]
    known |= {
        "finished": all(ends) if ends else None,
        "electronic_steps": max(electronic, default=None),
        "charge": next((run.charge for run in runs if run.charge is not None), None),
        "ml_steps": max(run.ml_steps for run in runs),
        "ends_by_ml": any(run.ends_by_ml for run in last),
        "sound": all(run.sound for run in last),
        "notes": tuple(dict.fromkeys(note for run in latest for note in run.notes)),
    }
    return VaspRun(**known)


def _read_vasprun(path: Path) -> VaspRun:
    with cleaned(path) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the fields show the same
                run = Vasprun(
                    file.path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False
                )
                return _run(run, file)
        except Exception as error:  # noqa: BLE001  # a file cut off in its header fails in many ways
            notes = (f"vasprun.xml is cut off before its first step ({error!r:.80})", *filter(None, (file.damage,)))
            return VaspRun(0, file.electronic_steps, finished=False, notes=notes)


def _run(run: Vasprun, file: Cleaned) -> VaspRun:
    steps, parameters = run.ionic_steps, dict(run.parameters)
    forces = [step["forces"] for step in steps]
    energy, force = (_last_energy(steps[-1]), largest_force(forces[-1])) if steps else (None, None)
    valence = sum(count * each for count, each, _ in file.species) if file.species else None
    electrons = parameters.get("NELECT")
    tags = {**parameters, **{name: run.incar[name] for name in CONTROLS if name in run.incar}}
    ended = file.ended and len(steps) == file.calculations  # else it is broken where the parser stopped
    notes = () if ended else (f"vasprun.xml is cut off after {len(steps)} finished ionic steps", file.damage)
    return VaspRun(
        ionic_steps=len(steps),
        electronic_steps=file.electronic_steps,
        finished=ended,
        electronically_converged=len(steps[-1]["electronic_steps"]) < parameters.get("NELM", 60) if steps else None,
        energy=energy,
        start_max_force=largest_force(forces[0]) if steps else None,
        max_force=force,
        force_criterion=force_criterion(parameters.get("EDIFFG")),
        optimizer=OPTIMIZERS.get(parameters.get("IBRION", -1)),
        initial=run.initial_structure,
        final=steps[-1]["structure"] if steps else None,
        closing=run.final_structure if ended else None,
        tags=dict(run.incar),
        charge=None if valence is None or electrons is None else valence - electrons,
        valence=valence,
        surface=_surface(parameters, run.kpoints, {potcar.split()[0] for *_, potcar in file.species}),
        controls={name: int(tags[name]) for name in CONTROLS if tags.get(name) is not None},
        began=file.began or None,
        ml_steps=file.ml_steps,
        ends_by_ml=file.ends_by_ml,
        sound=are_numbers(energy, force),
        notes=tuple(filter(None, notes)),
    )


def _last_energy(step: dict[str, Any]) -> float | None:
    """Return the energy of a step, eV; None where a damaged file lacks it."""
    try:
        return final_energy(step)
    except (LookupError, TypeError, ValueError):
        return None


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
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder, "OSZICAR")
            plain.write_text("".join(Lines(path)), encoding="latin-1")  # the part before a cut is read
            run = Oszicar(plain)
    except Exception as error:  # noqa: BLE001  # empty, or cut off in its first line
        return VaspRun(0, 0, notes=(f"OSZICAR is unreadable: {error!r:.80}",))
    last = run.ionic_steps[-1] if run.ionic_steps else {}
    return VaspRun(
        ionic_steps=len(run.ionic_steps),
        electronic_steps=sum(len(loop) for loop in run.electronic_steps),
        energy=last.get("E0"),
        magnetization=last.get("mag"),
        sound=are_numbers(last.get("E0")),
    )


_READERS: dict[str, Callable[[Path], VaspRun]] = {
    "vasprun.xml": _read_vasprun,
    "OUTCAR": read_outcar,
    "OSZICAR": _read_oszicar,
}
