"""Relaxations that stopped: they go on from the last positions in their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, DefectRecord, FloatArray
from definet_flows.workflows.engines.vasp.inputs import CONTINUED
from definet_flows.workflows.recording.cases import settings_hash_of
from definet_flows.workflows.recording.provenance import now, versions

if TYPE_CHECKING:
    from definet_flows.schemas import SiteMap
    from definet_flows.workflows.engines.base import Engine


def next_structure(record: DefectRecord, engine: Engine) -> Structure:
    """Return the structure from which the engine goes on with the relaxation of a record.

    The last positions if there are any, else the start; marks are read off the unrelaxed structure.

    Raises
    ------
    InputError
        If the record has no table of sites, was made with other settings, or its start has no positions.
    """
    sites = record.sites
    if sites is None:
        msg = f"record {record.id} holds no positions: run the flow again instead"
        raise InputError(msg)
    if record.settings_hash not in {settings_hash_of(engine, relaxed_host=flag) for flag in (True, False)}:
        msg = f"record {record.id} was made with other settings of {record.engine}: go on with the engine it began with"
        raise InputError(msg)
    first = sites.unrelaxed if record.start == "unrelaxed" else sites.predicted
    reached = sites.relaxed if sites.last is None else sites.last
    positions = first if reached is None else reached
    if positions is None:
        msg = f"record {record.id} has no {record.start} positions to start from"
        raise InputError(msg)
    structure = _structure(record, sites, positions)
    if reached is not None:
        structure.properties[CONTINUED] = True
    markers = np.array([int(marker) for marker in sites.markers])
    defects = sites.unrelaxed[markers != 0] @ np.linalg.inv(record.host.lattice)
    return engine.prepare(structure, _structure(record, sites, sites.unrelaxed), defects)


def _structure(record: DefectRecord, sites: SiteMap, positions: FloatArray) -> Structure:
    rows = [row for row, marker in enumerate(sites.markers) if int(marker) != VACANCY]
    return Structure(
        record.host.lattice,
        np.array(sites.numbers)[rows].tolist(),
        positions[rows],
        coords_are_cartesian=True,
        charge=record.configuration.charge,
    )


def resumed(record: DefectRecord, job_uuid: str) -> DefectRecord:
    """Return the record of a relaxation that goes on; its steps so far stay in its ledger.

    The folder of a launch that was killed stays too: `take_over` counts its steps.
    """
    folder = record.provenance.directory if record.status == "running" else None
    provenance = record.provenance.model_copy(
        update={"versions": versions(), "started": now(), "finished": None, "directory": folder, "job_uuid": job_uuid}
    )
    return record.model_copy(update={"status": "running", "error": None, "provenance": provenance})
