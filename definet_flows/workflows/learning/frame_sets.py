"""Relaxations that others publish as extended XYZ, as sets of pairs to learn from: one functional, any hosts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.stores.learning.folds import with_validation
from definet_flows.stores.learning.splits import SHARES, Motifs
from definet_flows.stores.learning.training_set import (
    TrainingEntry,
    TrainingSet,
    choose_end,
    entry_of,
    minima_above,
)
from definet_flows.stores.learning.vetting import why_refused
from definet_flows.workflows.learning.label_sets import pair_sets
from definet_flows.workflows.recovery.ingest_pairs import ingest_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from definet_flows.model.data.archive import PairSet
    from definet_flows.schemas import DefectRecord, Host


@dataclass
class FrameSets:
    """What a file holds to learn from.

    Attributes
    ----------
    sets
        A set for each supercell and each place of inserted atoms; `relaxed` as `fine_tune` takes it.
    functional
        Of all of them, in the file's own words.
    left_out
        Why a frame is not learned from, by its place in the file. Of several ends of a configuration the lowest counts.
    other_minima
        How many of the ends left out are higher ends of configurations that are learned from.
    """

    sets: list[PairSet]
    functional: str
    left_out: dict[str, str] = field(default_factory=dict)
    other_minima: int = 0


def frame_sets(path: Path, hosts: Mapping[str, str]) -> FrameSets:
    """Read the relaxations of some hosts in an extended XYZ file with an array `relaxed_positions`.

    A frame's own `split` (train, val or test) counts; else it is drawn from kinds and distances of the defects, so that
    the same defects in another charge or a larger supercell are in the same split. Where no frame is left to choose the
    epoch by, a part of those to learn from does.

    Parameters
    ----------
    path
        The file; lengths in Å.
    hosts
        Unit cell of each host, by the name that the frames have in `host`: a file, or the name of a shipped host.

    Raises
    ------
    InputError
        If file or host cannot be read, nothing can be learned from, or there are several functionals.
    """
    entries: list[TrainingEntry] = []
    left_out: dict[str, str] = {}
    functionals: dict[str, int] = {}
    other_minima = 0
    for name, unit in hosts.items():
        found = ingest_frames(path, unit, named=name)
        left_out |= found.left_out
        motifs = {key: Motifs(cell.host) for key, cell in found.hosts.items()}
        relaxed = {run.host.hash: run for run in found.pristine.values()}
        for identity, best in found.records.items():
            every = (best, *found.others.get(identity, ()))
            ends = _learnable(every, motifs[best.host.hash].host, left_out)
            if not ends:
                continue
            record = choose_end(ends)
            left_out.pop(str(record.provenance.directory), None)
            other_minima += minima_above(record, ends)
            functionals[record.engine] = functionals.get(record.engine, 0) + 1
            of_host = motifs[record.host.hash], relaxed.get(record.host.hash)
            stated = found.splits.get(str(record.provenance.directory))
            entries.append(_placed(entry_of(record, *of_host), stated))
    if len(functionals) > 1:
        counted = ", ".join(f"{functional!r} ({n})" for functional, n in sorted(functionals.items()))
        raise InputError(f"{path} mixes functionals, {counted}: a network learns from one, so give a file of each")
    if not entries:
        where, why = next(iter(left_out.items()), (str(path), "nothing to learn from"))
        raise InputError(f"{where}: {why}")
    (functional,) = functionals
    training = with_validation(TrainingSet(functional, functional, tuple(entries), (), (), {}))
    return FrameSets(pair_sets(training), functional, left_out, other_minima)


def _learnable(ends: Iterable[DefectRecord], host: Host, left_out: dict[str, str]) -> list[DefectRecord]:
    """Return the ends of a configuration that may be learned from; `left_out` takes the reasons of the others."""
    from definet_flows.starts.gate import judge_geometry  # noqa: PLC0415 - torch

    kept = []
    for end in ends:
        if refused := why_refused(end, host, judge_geometry):
            left_out[str(end.provenance.directory)] = refused
        else:
            kept.append(end)
    return kept


def _placed(entry: TrainingEntry, stated: str | None) -> TrainingEntry:
    """Return an entry in the split that the file states, if it does."""
    if stated is None:
        return entry
    if stated not in SHARES:
        raise InputError(f"{entry.name}: split={stated!r} in the file: write {', '.join(SHARES)}, or none")
    return replace(entry, split=stated)
