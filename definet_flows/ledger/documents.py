"""Documents of atomate2 jobs, as objects or as a JobStore holds them, read into an Outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monty.json import jsanitize
from pydantic import BaseModel
from pymatgen.core import Structure
from pymatgen.core.trajectory import Trajectory

from definet_flows.errors import InputError
from definet_flows.ledger.outcome import (
    Outcome,
    core_hours,
    is_converged,
    largest_force,
    point_group,
    repeats_last_frame,
)
from definet_flows.ledger.vasp.output.vasprun import final_energy
from definet_flows.ledger.vasp.relaxation import read_relaxation
from definet_flows.ledger.vasp.run import OPTIMIZERS
from definet_flows.schemas import Attempt, Ledger

ASE_FORCE_CRITERION = 0.1
"""Default `fmax` of atomate2's AseRelaxer, eV/Å."""

ASE_OPTIMIZER = "FIRE"
"""Default optimiser of atomate2's AseRelaxer."""

LINE_SEARCHES = frozenset({"BFGSLineSearch", "LBFGSLineSearch", "SciPyFminBFGS", "SciPyFminCG"})
"""ASE optimisers that evaluate forces between the frames they store."""

COUNTED = "relaxation"
"""Field of a TaskDoc in which a VaspDefectRelaxMaker stores ledger, error and last positions of its folder."""

LAUNCHED = "definet_flows"
"""How a tag of an ASE document begins that is a note of the ledger."""

PROCESSOR_TAG = f"{LAUNCHED} processor seconds"
"""How the tag of an ASE document begins that states the processor time of its launch."""

Document = Mapping[str, Any]


def read_document(output: Document | BaseModel, directory: str | Path | None = None) -> Outcome:
    """Read the output of a relaxation job of atomate2.

    Parameters
    ----------
    output
        A ForceFieldTaskDocument or AseStructureTaskDoc, or an emmet (VASP) TaskDoc: the object, or the dict
        that a JobStore holds, with the additional store `data` loaded.
    directory
        Where VASP ran, if this machine sees it: a TaskDoc holds the last execution only. Not needed where the job
        was a VaspDefectRelaxMaker's, which counts them itself.

    Raises
    ------
    InputError
        If the document is none of these or holds no relaxed structure.
    """
    document = _as_mapping(output)
    if "calcs_reversed" in document:
        return _read_counted(document) if document.get(COUNTED) else _read_vasp(document, directory)
    if "ase_calculator_name" in document:
        return _read_ase(document)
    kind = document.get("@class", type(output).__name__)
    msg = f"no ledger for a document {kind!r}: an engine's job returns an ASE, force-field or VASP TaskDoc"
    raise InputError(msg)


def _as_mapping(output: Document | BaseModel) -> Document:
    """Return a document as a mapping at any depth; structures of ASE's documents stay objects."""
    if isinstance(output, Mapping):
        return output
    opened: Document = _opened(output) if hasattr(output, "ase_calculator_name") else jsanitize(output, strict=True)
    return opened


def _opened(value: Any) -> Any:  # noqa: ANN401 - any field of a document
    """Return models and trajectories as dictionaries. To write out its structures takes longer than all the rest."""
    if isinstance(value, BaseModel):
        return {name: _opened(part) for name, part in value}
    if isinstance(value, Mapping):
        return {str(name): _opened(part) for name, part in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(part, BaseModel | Mapping) for part in value):
        return [_opened(part) for part in value]
    return {"frame_properties": value.frame_properties} if isinstance(value, Trajectory) else value


def _read_ase(document: Document) -> Outcome:
    given, output = document["input"], document["output"]
    energies, forces = _frames(document)
    # a force evaluation per frame; the document counts a repeated last frame as well
    frames = len(energies) - repeats_last_frame(energies, forces) if energies else None
    optimizer = (given.get("optimizer_kwargs") or {}).get("optimizer", ASE_OPTIMIZER)
    criterion = (given.get("relax_kwargs") or {}).get("fmax", ASE_FORCE_CRITERION)
    end = _structure(output) or _structure(document)
    if end is None:
        msg = "the document holds no relaxed structure: is the job's output a relaxation?"
        raise InputError(msg)
    steps = frames or output.get("n_steps") or 0
    max_force = largest_force(output.get("forces"))
    ledger = Ledger(
        ionic_steps=steps,
        attempts=(Attempt(ionic_steps=steps, optimizer=optimizer),),
        converged=is_converged(max_force, criterion),
        force_criterion=criterion,
        start_max_force=largest_force(forces[0]) if forces else None,
        max_force=max_force,
        energy=output["energy"],
        optimizer=optimizer,
        wall_seconds=output.get("elapsed_time"),
        core_hours=core_hours(_processor_seconds(document)),
        point_group_start=point_group(_structure(given)),
        point_group_end=point_group(end),
        notes=(*_ase_notes(optimizer, loaded=frames is not None), *_launch_notes(document)),
    )
    return Outcome(structure=end, ledger=ledger, trajectory_length=frames)


