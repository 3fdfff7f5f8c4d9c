"""Records for other programs: a table of ledgers as CSV, structures as extended XYZ."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.io import write

from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, DefectRecord
from definet_flows.stores.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from definet_flows.stores.access import Records
    from definet_flows.stores.ledgers import LedgerRow

COLUMNS: dict[str, str] = {
    "id": "",
    "configuration_id": "",
    "settings_hash": "",
    "engine": "",
    "host": "",
    "n_sites": "",
    "name": "",
    "n_defects": "",
    "start": "",
    "status": "",
    "ionic_steps": "",
    "electronic_steps": "",
    "core_hours": " [h]",
    "wall_seconds": " [s]",
    "converged": "",
    "start_max_force": " [eV/Å]",
    "max_force": " [eV/Å]",
    "energy": " [eV]",
    "weights": "",
    "gate": "",
    "gate_reason": "",
    "error": "",
}
"""Columns of the CSV table with their units."""

_EVERYTHING = Filter()


def write_csv(records: Records, path: Path, where: Filter = _EVERYTHING) -> int:
    """Write one line per record, without structures; return how many.

    Raises
    ------
    InputError
        If no record matches or the file cannot be written; an existing file is then kept.
    """
    with _replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow([name + unit for name, unit in COLUMNS.items()])
        lines = [_line(row) for row in records.ledgers(where)]
        _refuse_nothing(len(lines))
        writer.writerows(lines)
    return len(lines)


def _line(row: LedgerRow) -> list[object]:
    ledger = row.ledger.model_dump() if row.ledger else {}
    gate = row.prediction.gate if row.prediction else None
    own = row.model_dump() | ledger | {"host": row.host.formula, "n_sites": row.host.n_sites, "weights": row.weights}
    own |= {"gate": gate.verdict, "gate_reason": gate.reason} if gate else {}
    return [own.get(name) for name in COLUMNS]


def write_extxyz(records: Records, path: Path, where: Filter = _EVERYTHING) -> int:
    """Write the relaxed structures of finished records; return how many.

    The starts are arrays `unrelaxed` and `predicted` (Å) beside the relaxed positions, ids and the
    final energy (eV) stand in the comment line. Vacancies are left out.

    Raises
    ------
    InputError
        If no record matches or the file cannot be written; an existing file is then kept.
    """
    count = 0
    with _replacing(path) as file:
        for record in records.records(where):
            if record.status == "done" and record.sites is not None:
                write(file, relaxed_atoms(record), format="extxyz")
                count += 1
        _refuse_nothing(count)
    return count


def relaxed_atoms(record: DefectRecord) -> Atoms:
    """Return the relaxed atoms of a finished record, in the order of its site map."""
    sites = record.sites
    if sites is None or sites.relaxed is None:
        msg = f"record {record.id} has no relaxed structure: its status is {record.status}"
        raise InputError(msg)
    kept = np.array([marker != str(VACANCY) for marker in sites.markers])
    atoms = Atoms(np.array(sites.numbers)[kept], sites.relaxed[kept], cell=record.host.lattice, pbc=True)
    atoms.arrays["unrelaxed"] = sites.unrelaxed[kept]
    if sites.predicted is not None:
        atoms.arrays["predicted"] = sites.predicted[kept]
    fields = ("id", "configuration_id", "settings_hash", "engine", "start", "name")
    atoms.info |= {field: getattr(record, field) for field in fields} | {"charge": record.configuration.charge}
    if record.ledger is not None and record.ledger.energy is not None:
        atoms.info["final_energy"] = record.ledger.energy
    return atoms


def _refuse_nothing(count: int) -> None:
    if not count:
        msg = "no record matches: nothing written; the store is empty or the filters exclude everything in it"
        raise InputError(msg)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """Open a file that takes the place of `path` only once it is complete."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror}): name another file"
        raise InputError(msg) from None
    finally:
        part.unlink(missing_ok=True)
