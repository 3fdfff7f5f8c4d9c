"""Which pre-relaxer is asked first for a configuration: by what each has saved, measured with controls.

A bandit by Thompson's rule (doi:10.1093/biomet/25.3-4.285): each pre-relaxer's mean saving is drawn from what its pairs
leave possible, and the largest draw goes first. A draw depends on nothing but the configuration and the pre-relaxer, so
the same campaign made twice chooses the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

FEWEST = 3
"""Pairs below which a pre-relaxer counts as not measured."""

EXPLORED = 0.1
"""Share of configurations that go to pre-relaxers that are not measured, as long as there are any."""

_SPREAD = 0.3  # of the saving of a single pair; keeps a few equal pairs from looking certain


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


def ranked(keys: Sequence[str], savings: Mapping[str, Sequence[float]], configuration_id: str) -> list[Ranked]:
    """Return the pre-relaxers in the order in which they are to be asked.

    Parameters
    ----------
    keys
        Of the pre-relaxers, in the order that holds without evidence.
    savings
        Of each key, the saving of each of its pairs on this host with these settings: 1 - predicted / unrelaxed ionic
        steps, 0 for a pair whose relaxation from the prediction ended in another minimum or did not converge.
    configuration_id
        What is to be relaxed.

    Returns
    -------
    list of Ranked
        All keys.
    """
    measured = {key: np.array(savings[key]) for key in keys if len(savings.get(key, ())) >= FEWEST}
    untried = [Ranked(key, _untried(savings.get(key, ()))) for key in keys if key not in measured]
    if not measured:
        return untried
    draws = {key: _draw(values, configuration_id, key) for key, values in measured.items()}
    order = [Ranked(key, _told(measured[key])) for key in sorted(measured, key=lambda key: -draws[key])]
    explores = _uniform("explore", configuration_id) < EXPLORED
    return [*untried, *order] if explores else [*order, *untried]


def _untried(values: Sequence[float]) -> str:
    return f"pairs that measure it here: {len(values)}"


def _told(values: np.ndarray) -> str:
    return f"it saved {values.mean():.0%} in {len(values)} pairs here"


def _draw(values: np.ndarray, configuration_id: str, key: str) -> float:
    """Return a possible mean saving: normal around the mean of the pairs, by its standard error."""
    error = max(float(values.std(ddof=1)), _SPREAD) / np.sqrt(len(values))
    return float(values.mean() + error * NormalDist().inv_cdf(_uniform(key, configuration_id)))


def _uniform(*parts: str) -> float:
    """Return a number between 0 and 1, both excluded, that depends on nothing but the parts."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 256**6
