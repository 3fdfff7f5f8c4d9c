"""Records for other programs: tables as CSV and pandas, structures as extended XYZ and ase.db."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import ase.db
import numpy as np
import pandas as pd
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.core import str_represents
from ase.io import write

from definet_flows.atomic import replacing, unwritable
from definet_flows.errors import InputError
from definet_flows.foreign import cell, one_line
from definet_flows.schemas import VACANCY, DefectRecord
from definet_flows.stores.analysis.gates import joined_rows
from definet_flows.stores.analysis.rows import PairRow, RecordRow, with_charges
from definet_flows.stores.filters import Filter
from definet_flows.stores.opening import StoreLike, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from definet_flows.stores.records import Records

UNITS = {
    "charge": " [e]",
    "core_hours": " [h]",
    "wall_seconds": " [s]",
    "proposal_seconds": " [s]",
    "proposal_core_seconds": " [s]",
    "start_max_force": " [eV/Å]",
    "max_force": " [eV/Å]",
    "energy": " [eV]",
}
"""Units after the names of columns in the CSV table."""

_ASE_TYPES = (bool, int, float)
_EVERYTHING = Filter()
_ORDER = ("host", "n_defects", "name", "charge", "configuration_id")
_FACTS = ("configuration_id", "settings_hash", "engine", "start", "name")


def record_frame(records: Records | StoreLike, where: Filter = _EVERYTHING) -> pd.DataFrame:
    """Return one row per relaxation, by host, defects, charge and start; columns are the fields of a RecordRow.

    Charges are in e, costs in ionic and electronic steps, core-hours (h) and s, forces in eV/Å, energies in eV. What a
    ledger does not state is NaN. The cost of a proposal stands in the rows of the relaxations that start from it.

    Parameters
    ----------
    records
        Open records; or a maggma Store, a path or a name, as in `open_store`, which is opened for reading.
    where
        Which records count.
    """
    with opened(records) as found:
        frame = pd.DataFrame(joined_rows(found, where)[0], columns=list(RecordRow._fields))
    proposal = ["proposal_seconds", "proposal_core_seconds"]
    frame.loc[frame["start"] == "unrelaxed", proposal] = None
    frame = _unknown_as_nan(frame, [*proposal, *frame.columns[list(frame.columns).index("ionic_steps") :]])
    return frame.sort_values([*_ORDER, "start", "id"], ignore_index=True)


def pair_frame(records: Records | StoreLike, where: Filter = _EVERYTHING) -> pd.DataFrame:
    """Return one row per pair, by host, defects and charge; columns are the fields of a PairRow, unknown costs NaN.

    Parameters
    ----------
    records
        Open records; or a maggma Store, a path or a name, as in `open_store`, which is opened for reading.
    where
        Which pairs count.
    """
    with opened(records) as found:
        rows = found.record_rows(Filter(configuration_ids=where.configuration_ids))
        frame = pd.DataFrame(with_charges(found.pair_rows(where), rows), columns=list(PairRow._fields))
    frame = _unknown_as_nan(frame, frame.columns[list(frame.columns).index("electronic_unrelaxed") :])
    return frame.sort_values([*_ORDER, "id"], ignore_index=True)


def _unknown_as_nan(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return a frame whose numbers in these columns are NaN where no ledger states them."""
    return frame.astype({name: float for name in columns if frame[name].dtype == object})


arms_frame, ends_frame = record_frame, pair_frame
"""Former names."""


def write_csv(records: Records, path: Path, where: Filter = _EVERYTHING) -> int:
    """Write a line per record, without structures; return their number.

    Text that a spreadsheet would take for a formula gets an apostrophe in front (`foreign.cell`).

    Raises
    ------
    InputError
        If no record matches or the file cannot be written; an existing file is then kept.
    """
    frame = record_frame(records, where)
    refuse_nothing(len(frame))
    counts = dict.fromkeys(("ionic_steps", "electronic_steps", "cores"), "Int64")  # whole numbers, some of them missing
    with replacing(path) as part:
        # The cast comes last: before pandas 3.1, `map` turns Int64 with missing values into floats.
        table = frame.map(cell).astype(counts).rename(columns=lambda name: name + UNITS.get(name, ""))
        table.to_csv(part, index=False)
    return len(frame)


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
    with replacing(path) as part:
        with part.open("w", encoding="utf-8") as file:
            for record in finished(records, where):
                write(file, _in_a_line(relaxed_atoms(record)), format="extxyz")
                count += 1
        refuse_nothing(count)
    return count