def counted(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as the field `COUNTED` of a document holds it; the structure only of a failed run."""
    return {
        "ledger": outcome.ledger.model_dump(mode="json") if outcome.ledger else None,
        "error": outcome.error,
        "last": outcome.structure.as_dict() if outcome.error and outcome.structure else None,
    }


def _read_counted(document: Document) -> Outcome:
    counted = document[COUNTED]
    ledger = Ledger.model_validate(counted["ledger"]) if counted["ledger"] else None
    if counted["error"]:
        return Outcome(_structure({"structure": counted["last"]}), ledger, None, counted["error"])
    last = document["calcs_reversed"][0]["output"].get("ionic_steps")
    return Outcome(_structure(document["output"]), ledger, len(last) if last else None)


def _read_vasp(document: Document, directory: str | Path | None) -> Outcome:
    if directory is not None and Path(directory).is_dir():
        return read_relaxation(directory, where=document.get("dir_name"))
    calculations = list(reversed(document["calcs_reversed"]))  # oldest first
    attempts = tuple(_vasp_attempt(calculation) for calculation in calculations)
    steps = [step for calculation in calculations for step in calculation["output"].get("ionic_steps") or []]
    end = _structure(document["output"])
    if end is None or not steps:
        msg = f"the VASP document of {document.get('dir_name')} holds no ionic steps: leave store_trajectory at 'no'"
        raise InputError(msg)
    first, last = calculations[0], calculations[-1]
    criterion = -float((last["input"].get("parameters") or {}).get("EDIFFG") or 0.0)
    max_force = largest_force(steps[-1]["forces"])
    cores, seconds = _resources(document)
    corrections = _corrections(document)
    ledger = Ledger(
        ionic_steps=len(steps),
        electronic_steps=sum(attempt.electronic_steps or 0 for attempt in attempts),
        attempts=attempts,
        converged=_scf_converged(last) and is_converged(max_force, criterion),
        force_criterion=max(criterion, 0.0),
        start_max_force=largest_force(steps[0]["forces"]),
        max_force=max_force,
        energy=final_energy(steps[-1]),
        magnetization=(last["output"].get("outcar") or {}).get("total_magnetization"),
        optimizer=attempts[-1].optimizer,
        wall_seconds=seconds,
        cores=cores,
        core_hours=cores * seconds / 3600 if cores and seconds else None,
        point_group_start=point_group(_structure(first["input"])),
        point_group_end=point_group(end),
        notes=(f"steps of {len(corrections)} archived attempts are not in the document",) if corrections else (),
    )
    return Outcome(structure=end, ledger=ledger, trajectory_length=len(steps))


def _vasp_attempt(calculation: Document) -> Attempt:
    steps = calculation["output"].get("ionic_steps") or []
    parameters = calculation["input"].get("parameters") or {}
    return Attempt(
        ionic_steps=len(steps),
        electronic_steps=sum(len(step.get("electronic_steps") or []) for step in steps),
        optimizer=OPTIMIZERS.get(parameters.get("IBRION", -1)),
        finished=calculation.get("has_vasp_completed") in (True, "successful"),
    )


def _scf_converged(calculation: Document) -> bool:
    """Return whether the last ionic step's electronic loop ended before NELM: else its forces mean little."""
    limit = int((calculation["input"].get("parameters") or {}).get("NELM", 60))
    return len(calculation["output"]["ionic_steps"][-1].get("electronic_steps") or []) < limit


def _resources(document: Document) -> tuple[int | None, float | None]:
    """Return the cores of a VASP run and the wall seconds of all its calculations."""
    stats = (document.get("run_stats") or {}).get("overall") or {}
    return stats.get("cores") or None, stats.get("elapsed_time") or None


def _corrections(document: Document) -> list[Document]:
    return [correction for job in document.get("custodian") or [] for correction in job.get("corrections") or []]


def _ase_notes(optimizer: str, *, loaded: bool) -> tuple[str, ...]:
    notes = []
    if optimizer in LINE_SEARCHES:
        notes.append(f"{optimizer} evaluates forces between stored frames: steps are a lower bound")
    if not loaded:
        notes.append("no trajectory in the document: steps as the job states them, the last may count twice")
    return tuple(notes)


def _launch_notes(document: Document) -> tuple[str, ...]:
    return _tagged(document, LAUNCHED)


def _processor_seconds(document: Document) -> float | None:
    """Return the processor time that a launch has stated, s; None if it is unknown."""
    return next(map(float, _tagged(document, PROCESSOR_TAG)), None)


def _tagged(document: Document, name: str) -> tuple[str, ...]:
    """Return the texts of the tags `NAME: TEXT` of an ASE document."""
    begin = f"{name}: "
    return tuple(str(tag).removeprefix(begin) for tag in document.get("tags") or () if str(tag).startswith(begin))


def _frames(document: Document) -> tuple[Sequence[float], Sequence[Any]]:
    """Return energies (eV) and forces [n_atoms, 3] (eV/Å) of all stored frames; empty where none is loaded."""
    trajectory = (document.get("objects") or {}).get("trajectory") or {}
    if trajectory.get("forces"):  # emmet's AtomTrajectory
        return trajectory["energy"], trajectory["forces"]
    # pymatgen's Trajectory, or the document's own list; either may be a reference to a blob not loaded
    steps = trajectory.get("frame_properties") or document["output"].get("ionic_steps") or []
    if isinstance(steps, Mapping) or any(step.get("forces") is None for step in steps):
        return [], []
    return [step["energy"] for step in steps], [step["forces"] for step in steps]


def _structure(part: Document) -> Structure | None:
    """Return the structure of a document's part, under any of its names."""
    for name in ("structure", "mol_or_struct"):
        value = part.get(name)
        if isinstance(value, Structure):
            return value
        if isinstance(value, Mapping):
            return Structure.from_dict(dict(value))
    return None
