"""Training sets from a record store: converged ends of one settings hash, on their supercells.

A label is the displacement from the unrelaxed start: relaxed minus unrelaxed position of each site, the mean over the
atoms removed, relative to the relaxed host, like the displacements that are added to it when a start is predicted. The
unrelaxed table of a campaign contains the host's own relaxation by the same engine; from ingested relaxations, which
began on the host as given, the motion of the pristine host is taken off where the store has it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from definet_flows.defects import nodes
from definet_flows.errors import InputError
from definet_flows.hosts import make_host, shipped_hosts
from definet_flows.schemas import (
    VACANCY,
    DefectRecord,
    FloatArray,
    Frozen,
    Host,
    HostNote,
    RelaxedHost,
    SiteMap,
    Supercell,
    Vector,
)
from definet_flows.stores.analysis.pairs import SAME_ENERGY
from definet_flows.stores.filters import Filter
from definet_flows.stores.learning.pristine import own_motion
from definet_flows.stores.learning.splits import Motifs, Split, density_of, split_of_motif
from definet_flows.stores.learning.vetting import (
    Judge,
    base_of,
    displacements_of,
    odd_potcars,
    why_refused,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from definet_flows.stores.records import Records

_MICRO = 1_000_000


class Refusal(Frozen):
    """A record that is not learned from."""

    record: str = Field(description="its id")
    name: str = Field(description="its defects, such as v_S+W_Mo")
    reason: str


class Count(Frozen):
    """Configurations of one host and density in one split."""

    host: str
    density: str = Field(description="defects per site")
    split: Split
    n: int


@dataclass(frozen=True, eq=False)
class TrainingEntry:
    """A configuration to learn from.

    Attributes
    ----------
    numbers, markers
        Of the rows: pristine sites, then inserted atoms, [n_rows].
    motif
        Kinds and distances of its defects in the host: what is split as a whole.
    moved
        Relaxed minus unrelaxed position, mean over the atoms removed, zero where vacant, Å, [n_rows, 3].
    charge
        Net charge, elementary charges.
    inserted
        Fractional coordinates at which inserted atoms start, [n_inserted, 3].
    """

    configuration_id: str
    record_id: str
    name: str
    n_defects: int
    motif: str
    split: Split
    host: Host
    numbers: npt.NDArray[np.int64]
    markers: npt.NDArray[np.int64]
    moved: FloatArray
    charge: int = 0
    inserted: tuple[Vector, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The data of one settings hash that may be learned from, and why the rest may not.

    Attributes
    ----------
    entries
        A configuration each, in order of their ids.
    refused
        Records left out, with reasons.
    spare
        Ids of further ends of configurations that have an entry.
    other_minima
        How many of these lie higher than the entry by more than `SAME_ENERGY`.
    other_settings
        Number of records in the store with each other settings hash, which are another engine's or functional's.
    """

    settings_hash: str
    engine: str
    entries: tuple[TrainingEntry, ...]
    refused: tuple[Refusal, ...]
    spare: tuple[str, ...]
    other_settings: dict[str, int]
    other_minima: int = 0

    @property
    def data_hash(self) -> str:
        """Identity of the content: displacements, configurations and splits."""
        digest = hashlib.sha256(self.settings_hash.encode())
        for entry in self.entries:
            digest.update(f"{entry.configuration_id} {entry.split} {entry.host.hash}".encode())
            digest.update(np.rint(entry.moved * _MICRO).astype("<i8").tobytes())
        return digest.hexdigest()[:32]

    @property
    def held_out_hash(self) -> str:
        """Identity of the held-out part."""
        return TrainingSet(self.settings_hash, "", self.of_split("test"), (), (), {}).data_hash

    def of_split(self, split: Split) -> tuple[TrainingEntry, ...]:
        """Return the entries of one split."""
        return tuple(entry for entry in self.entries if entry.split == split)

    def by_host(self) -> dict[tuple[str, tuple[Vector, ...]], list[TrainingEntry]]:
        """Return the entries that start from the same rows, by the supercell's hash and the inserted atoms."""
        groups: dict[tuple[str, tuple[Vector, ...]], list[TrainingEntry]] = defaultdict(list)
        for entry in self.entries:
            groups[entry.host.hash, entry.inserted].append(entry)
        return dict(groups)

    def counts(self) -> list[Count]:
        """Return how many configurations each host and density has in each split."""
        found = Counter(
            (entry.host.formula, density_of(entry.n_defects, entry.host.n_sites), entry.split) for entry in self.entries
        )
        return [Count(host=h, density=d, split=s, n=n) for (h, d, s), n in sorted(found.items())]


def settings_in(records: Records) -> dict[str, str]:
    """Return the engine's name of each settings hash that has finished records, most records first."""
    found = Counter((row.settings_hash, row.engine) for row in records.ledgers() if row.status == "done")
    return {settings: engine for (settings, engine), _ in found.most_common()}


