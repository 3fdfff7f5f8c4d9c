"""Which pre-relaxer is asked first for a configuration: by what each has saved, measured with controls.

A pre-relaxer is expected to save the mean of what its pairs saved, drawn towards 30 % the less it was measured. Pairs
of as many defects as the configuration count whole, others half: what single defects show is no more than a hint for
pairs. All configurations of a batch are ordered before any of them is relaxed, so trying what is not the best teaches
later batches only: a tenth of a batch is given to it, nothing of a batch of less than ten (docs/notes/starts-steps.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

FEWEST = 3
"""Pairs of any pre-relaxer below which the order is that without evidence."""

EXPECTED = 0.3
"""Mean saving of a pre-relaxer that has no pairs; it weighs as much as a pair."""

OTHER_SIZE = 0.5
"""Weight of a pair of another number of defects."""

TRIED = 10
"""Of so many configurations, one asks the pre-relaxers that are measured least first."""


@dataclass(frozen=True)
class Measured:
    """What a pair has shown of a pre-relaxer.

    Attributes
    ----------
    saving
        1 - predicted / unrelaxed ionic steps; 0 if the relaxation from the prediction ended in another minimum or did
        not converge.
    n_defects
        Of the configuration.
    """

    saving: float
    n_defects: int


@dataclass(frozen=True)
class Ranked:
    """A pre-relaxer and why it stands where it does.

    Attributes
    ----------
    key
        Of the pre-relaxer.
    reason
        In words with numbers.
    """

    key: str
    reason: str


def trials(configuration_ids: Collection[str]) -> frozenset[str]:
    """Return the ids of a batch that try what is measured least: the lowest, which have controls before all others."""
    return frozenset(sorted(configuration_ids)[: len(configuration_ids) // TRIED])


def ranked(
    keys: Sequence[str], measured: Mapping[str, Sequence[Measured]], n_defects: int, *, trial: bool = False
) -> list[Ranked]:
    """Return the pre-relaxers in the order in which they are to be asked.

    Parameters
    ----------
    keys
        Of the pre-relaxers, in the order that holds without evidence.
    measured
        Of each key, its pairs on this host with these settings.
    n_defects
        Of the configuration that is to be relaxed.
    trial
        Whether what is measured least is asked first.

    Returns
    -------
    list of Ranked
        All keys.
    """
    pairs = {key: measured.get(key, ()) for key in keys}
    if max(map(len, pairs.values())) < FEWEST:
        return [Ranked(key, _reason(pairs[key], n_defects)) for key in keys]
    order = sorted(keys, key=lambda key: -expected(pairs[key], n_defects))
    if trial:
        order.sort(key=lambda key: _weight(pairs[key], n_defects))
    why = "tried as measured less than others; " if trial else ""
    return [Ranked(key, why + _reason(pairs[key], n_defects)) for key in order]


def expected(pairs: Sequence[Measured], n_defects: int) -> float:
    """Return what a pre-relaxer is expected to save, as a share of the ionic steps, of its pairs."""
    total = EXPECTED + sum(_counts(pair, n_defects) * pair.saving for pair in pairs)
    return total / (1 + _weight(pairs, n_defects))


def _weight(pairs: Sequence[Measured], n_defects: int) -> float:
    return sum(_counts(pair, n_defects) for pair in pairs)


def _counts(pair: Measured, n_defects: int) -> float:
    return 1.0 if pair.n_defects == n_defects else OTHER_SIZE


def _reason(pairs: Sequence[Measured], n_defects: int) -> str:
    same = sum(pair.n_defects == n_defects for pair in pairs)
    of = f"{same} pair{'s' * (same != 1)} here with as many defects, {len(pairs) - same} with more or fewer"
    return f"expected to save {expected(pairs, n_defects):.0%}, by {of}"
