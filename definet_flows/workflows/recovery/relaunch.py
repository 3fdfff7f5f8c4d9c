"""Relaxations whose process was killed: the folder is found again, its steps count, its positions are kept.

FireWorks runs a lost job again in a new folder, as the same job. Each start therefore says in the record and in the
folder which job runs where; the next start of the job finds the folder before, and goes on from there.
"""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monty.serialization import dumpfn

from definet_flows.errors import InputError
from definet_flows.ledger import Outcome, read_relaxation, read_steps
from definet_flows.stores import open_store
from definet_flows.workflows.engines.vasp.inputs import CONTINUED
from definet_flows.workflows.engines.vasp.run import RECORD_FILE, folder_name
from definet_flows.workflows.recording.ends import completed
from definet_flows.workflows.recording.provenance import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Structure

    from definet_flows.schemas import AnyRun, DefectRecord, SiteMap
    from definet_flows.stores import Records

STEPS_FILE = "relaxation.traj"
"""Where a relaxation with an ASE calculator keeps each step, in its job's folder."""
ERROR_FILE = "definet_error.txt"
"""What ended such a relaxation, if its process lived to say."""

_LONGEST = 500  # characters of an error

logger = logging.getLogger(f"jobflow.{__name__}")


def take_over(
    claim: Mapping[str, Any], structure: Structure, folder: Path, order: Sequence[int]
) -> tuple[Structure, tuple[str, ...]]:
    """Write into its record where a relaxation runs; if an earlier process was killed, go on from its last positions.

    Parameters
    ----------
    claim
        "record" (its id, or that of a HostRun) and "store" (the record store's name), as `Engine.relaxation` gave them
        to the job.
    structure
        The structure that the job got.
    folder
        Where it runs.
    order
        Row k of what the engine computes is row order[k] of the structure.

    Returns
    -------
    structure
        As given, or at the last positions of the launch before.
    notes
        Notes for a reader of the ledger.
    """
    dumpfn({**claim, "place": folder_name(folder)}, folder / RECORD_FILE)
    try:
        with open_store(claim["store"]) as records:
            known = claim["record"]
            placed = _placed(records, records.record(known), folder) or _placed(
                records, records.host_run(known), folder
            )
    except InputError as error:  # a worker without the database relaxes all the same
        logger.warning("the folder of record %s is not in its store: %s", claim["record"], error)
        return structure, ()
    if placed is None:
        return structure, ()
    sites, notes = placed
    return _moved(structure, sites, order), notes


def _placed(records: Records, run: AnyRun | None, folder: Path) -> tuple[SiteMap | None, tuple[str, ...]] | None:
    """Write where a relaxation runs, the launch before counted; return its sites and notes, None if it does not run."""
    if run is None or run.status != "running":
        return None
    run, notes = _collected(run, folder)
    machine, _, directory = folder_name(folder).partition(":")
    here = run.provenance.model_copy(update={"hostname": machine, "directory": directory, "finished": None})
    records.put(run.model_copy(update={"status": "running", "error": None, "provenance": here}))
    return run.sites, notes


def _collected(record: AnyRun, folder: Path) -> tuple[AnyRun, tuple[str, ...]]:
    """Return the record with the launch before counted, and a note if it cannot be.

    A job is only begun, or run again, when the launch before is known to have ended.
    """
    place = record.provenance
    if place.directory is None or Path(place.directory) == folder:
        return record, ()
    earlier = Path(place.directory)
    claimed = read_claim(earlier / RECORD_FILE)
    if claimed.get("record") != record.id:
        where = f"{place.hostname}:{place.directory}"
        return record, (f"an earlier launch in {where} cannot be read from here: its steps are not counted",)
    where = str(claimed.get("place") or folder_name(earlier))
    found = stopped(record, earlier, where)
    if found.ledger is None or where not in {attempt.directory for attempt in found.ledger.attempts}:
        return found, (f"an earlier launch in {where} left no output: no steps are counted of it",)
    return found, ()


def read_claim(path: Path) -> dict[str, Any]:
    """Return the content of a folder's `RECORD_FILE`; empty if it is missing or cut off."""
    try:
        claimed = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return claimed if isinstance(claimed, dict) else {}


def stopped(record: AnyRun, folder: Path, where: str) -> AnyRun:
    """Return a running record as failed, with the steps and the last positions of the folder it was killed in."""
    machine, _, directory = where.partition(":")
    try:
        outcome = _outcome(folder, where)
    except InputError:
        outcome = Outcome(None, None, None)
    placed = record.provenance.model_copy(update={"hostname": machine, "directory": directory, "finished": now()})
    return completed(record.model_copy(update={"provenance": placed}), replace(outcome, error=_error(folder, where)))


def lost(record: DefectRecord) -> DefectRecord | None:
    """Return a running record whose job left no document as failed, with what its folder holds; None if it cannot be.

    That folder may be on another machine, or counted already.
    """
    place = record.provenance
    folder = Path(place.directory or "")
    if place.directory is None or place.hostname != socket.gethostname() or not folder.is_dir():
        return None
    told = read_claim(folder / RECORD_FILE)
    where = str(told.get("place"))
    counted = {attempt.directory for attempt in record.ledger.attempts} if record.ledger is not None else set()
    return stopped(record, folder, where) if told.get("record") == record.id and where not in counted else None


def _outcome(folder: Path, where: str) -> Outcome:
    told = read_claim(folder / RECORD_FILE)
    seconds = _wall_seconds(folder)
    if "criterion" not in told:
        return read_relaxation(folder, where=where, wall_seconds=seconds)
    return read_steps(
        folder / STEPS_FILE,
        criterion=told["criterion"],
        optimizer=told["optimizer"],
        where=where,
        wall_seconds=seconds,
    )


def _error(folder: Path, where: str) -> str:
    path = folder / ERROR_FILE
    words = path.read_text(errors="replace") if path.is_file() else f"killed in {where}"
    return " ".join(words.split())[:_LONGEST]


def _wall_seconds(folder: Path) -> float | None:
    """Return the time from a launch's start to the last sign of life in its folder, s; None if it is unknown."""
    began = (folder / RECORD_FILE).stat().st_mtime
    last = max(path.stat().st_mtime for path in folder.iterdir())
    return last - began if last > began else None


def _moved(structure: Structure, sites: SiteMap | None, order: Sequence[int]) -> Structure:
    """Return the structure at the last positions of the sites, if there are any; marks and charge are kept."""
    if sites is None or sites.last is None:
        return structure
    coords = structure.cart_coords
    coords[list(order)] = sites.last[list(sites.permutation)]
    moved = structure.copy()
    for row, point in enumerate(coords):
        moved.replace(row, moved[row].species, point, coords_are_cartesian=True, properties=moved[row].properties)
    moved.properties = {**moved.properties, CONTINUED: True}
    return moved