def write_ase_db(records: Records, path: Path, where: Filter = _EVERYTHING) -> int:
    """Write the relaxed structures of finished records into a database of ASE; return how many.

    Rows have the energy (eV), and as keys host, name, engine, start, n_sites, n_defects, charge, converged and
    ionic_steps; ids and the tables `unrelaxed` and `predicted` (Å) are in `data`.

    Raises
    ------
    InputError
        As `write_extxyz`.
    """
    with replacing(path) as part:
        part.write_bytes(
            b""
        )  # an empty file is an empty database; creating it shows at once if the folder can be written
        try:
            count = _fill_database(records, part, where)
        except sqlite3.Error as error:
            raise unwritable(path, error) from None
        refuse_nothing(count)
    return count


def _in_a_line(atoms: Atoms) -> Atoms:
    """Make the words of the comment line plain: a line feed would end it."""
    words = {key: one_line(value) for key, value in atoms.info.items() if isinstance(value, str)}
    atoms.info.update(words)
    return atoms


def _fill_database(records: Records, part: Path, where: Filter) -> int:
    count = 0
    with ase.db.connect(part, type="db") as database:  # type: ignore[no-untyped-call]
        for record in finished(records, where):
            atoms = relaxed_atoms(record)
            data: dict[str, Any] = {
                name: atoms.arrays[name] for name in ("unrelaxed", "predicted") if name in atoms.arrays
            }
            database.write(atoms, key_value_pairs=_keys(record), data=data | _facts(record))
            count += 1
    return count


def refuse_nothing(count: int) -> None:
    """Refuse an export of nothing.

    Raises
    ------
    InputError
        If the count is zero.
    """
    if not count:
        msg = "no relaxation that matches has a finished end that this format takes: nothing written"
        raise InputError(msg)


def finished(records: Records, where: Filter = _EVERYTHING) -> Iterator[DefectRecord]:
    """Yield the records that have a relaxed structure; for weights also those from the unrelaxed start."""
    asked: set[str] | None = None
    if where.weights is not None:  # relaxations from the unrelaxed start that these were asked about count too
        asked = {row.id for row in joined_rows(records, where)[0]}
        where = where.model_copy(update={"weights": None})
    for record in records.records(where):
        if record.status != "done" or record.sites is None or record.sites.relaxed is None:
            continue
        if asked is None or record.id in asked:
            yield record


def relaxed_atoms(record: DefectRecord) -> Atoms:
    """Return the relaxed atoms of a finished record, in the order of its site map, with the energy (eV) if known."""
    sites = record.sites
    if sites is None or sites.relaxed is None:
        msg = f"record {record.id} has no relaxed structure: its status is {record.status}"
        raise InputError(msg)
    kept = np.array([marker != str(VACANCY) for marker in sites.markers])
    atoms = Atoms(np.array(sites.numbers)[kept], sites.relaxed[kept], cell=record.host.lattice, pbc=True)
    atoms.arrays["unrelaxed"] = sites.unrelaxed[kept]
    if sites.predicted is not None:
        atoms.arrays["predicted"] = sites.predicted[kept]
    atoms.info |= _facts(record) | {"charge": record.configuration.charge}
    if record.ledger is not None and record.ledger.energy is not None:
        atoms.info["final_energy"] = record.ledger.energy
        atoms.calc = SinglePointCalculator(atoms, energy=record.ledger.energy)  # type: ignore[no-untyped-call]
    return atoms


def _facts(record: DefectRecord) -> dict[str, Any]:
    return {"id": record.id} | {field: getattr(record, field) for field in _FACTS}


def _reads_as(word: str) -> Callable[[type], bool]:
    return lambda kind: bool(str_represents(word, kind))  # type: ignore[no-untyped-call]


def _keys(record: DefectRecord) -> dict[str, Any]:
    """Return the searchable keys of a database of ASE; it takes no text that reads as a number, so no hashes."""
    words = {name: getattr(record, name) for name in ("name", "engine", "start")} | {"host": record.host.formula}
    keys: dict[str, Any] = {name: word for name, word in words.items() if not any(map(_reads_as(word), _ASE_TYPES))}
    keys |= {"n_defects": record.n_defects, "n_sites": record.host.n_sites, "charge": record.configuration.charge}
    if record.ledger is not None:
        steps = record.ledger.ionic_steps
        keys |= {"converged": record.ledger.converged} | ({} if steps is None else {"ionic_steps": steps})
    return keys