def training_set(records: Records, settings_hash: str, judge: Judge, hosts: Iterable[Host] = ()) -> TrainingSet:
    """Return the training set of the records of one settings hash.

    Each configuration gives a single end: that from the unrelaxed start, which no network has steered, unless another
    is lower by more than `SAME_ENERGY`; without a relaxation from the unrelaxed start the lowest.

    Parameters
    ----------
    records
        An open store.
    settings_hash
        Engine, functional and all other settings.
    judge
        The gate, see `definet_flows.stores.learning.vetting`.
    hosts
        Supercells as given, for records of stores that do not hold them.
    """
    candidates: dict[str, list[DefectRecord]] = defaultdict(list)
    refused: list[Refusal] = []
    known = {host.hash: host for host in hosts}
    found = list(records.records(Filter(settings_hash=settings_hash)))
    odd = odd_potcars(found)
    for record in found:
        try:
            if record.host.hash not in known:
                known[record.host.hash] = supercell_of(records, record)
            reason = odd.get(record.id) or why_refused(record, known[record.host.hash], judge)
        except InputError as error:
            reason = str(error)
        if reason:
            refused.append(Refusal(record=record.id, name=record.name, reason=reason))
        else:
            candidates[record.configuration_id].append(record)
    chosen = {identity: choose_end(ends) for identity, ends in sorted(candidates.items())}
    others = Counter(row.settings_hash for row in records.ledgers() if row.settings_hash != settings_hash)
    motifs = {identity: Motifs(host) for identity, host in known.items()}
    relaxed = {host.host.hash: host for host in records.find(RelaxedHost, {"settings_hash": settings_hash})}
    return TrainingSet(
        settings_hash=settings_hash,
        engine=found[0].engine if found else "",
        entries=tuple(
            entry_of(record, motifs[record.host.hash], relaxed.get(record.host.hash)) for record in chosen.values()
        ),
        refused=tuple(sorted(refused, key=lambda refusal: refusal.record)),
        spare=tuple(r.id for ends in candidates.values() for r in ends if r is not chosen[r.configuration_id]),
        other_settings=dict(others),
        other_minima=sum(minima_above(chosen[identity], ends) for identity, ends in candidates.items()),
    )


def choose_end(ends: Sequence[DefectRecord]) -> DefectRecord:
    """Return the end of a configuration that is learned from, see `training_set`."""
    lowest = min(ends, key=lambda record: (_energy(record), record.id))
    unrelaxed = [record for record in ends if record.start == "unrelaxed"]
    if unrelaxed and not _energy(unrelaxed[0]) - _energy(lowest) > SAME_ENERGY:  # no energies: inf - inf
        return unrelaxed[0]
    return lowest


def minima_above(chosen: DefectRecord, ends: Iterable[DefectRecord]) -> int:
    """Return how many ends lie higher than the chosen end by more than `SAME_ENERGY`: in other minima."""
    return sum(_energy(end) - _energy(chosen) > SAME_ENERGY for end in ends)  # no energies: inf - inf


def _energy(record: DefectRecord) -> float:
    energy = record.ledger.energy if record.ledger else None
    return np.inf if energy is None else energy


def entry_of(record: DefectRecord, motifs: Motifs, relaxed: RelaxedHost | None) -> TrainingEntry:
    """Return what is learned from a finished record of the host of `motifs`, which the same engine may have relaxed."""
    numbers, markers = nodes(motifs.host, record.configuration)
    moved = displacements_of(record)
    atoms = markers != VACANCY
    if relaxed is not None:
        sites = atoms[: motifs.host.n_sites]
        moved[: len(sites)][sites] -= own_motion(record, relaxed)[sites]
    moved[atoms] -= moved[atoms].mean(0)
    motif = motifs.motif(record.configuration)
    return TrainingEntry(
        configuration_id=record.configuration_id,
        record_id=record.id,
        name=record.name,
        n_defects=record.n_defects,
        motif=motif,
        split=split_of_motif(motif),
        host=motifs.host,
        numbers=numbers,
        markers=markers,
        moved=moved,
        charge=record.configuration.charge,
        inserted=tuple(edit.position for edit in record.configuration.edits if edit.position is not None),
    )


# ------------------------------------------------------------------ supercells


def supercell_of(records: Records, record: DefectRecord) -> Host:
    """Return the bulk supercell of a record as given, before any relaxation.

    From the store; else the record's own base, if that was not relaxed; else built again from a shipped host.

    Raises
    ------
    InputError
        If none of these has the record's host hash.
    """
    stored = next(records.find(Supercell, {"id": Supercell.identity(record.host.hash)}), None)
    if stored is not None:
        return stored.host
    for host in (_from_base(record.host, record.sites, record), _from_source(record.host)):
        if host is not None and host.hash == record.host.hash:
            return host
    msg = f"host {record.host.formula}: its supercell as given is not in the store; run a flow on it once more"
    raise InputError(msg)


def _from_base(note: HostNote, sites: SiteMap | None, record: DefectRecord) -> Host | None:
    if sites is None:
        return None
    base = base_of(sites)
    numbers = list(sites.numbers[: len(base)])
    for edit in record.configuration.edits:
        if edit.site is not None and edit.old is not None:
            numbers[edit.site] = edit.old
    frac = np.round(base @ np.linalg.inv(np.array(note.lattice)), 8) % 1.0
    fields = note.model_dump(include={"formula", "lattice", "matrix", "dimensionality", "provenance"})
    return Host(**fields, numbers=tuple(numbers), frac_coords=tuple(map(tuple, frac.tolist())))


def _from_source(note: HostNote) -> Host | None:
    name = note.provenance.get("source", "").rpartition("/")[2].removesuffix(".cif")
    return make_host(name, note.matrix) if name in shipped_hosts() else None
