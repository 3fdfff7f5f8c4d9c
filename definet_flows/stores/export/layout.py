"""Relaxed structures as folders of CIF files in the layout of the 2DMD archive.

As in doi:10.5281/zenodo.14027373: a folder per set with `CIF/<id>_unrelaxed.cif` and `<id>_relaxed.cif`, lists
`train.csv`, `val.csv`, `test.csv` with a column `atoms_id`, and the pristine cell beside the set. Here the pristine
cell is the whole supercell, with the sites that the defects were made on.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.io import write
from pymatgen.core import Composition

from definet_flows.atomic import new_folder
from definet_flows.foreign import file_name
from definet_flows.hosts import to_structure
from definet_flows.schemas import INSERTED, VACANCY, DefectRecord, FloatArray, content_hash
from definet_flows.stores.export.tables import finished, refuse_nothing
from definet_flows.stores.filters import Filter
from definet_flows.stores.learning.pristine import pristine_of
from definet_flows.stores.learning.splits import SHARES, Motifs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from definet_flows.stores.records import Records

_EVERYTHING = Filter()


@dataclass(frozen=True)
class Written:
    """Numbers of the structures in a folder, and of those that were left out."""

    structures: int
    left_out: int


def write_cif_folder(records: Records, folder: Path, where: Filter = _EVERYTHING) -> Written:
    """Write a set for each host and settings; the lowest end of each configuration.

    The splits are those of training. The layout knows neither charges nor inserted atoms: such records are left
    out, as are relaxations that did not converge.

    Parameters
    ----------
    records
        An open store.
    folder
        To be made; gets `<set>.cif` (the bulk supercell) and `<set>/` for each set, named by formula, number of
        sites and settings.
    where
        Only these.

    Raises
    ------
    InputError
        If no record matches, the folder exists or cannot be made.
    """
    lowest: dict[tuple[str, str], tuple[float, str]] = {}
    left_out = 0
    for record in finished(records, where):
        if not _fits(record):
            left_out += 1
            continue
        key, rank = (record.configuration_id, record.settings_hash), (_energy(record), record.id)
        lowest[key] = min(lowest.get(key, rank), rank)
    refuse_nothing(len(lowest))
    chosen = {identity for _, identity in lowest.values()}
    with new_folder(folder) as part:
        _write_sets(part, (record for record in finished(records, where) if record.id in chosen))
    return Written(len(chosen), left_out)


def _fits(record: DefectRecord) -> bool:
    inserted = record.sites is None or str(INSERTED) in record.sites.markers
    converged = record.ledger is not None and record.ledger.converged
    return converged and not inserted and record.configuration.charge == 0


def _energy(record: DefectRecord) -> float:
    return np.inf if record.ledger is None or record.ledger.energy is None else record.ledger.energy


def _write_sets(folder: Path, chosen: Iterable[DefectRecord]) -> None:
    lists: dict[str, dict[str, list[str]]] = defaultdict(lambda: {split: [] for split in SHARES})
    motifs: dict[str, Motifs] = {}
    names = _Names()
    for record in chosen:
        name = names.of(record)
        if name not in motifs:
            pristine = pristine_of(record)
            motifs[name] = Motifs(pristine)
            (folder / name / "CIF").mkdir(parents=True)
            to_structure(pristine).to(str(folder / f"{name}.cif"))
        lists[name][motifs[name].split(record.configuration)].append(_write_pair(folder / name / "CIF", record))
    for name, splits in lists.items():
        for split, entries in splits.items():
            with (folder / name / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["atoms_id"], *([entry] for entry in sorted(entries))])


class _Names:
    """Names of sets: readable where the records allow it, never the same for two sets, capitals set aside."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int, str, str], str] = {}

    def of(self, record: DefectRecord) -> str:
        """Return the name of the set that a record belongs to."""
        host = record.host
        key = (host.formula, host.n_sites, record.settings_hash, host.hash)
        if key not in self._names:
            taken = {name.casefold() for name in self._names.values()}
            name = stem = file_name(f"{host.formula}_{host.n_sites}_{record.settings_hash[:8]}_{host.hash[:8]}")
            while name.casefold() in taken:
                name = f"{stem}-{content_hash(key, name)[:8]}"
            self._names[key] = name
        return self._names[key]


def _write_pair(folder: Path, record: DefectRecord) -> str:
    """Write both structures of a record; return the entry's id, which carries the composition."""
    assert record.sites is not None  # noqa: S101 - `finished` yields no other
    assert record.sites.relaxed is not None  # noqa: S101
    kept = np.array([marker != str(VACANCY) for marker in record.sites.markers])
    numbers = np.array(record.sites.numbers)[kept]
    composition = Composition(Counter(map(int, numbers)))
    entry = file_name(f"{record.host.formula}_{composition.formula.replace(' ', '')}_{record.id}")
    for end, table in (("unrelaxed", record.sites.unrelaxed), ("relaxed", record.sites.relaxed)):
        write(folder / f"{entry}_{end}.cif", _atoms(record, numbers, table[kept]), format="cif")
    return entry


def _atoms(record: DefectRecord, numbers: npt.NDArray[np.int64], positions: FloatArray) -> Atoms:
    return Atoms(numbers, positions, cell=record.host.lattice, pbc=True)
