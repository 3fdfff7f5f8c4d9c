"""Cross-validation of few labels: folds of motifs, each held out once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from definet_flows.stores.learning.splits import Split
    from definet_flows.stores.learning.training_set import TrainingEntry, TrainingSet

FOLDS = 5
"""Parts of the labels, each of which is held out once."""

LEAST_LABELS = 10
"""Configurations of a host below which cross-validation says nothing of it."""


def can_be_folded(motifs: Iterable[str]) -> bool:
    """Say whether the labels of a host, given the motif of each, are enough for cross-validation."""
    every = list(motifs)
    return len(every) >= LEAST_LABELS and len(set(every)) >= FOLDS


def folded(training: TrainingSet) -> Iterator[TrainingSet]:
    """Yield the training set once for each fold: the fold held out, the next to choose the epoch by, the rest to learn.

    Configurations of the same motif are in one fold. Each host is spread over the folds.
    """
    number = _folds(training.entries)
    for fold in range(FOLDS):
        named: dict[int, Split] = {fold: "test", (fold + 1) % FOLDS: "val"}
        entries = (replace(entry, split=named.get(number[entry.motif], "train")) for entry in training.entries)
        yield replace(training, entries=tuple(entries))


def with_validation(training: TrainingSet) -> TrainingSet:
    """Return the training set; where nothing chooses the epoch, a fold of what is learned from does."""
    learned = training.of_split("train")
    if training.of_split("val") or not learned:
        return training
    number = _folds(learned)
    first = {entry.configuration_id for entry in learned if not number[entry.motif]}
    entries = (replace(e, split="val") if e.configuration_id in first else e for e in training.entries)
    return replace(training, entries=tuple(entries))


def _folds(entries: Iterable[TrainingEntry]) -> dict[str, int]:
    """Return the fold of each motif; a motif names its host."""
    by_host: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        by_host[entry.host.formula].add(entry.motif)
    return {motif: k % FOLDS for motifs in by_host.values() for k, motif in enumerate(sorted(motifs))}
