"""Relaxations whose process was killed: the folder is found again, its steps count, its positions are kept.

FireWorks runs a lost job again in a new folder, as the same job. Each start therefore says in the record and in the
folder which job runs where; the next start of the job finds the folder before, and goes on from there.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monty.serialization import dumpfn

from definet_flows.errors import InputError
from definet_flows.ledger import Outcome, read_relaxation
from definet_flows.stores import open_store
from definet_flows.workflows.engines.vasp.inputs import CONTINUED, site_order
from definet_flows.workflows.engines.vasp.run import RECORD_FILE, folder_name
from definet_flows.workflows.recording.ends import completed
from definet_flows.workflows.recording.provenance import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.core import Structure

    from definet_flows.schemas import DefectRecord

logger = logging.getLogger(f"jobflow.{__name__}")


def take_over(claim: Mapping[str, Any], structure: Structure, folder: Path) -> tuple[Structure, tuple[str, ...]]:
    """Write into its record where a relaxation runs; if an earlier process was killed, go on from its last positions.

    Parameters
    ----------
    claim
        "record" (its id) and "store" (the record store's name), as `Engine.relaxation` gave them to the job.
    structure
        The structure that the job got.
    folder
        Where it runs.

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
            record = records.record(claim["record"])
            if record is None or record.status != "running":
                return structure, ()
            record, notes = _collected(record, folder)
            machine, _, directory = folder_name(folder).partition(":")
            here = record.provenance.model_copy(update={"hostname": machine, "directory": directory, "finished": None})
            records.put(record.model_copy(update={"status": "running", "error": None, "provenance": here}))
    except InputError as error:  # a worker without the database relaxes all the same
        logger.warning("the folder of record %s is not in its store: %s", claim["record"], error)
        return structure, ()
    return _moved(structure, record), notes


def _collected(record: DefectRecord, folder: Path) -> tuple[DefectRecord, tuple[str, ...]]:
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
        return found, (f"an earlier launch in {where} left no output of VASP: no steps are counted of it",)
    return found, ()


def read_claim(path: Path) -> dict[str, Any]:
    """Return the content of a folder's `RECORD_FILE`; empty if it is missing or cut off."""
    try:
        claimed = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return claimed if isinstance(claimed, dict) else {}


def stopped(record: DefectRecord, folder: Path, where: str) -> DefectRecord:
    """Return a running record as failed, with the steps and the last positions of the folder it was killed in."""
    machine, _, directory = where.partition(":")
    try:
        outcome = read_relaxation(folder, where=where, wall_seconds=_wall_seconds(folder))
    except InputError:
        outcome = Outcome(None, None, None)
    placed = record.provenance.model_copy(update={"hostname": machine, "directory": directory, "finished": now()})
    return completed(record.model_copy(update={"provenance": placed}), replace(outcome, error=f"killed in {where}"))


def _wall_seconds(folder: Path) -> float | None:
    """Return the time from a launch's start to the last sign of life in its folder, s; None if it is unknown."""
    began = (folder / RECORD_FILE).stat().st_mtime
    last = max(path.stat().st_mtime for path in folder.iterdir())
    return last - began if last > began else None


def _moved(structure: Structure, record: DefectRecord) -> Structure:
    """Return the structure at the record's last positions, if it has any; marks and charge are kept."""
    sites = record.sites
    if sites is None or sites.last is None:
        return structure
    coords = structure.cart_coords
    coords[list(site_order(structure))] = sites.last[list(sites.permutation)]
    moved = structure.copy()
    for row, point in enumerate(coords):
        moved.replace(row, moved[row].species, point, coords_are_cartesian=True, properties=moved[row].properties)
    moved.properties = {**moved.properties, CONTINUED: True}
    return moved
