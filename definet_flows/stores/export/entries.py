"""Relaxed defects as DefectEntry objects of pymatgen-analysis-defects, for formation energies."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from monty.serialization import dumpfn
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from definet_flows.atomic import replacing
from definet_flows.defects.reading.convert import doped_name, to_pymatgen
from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, DefectRecord, FloatArray, RelaxedHost, signed
from definet_flows.stores.export.tables import finished, refuse_nothing
from definet_flows.stores.filters import Filter
from definet_flows.stores.learning.pristine import pristine_of
from definet_flows.stores.opening import StoreLike, opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.analysis.defects.thermo import DefectEntry

    from definet_flows.stores.records import Records

_EVERYTHING = Filter()


def defect_entries(records: Records | StoreLike, where: Filter = _EVERYTHING) -> dict[str, DefectEntry]:
    """Return the finished records with an energy as entries; the lowest end of each configuration.

    The bulk entry is the neutral pristine host relaxed with the same settings, where the store has it with an energy:
    by a campaign or ingested. Energies (eV) are the engine's, without any correction for charge.

    Parameters
    ----------
    records
        Open records; or a maggma Store, a path or a name, as in `open_store`, which is opened for reading.
    where
        Only these.

    Returns
    -------
    dict
        By doped's names (`v_S_0`, `W_Mo_-1`); complexes by the names of their parts; a number is added to equal names.

    Raises
    ------
    InputError
        If no record matches, or pymatgen-analysis-defects is not installed.
    """
    lowest: dict[tuple[str, str], DefectRecord] = {}
    with opened(records) as store:
        for record in finished(store, where):
            key = record.configuration_id, record.settings_hash
            if _energy(record) is not None and (key not in lowest or _rank(record) < _rank(lowest[key])):
                lowest[key] = record
        refuse_nothing(len(lowest))
        hosts = {host.settings_hash + host.host.hash: host for host in store.find(RelaxedHost)}
    found: dict[str, DefectEntry] = {}
    for record in sorted(lowest.values(), key=lambda end: (end.n_defects, end.name, end.id)):
        name = stem = _name(record)
        number = 1
        while name in found:
            number += 1
            name = f"{stem} ({number})"
        found[name] = _entry(record, hosts.get(record.settings_hash + record.host.hash))
    return found


def write_entries(records: Records, path: Path, where: Filter = _EVERYTHING) -> int:
    """Write `defect_entries` as JSON, which `monty.serialization.loadfn` reads back as objects; return how many.

    Raises
    ------
    InputError
        As `defect_entries`, or if the file cannot be written; an existing file is then kept.
    """
    entries = defect_entries(records, where)
    with replacing(path) as part, warnings.catch_warnings():
        # The charge of a cell whose atoms have no oxidation states.
        warnings.filterwarnings("ignore", "Structure charge", UserWarning)
        dumpfn(entries, part, fmt="json")
    return len(entries)


def _energy(record: DefectRecord) -> float | None:
    return None if record.ledger is None else record.ledger.energy


def _rank(record: DefectRecord) -> tuple[float, str]:
    energy = _energy(record)
    return np.inf if energy is None else energy, record.id


def _name(record: DefectRecord) -> str:
    if record.n_defects == 1:
        try:
            return doped_name(pristine_of(record), record.configuration)
        except InputError:  # a relaxed host that lost its symmetry, or no candidate sites: the plain name
            pass
    charge = record.configuration.charge
    return f"{record.name}_{signed(charge)}"


def _entry(record: DefectRecord, host: RelaxedHost | None) -> DefectEntry:
    defect = to_pymatgen(pristine_of(record), record.configuration)  # refuses if the package is missing
    from pymatgen.analysis.defects.thermo import DefectEntry  # noqa: PLC0415 - an extra

    assert record.sites is not None  # noqa: S101 - `finished` yields no other
    sites = record.sites
    kept = [row for row, marker in enumerate(sites.markers) if int(marker) != VACANCY]
    structure = _structure(record, np.array(sites.numbers)[kept].tolist(), sites.relaxed, kept)
    first = next(row for row, marker in enumerate(sites.markers) if marker != "0")
    place = sites.unrelaxed[first] @ np.linalg.inv(record.host.lattice)
    return DefectEntry(
        defect=defect,
        charge_state=record.configuration.charge,
        sc_entry=_computed(structure, _energy(record), record.id, record),
        sc_defect_frac_coords=tuple(place.tolist()),
        bulk_entry=None if host is None or host.ledger.energy is None else _bulk(record, host),
        entry_id=record.id,
    )


def _bulk(record: DefectRecord, host: RelaxedHost) -> ComputedStructureEntry:
    pristine = pristine_of(record)
    numbers: list[Any] = list(pristine.numbers)
    structure = Structure(record.host.lattice, numbers, host.relaxed, coords_are_cartesian=True)
    return _computed(structure, host.ledger.energy, host.id, record)


def _structure(record: DefectRecord, numbers: Sequence[Any], table: FloatArray | None, rows: list[int]) -> Structure:
    assert table is not None  # noqa: S101 - of a finished record
    charge = record.configuration.charge
    return Structure(record.host.lattice, numbers, table[rows], coords_are_cartesian=True, charge=charge or None)


def _computed(
    structure: Structure, energy: float | None, identity: str, record: DefectRecord
) -> ComputedStructureEntry:
    data: dict[str, Any] = {"configuration_id": record.configuration_id, "settings_hash": record.settings_hash}
    parameters = {"engine": record.engine}
    return ComputedStructureEntry(structure, energy or 0.0, parameters=parameters, data=data, entry_id=identity)
