"""Which pre-relaxer is asked first for a configuration: by what each has saved, measured with controls.

A bandit by Thompson's rule (doi:10.1093/biomet/25.3-4.285): each pre-relaxer's mean saving is drawn from what its pairs
leave possible, and the largest draw goes first. A pre-relaxer without pairs is drawn too: a low saving that is measured
does not keep others from being tried. A draw depends on nothing but the configuration and the pre-relaxer, so the same
campaign made twice chooses the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

FEWEST = 3
"""Pairs of any pre-relaxer below which the order is that without evidence."""

EXPECTED = 0.3
"""Mean saving of a pre-relaxer that has no pairs; it weighs as much as a pair (docs/notes/starts-steps.md)."""

_SPREAD = 0.3  # of the saving of a single pair, and of the means of pre-relaxers


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
    known = {key: np.array(savings.get(key, ())) for key in keys}
    order = list(keys)
    if max(map(len, known.values())) >= FEWEST:
        order.sort(key=lambda key: -_draw(known[key], configuration_id, key))
    return [Ranked(key, _reason(known[key])) for key in order]


def _reason(values: np.ndarray) -> str:
    if not len(values):
        return "pairs that measure it here: 0"
    return f"it saved {values.mean():.0%} in {len(values)} pair{'s' * (len(values) > 1)} here"


def _draw(values: np.ndarray, configuration_id: str, key: str) -> float:
    """Return a possible mean saving: normal around the mean of the pairs and the expected saving, by its error."""
    mean = (EXPECTED + values.sum()) / (1 + len(values))
    scatter = max(float(values.std(ddof=1)), _SPREAD) if len(values) > 1 else _SPREAD
    error = scatter / np.sqrt(1 + len(values))
    return float(mean + error * NormalDist().inv_cdf(_uniform(key, configuration_id)))


def _uniform(*parts: str) -> float:
    """Return a number between 0 and 1, both excluded, that depends on nothing but the parts."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 256**6
