"""From records to the input of training: the gate judges each end, each supercell becomes a set of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.schemas import content_hash
from definet_flows.stores.learning.training_set import TrainingSet, training_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from definet_flows.model.data.archive import PairSet
    from definet_flows.schemas import Host, Vector
    from definet_flows.stores import Records
    from definet_flows.stores.learning.training_set import TrainingEntry


def read_training_set(records: Records, settings_hash: str, hosts: Iterable[Host] = ()) -> TrainingSet:
    """Return the training set of a settings hash, each end judged by the gate. As `training_set`."""
    from definet_flows.starts.gate import judge_geometry  # noqa: PLC0415 - torch

    return training_set(records, settings_hash, judge_geometry, hosts)


def pair_sets(training: TrainingSet) -> list[PairSet]:
    """Return a set of pairs for each supercell and each place of inserted atoms.

    `relaxed` holds the local displacements that `fine_tune` takes.
    """
    return [_pair_set(entries) for _, entries in sorted(training.by_host().items())]


def _pair_set(entries: list[TrainingEntry]) -> PairSet:
    from definet_flows.model.data.archive import PairSet  # noqa: PLC0415 - torch

    host, inserted = entries[0].host, entries[0].inserted
    moved = np.stack([entry.moved for entry in entries]).astype(np.float32)
    return PairSet(
        name=_name(host, inserted),
        host=host,
        ids=tuple(entry.configuration_id for entry in entries),
        splits=tuple(entry.split for entry in entries),
        numbers=np.stack([entry.numbers for entry in entries]).astype(np.uint8),
        markers=np.stack([entry.markers for entry in entries]).astype(np.uint8),
        unrelaxed=np.zeros_like(moved),
        relaxed=moved,
        malformed=(),
        charges=tuple(entry.charge for entry in entries),
        inserted=inserted,
    )


def _name(host: Host, inserted: Sequence[Vector]) -> str:
    name = f"{host.formula} {host.n_sites} {host.hash[:8]}"
    return f"{name} {content_hash('inserted', inserted)[:8]}" if inserted else name
