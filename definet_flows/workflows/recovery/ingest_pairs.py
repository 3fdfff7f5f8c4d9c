"""Relaxations of others in extended XYZ become records, from which starts are learned without a calculation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from definet_flows.errors import InputError
from definet_flows.hosts import load_structure
from definet_flows.ledger import Outcome
from definet_flows.schemas import DefectRecord, Provenance, RelaxedHost, content_hash
from definet_flows.structures.match import Found, HostFinder
from definet_flows.workflows.recording.ends import completed
from definet_flows.workflows.recording.provenance import location
from definet_flows.workflows.recovery.ingest_chains import NOT_UNRELAXED
from definet_flows.workflows.recovery.ingest_frames import RelaxedFrame, read_relaxed_frames
from definet_flows.workflows.recovery.ingest_pristine import pristine_host
from definet_flows.workflows.recovery.ingest_record import (
    Ingested,
    begun,
    better,
    placement,
    why_worse,
    write_with_hosts,
)
from definet_flows.workflows.recovery.ingest_start import ON_SITE, off_site

if TYPE_CHECKING:
    from pathlib import Path

    from definet_flows.defects import Recovered
    from definet_flows.schemas import FloatArray, Host
    from definet_flows.stores.records import Records


def ingest_frames(
    path: Path,
    host: Structure | str | Path,
    supercell: tuple[int, int, int] | None = None,
    *,
    dimensionality: int | None = None,
    named: str | None = None,
) -> Ingested:
    """Read each frame of an extended XYZ file with an array `relaxed_positions` into a finished record.

    The supercell is found for each frame, and the configuration is read off the unrelaxed positions. A row's relaxed
    position is the host's own site plus what the frame moved there. Each functional, in the file's own words, is an
    engine with a settings hash of its own. Frames of the host itself are kept as pristine hosts.

    Parameters
    ----------
    path
        The file; lengths in Å, energies in eV.
    host
        Unit cell, or bulk supercell, that the frames are defect structures of: as in `load_structure`.
    supercell
        Repetitions along a, b, c; None: from each frame's cell.
    dimensionality
        As in `make_host`.
    named
        Only frames whose `host` in the file is this; None: all.

    Raises
    ------
    InputError
        If file or host cannot be read, or no frame becomes a record.
    """
    finder = HostFinder([load_structure(host)], supercell, given=True, dimensionality=dimensionality, own_origin=True)
    frames = read_relaxed_frames(path)
    found = Ingested(left_out=frames.left_out)
    for frame in frames.found:
        if named not in (None, frame.host):
            continue
        try:
            where, recovered = finder.find(frame.crystal)
            if recovered.configuration.edits:
                found.take(_record(frame, where, recovered))
            else:
                found.take_host(_pristine(frame, where, recovered))
        except InputError as error:
            found.left_out[frame.label] = str(error)
            continue
        found.hosts[where.host.hash] = where
        if frame.split:
            found.splits[frame.label] = frame.split
    if not found.records and not found.pristine and not found.left_out:
        known = ", ".join(sorted({frame.host or "none" for frame in frames.found}))
        raise InputError(f"{path}: no frame says host={named}, its hosts are {known}: name one of these")
    if not found.records and not found.pristine:
        (label, reason), count = next(iter(found.left_out.items())), len(found.left_out)
        raise InputError(f"none of {count} frames becomes a record; {label}: {reason}")
    return found


def _record(frame: RelaxedFrame, found: Found, recovered: Recovered) -> DefectRecord:
    host = found.host
    vectors, farthest = _from_sites(frame, host, recovered)
    ledger = frame.ledger
    if farthest > ON_SITE:
        note = f"{NOT_UNRELAXED}: atoms begin up to {farthest:.2f} Å off the host's sites"
        ledger = ledger.model_copy(update={"notes": (*ledger.notes, note)})
    placed = placement(host, recovered)
    record = begun(host, placed, _settings(frame), frame.functional, Provenance(**location({"dir_name": frame.label})))
    return completed(record, Outcome(_end(frame, host, placed.moved(vectors)), ledger, None))


def _pristine(frame: RelaxedFrame, found: Found, recovered: Recovered) -> RelaxedHost:
    vectors, _ = _from_sites(frame, found.host, recovered)
    end = _end(frame, found.host, placement(found.host, recovered).moved(vectors))
    return pristine_host(found.host, recovered, end, frame.ledger, _settings(frame), frame.label)


def _settings(frame: RelaxedFrame) -> str:
    return content_hash("relaxed by others", frame.functional)


def _from_sites(frame: RelaxedFrame, host: Host, recovered: Recovered) -> tuple[FloatArray, float]:
    """Return how far each atom ends from its site, in the host's frame, Å, [n_atoms, 3], and the farthest beginning.

    An atom that begins near its site counts as on it: the host of another functional lies a little elsewhere.
    """
    moved: FloatArray = recovered.frame.frac(frame.moved) @ recovered.frame.turned
    off = off_site(host, recovered)
    farthest = float(np.linalg.norm(off, axis=1).max(initial=0.0))
    return (moved + off if farthest > ON_SITE else moved), farthest


def _end(frame: RelaxedFrame, host: Host, positions: FloatArray) -> Structure:
    return Structure(host.lattice, frame.crystal.numbers.tolist(), positions, coords_are_cartesian=True)


def write_frames(records: Records, found: Ingested) -> dict[str, str]:
    """Write the records that a store lacks, each with its supercell; a better end, or a mended frame, replaces others.

    Parameters
    ----------
    records
        An open store.
    found
        Of `ingest_frames`.

    Returns
    -------
    dict of str to str
        Why a record, by its id, was not written: the store has it, or a better end.
    """
    kept: dict[str, str] = {}
    for record in found.records.values():
        known = records.record(record.id)
        if known is None:
            continue
        if _content(known) == _content(record):
            kept[record.id] = "already in the store"
        elif known.provenance.directory != record.provenance.directory and better(known, record)[0] is known:
            kept[record.id] = f"the store keeps {known.provenance.directory}: {why_worse(known, record)}"
    write_with_hosts(records, found, [record for record in found.records.values() if record.id not in kept])
    return kept


def _content(record: DefectRecord) -> dict[str, Any]:
    """Return what a store holds of a record but where it comes from."""
    return record.model_dump(mode="json", exclude={"provenance"})
