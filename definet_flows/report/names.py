"""Pre-relaxers and weights by name: what a person reads and types in place of a hash."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.foreign import one_line
from definet_flows.model.inference.shipped import shipped_weights
from definet_flows.schemas import AUTO, DEFINET
from definet_flows.stores import Filter
from definet_flows.stores.analysis.figures import UNASKED
from definet_flows.stores.analysis.gates import named, prerelaxer_names
from definet_flows.stores.learning.registry import SHORTEST, models
from definet_flows.stores.prefix import beginning_with, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from definet_flows.stores import Records

SHORT = 8
"""Characters of a hash that a person reads."""


@dataclass(frozen=True)
class Names:
    """Names of the keys that records hold.

    Attributes
    ----------
    prerelaxers
        Name of each key that is not a network's.
    weights
        Registry id of a network's weights by their sha256; weights without an id are called by their hash.
    """

    prerelaxers: Mapping[str, str]
    weights: Mapping[str, str]

    def prerelaxer(self, key: str) -> str:
        """Return the name of the pre-relaxer: definet, fields, potential:sevennet, a chain."""
        return named(key, self.prerelaxers)

    def model(self, key: str) -> str:
        """Return the name of a network's weights; empty for another pre-relaxer."""
        return self.weights.get(key, key[:SHORT]) if self.prerelaxer(key) == DEFINET else ""

    def label(self, key: str | None) -> str:
        """Return both: `definet · definet-2dmd`, `fields`; empty if nothing was asked."""
        if key is None or key == UNASKED:
            return ""
        if key == AUTO:
            return "auto: none"
        return one_line(" · ".join(filter(None, (self.prerelaxer(key), self.model(key)))))

    def labels(self, keys: Iterable[str]) -> dict[str, str]:
        """Return a label for each key; keys of the same label are told apart by their hash."""
        found = {key: self.label(key) for key in keys}
        often = Counter(found.values())
        return {key: f"{label} ({key[:SHORT]})" if often[label] > 1 else label for key, label in found.items()}


def names_of(records: Records) -> Names:
    """Return the names that a store and the package know."""
    return Names(prerelaxer_names(records), {**shipped_weights(), **{one.sha256: one.id for one in models(records)}})


@dataclass(frozen=True)
class Asked:
    """A filter as a person gives it: weights and pre-relaxers by name.

    Attributes
    ----------
    where
        All that needs no store to be understood.
    weights
        Registry id, or the beginning of a sha256; None: any.
    prerelaxer
        Name of a pre-relaxer; None: any.
    """

    where: Filter
    weights: str | None = None
    prerelaxer: str | None = None

    def within(self, records: Records) -> Filter:
        """Return the filter for a store.

        Raises
        ------
        InputError
            If the store has no such weights or pre-relaxer; names what it has.
        """
        if self.weights is None and self.prerelaxer is None:
            return self.where
        names, keys = names_of(records), _keys(records)
        if self.prerelaxer is not None:
            keys = _proposed(keys, self.prerelaxer, names, records.name)
        if self.weights is not None:
            keys = [_weights(keys, self.weights, names, records.name)]
        return self.where.model_copy(update={"weights": keys[0] if len(keys) == 1 else tuple(keys)})


def _keys(records: Records) -> list[str]:
    """Return the keys of all pre-relaxers that a store's records and predictions name."""
    begun = {row.weights for row in records.record_rows() if row.weights is not None}
    return sorted(begun | {row.weights for row in records.prediction_rows()})


def _proposed(keys: list[str], prerelaxer: str, names: Names, store: str) -> list[str]:
    found = [key for key in keys if names.prerelaxer(key) == prerelaxer]
    if not found:
        known = ", ".join(sorted({names.prerelaxer(key) for key in keys})) or "none"
        msg = f"no relaxation has prerelaxer {prerelaxer}: record store {store!r} has {known}"
        raise InputError(msg)
    return found


def _weights(keys: list[str], ref: str, names: Names, store: str) -> str:
    known = [(key, names.model(key) or names.prerelaxer(key)) for key in keys]
    found = [pair for pair in known if pair[1] == ref] or beginning_with(ref, known, SHORTEST)
    if len(found) == 1:
        return found[0][0]
    if found:
        msg = f"several weights match {ref!r}: {listed(found)}; give more characters"
        raise InputError(msg)
    if near := beginning_with(ref, known):
        raise InputError(f"weights {ref}: give at least {SHORTEST} characters of {listed(near)}")
    msg = f"no relaxation has weights {ref}: record store {store!r} has {listed(known) or 'none'}"
    raise InputError(msg)
