"""Verdicts of the gate on relaxations: the only place where relaxations and predictions are joined.

All weights share a relaxation from the unrelaxed start; its record keeps the verdict of the first of them. The verdicts
of other weights are read from their predictions, by configuration, weights and base. The record's own note counts for
its weights where no prediction is stored. The note of a relaxation from a prediction counts always.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from definet_flows.schemas import AUTO, DEFINET, Frozen, Gate, KnownPreRelaxer, RelaxedHost, Table, base_hash
from definet_flows.stores.analysis.figures import UNASKED
from definet_flows.stores.analysis.rows import RecordRow
from definet_flows.stores.filters import Filter
from definet_flows.stores.garbage import uncollected

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from definet_flows.stores.analysis.ledgers import LedgerRow
    from definet_flows.stores.analysis.rows import PredictionRow
    from definet_flows.stores.records import Records

Key = tuple[str, str]
"""configuration_id, settings hash"""

StartsKey = tuple[str, str, str | None]
"""configuration_id, settings hash, weights"""

_EVERYTHING = Filter()
_FEW = 20  # records of one host and settings, all on one base; those without positions are passed over
_MILDEST = {"accepted": 0, "flagged": 1, "rejected": 2}


class Asked(NamedTuple):
    """The predictions that verdicts were read from."""

    predictions: Sequence[PredictionRow]
    """None where the records say it all."""
    base: Callable[[str, str], str | None]
    """Of a host's and a settings hash: hash of the base that the relaxations start from."""


class Gates:
    """The gate's verdict on each configuration with the settings of one engine, for all weights that were asked."""

    def __init__(self, said: Mapping[Key, Mapping[str, Gate]], asked: Asked | None = None) -> None:
        self._said = said
        self.asked = asked

    def under(self, pairing: Key, weights: str) -> Gate | None:
        """Return the verdict under these weights (sha256); None if they were not asked."""
        return self._said.get(pairing, {}).get(weights)

    def weights(self, pairing: Key) -> list[str]:
        """Return the weights that were asked, in order of their hash."""
        return sorted(self._said.get(pairing, ()))

    def mildest(self, pairing: Key) -> tuple[str, Gate] | None:
        """Return the weights with the mildest verdict, and the verdict: gated out means that no weights accept."""
        said = self._said.get(pairing)
        return min(said.items(), key=lambda item: (_MILDEST[item[1].verdict], item[0])) if said else None

    def joined(self, row: RecordRow) -> RecordRow:
        """Return a relaxation from the unrelaxed start with the mildest verdict; as it is if no weights were asked."""
        said = self.mildest(row.pairing)
        return row if said is None else _with_gate(row, *said)

    def only(self, weights: Collection[str]) -> Gates:
        """Return the verdicts of these weights."""
        kept = {
            pairing: {name: gate for name, gate in said.items() if name in weights}
            for pairing, said in self._said.items()
        }
        return Gates({pairing: said for pairing, said in kept.items() if said})

    def refused(self, rows: Iterable[RecordRow]) -> list[RecordRow]:
        """Return the relaxations of gated-out configurations, each as often as there are weights that reject it."""
        lone = (row for row in rows if row.start == "unrelaxed")
        said = ((row, self._said.get(row.pairing)) for row in lone)
        return [row for row, gates in said if gates for gate in gates.values() if gate.verdict == "rejected"]

    def by_weights(self, rows: Iterable[RecordRow]) -> dict[str | int, list[RecordRow]]:
        """Return the rows by weights; a relaxation from the unrelaxed start may serve several weights, or none."""
        groups: dict[str | int, list[RecordRow]] = defaultdict(list)
        for row in rows:
            if row.start == "predicted":
                groups[row.weights or UNASKED].append(row)
                continue
            said = self._said.get(row.pairing) or {}
            for weights, gate in said.items():
                groups[weights].append(_with_gate(row, weights, gate))
            if not said:
                groups[UNASKED].append(row)
        return groups


def prerelaxer_names(records: Records) -> dict[str, str]:
    """Return the names of the pre-relaxers that a store knows, by key; see `named`."""
    return {
        known.key: known.name
        for known in records.find(KnownPreRelaxer, {}, ["id", "kind", "schema_version", "key", "name"])
    }


def named(key: str, names: Mapping[str, str]) -> str:
    """Return the name of a pre-relaxer's key; a key without a name is a network's.

    The key of `auto` holds the refusals of configurations that it chose no pre-relaxer for.
    """
    return key if key in (UNASKED, AUTO) else names.get(key, DEFINET)


@uncollected()
def find_gates(
    records: Records,
    rows: Sequence[RecordRow] | Sequence[LedgerRow],
    weights: str | None = None,
    ids: tuple[str, ...] | None = None,
) -> Gates:
    """Join relaxations and predictions.

    Parameters
    ----------
    records
        An open store.
    rows
        Relaxations of any weights.
    weights
        Only the verdicts of these (sha256); None: all.
    ids
        The configuration_ids of the rows; None: any.
    """
    said: dict[Key, dict[str, Gate]] = defaultdict(dict)
    shared = {row.pairing: _host_hash(row) for row in rows if row.start == "unrelaxed"}
    own = [row for row in rows if row.start == "predicted" and weights in (None, row.weights)]
    for row in rows:
        if row.start == "unrelaxed" and weights in (None, row.weights):
            _note(said, row)
    if weights is not None:
        answered = {row.pairing for row in own}
        shared = {pairing: host for pairing, host in shared.items() if pairing not in answered}
    asked = Asked(records.prediction_rows(weights, ids) if shared else [], cache(partial(base_of, records)))
    _join(said, asked.predictions, shared, asked.base)
    for row in own:
        _note(said, row)
    return Gates(said, asked)


def _host_hash(row: RecordRow | LedgerRow) -> str:
    return row.host_hash if isinstance(row, RecordRow) else row.host.hash


def _note(said: dict[Key, dict[str, Gate]], row: RecordRow | LedgerRow) -> None:
    """Note the verdict that a record keeps."""
    if row.weights is None:
        return
    if isinstance(row, RecordRow):
        if row.gate is not None:
            said[row.pairing][row.weights] = _gate(row.gate, row.gate_reason or "", in_domain=True)
    elif row.prediction is not None:
        said[row.pairing][row.weights] = row.prediction.gate


def _join(
    said: dict[Key, dict[str, Gate]],
    predictions: Iterable[PredictionRow],
    shared: Mapping[Key, str],
    base: Callable[[str, str], str | None],
) -> None:
    """Note the verdicts of predictions on the base that the relaxations start from."""
    settings: dict[str, list[str]] = defaultdict(list)
    for configuration_id, settings_hash in shared:
        settings[configuration_id].append(settings_hash)
    for prediction in predictions:
        for settings_hash in settings.get(prediction.configuration_id, ()):
            pairing = prediction.configuration_id, settings_hash
            if base(shared[pairing], settings_hash) == prediction.base:
                said[pairing][prediction.weights] = _predicted_gate(prediction)


def _predicted_gate(row: PredictionRow) -> Gate:
    return _gate(row.gate, row.gate_reason, in_domain=row.in_domain)


class _Sites(Frozen):
    unrelaxed: Table


class _Start(Frozen):
    """The fields of a record that give its base."""

    kind: Literal["record"] = "record"
    schema_version: int
    host: dict[str, int]
    sites: _Sites | None = None


def base_of(records: Records, host_hash: str, settings_hash: str) -> str | None:
    """Return the hash of the host positions that relaxations with these settings start from; None if unknown."""
    relaxed = records.host(RelaxedHost.identity(host_hash, settings_hash))
    if relaxed is not None:
        return base_hash(relaxed.relaxed)
    criteria = {"settings_hash": settings_hash, "host.hash": host_hash}
    fields = ["schema_version", "host.n_sites", "sites.unrelaxed"]
    for record in records.find(_Start, criteria, fields, limit=_FEW):
        if record.sites is not None:
            return base_hash(record.sites.unrelaxed[: record.host["n_sites"]])
    return None


@lru_cache(maxsize=4096)
def _gate(verdict: Any, reason: str, *, in_domain: bool) -> Gate:  # noqa: ANN401 - checked by the model
    return Gate(verdict=verdict, reason=reason, in_domain=in_domain)


def _with_gate(row: RecordRow, weights: str, gate: Gate) -> RecordRow:
    """Return a relaxation from the unrelaxed start, which uses no proposal, with a verdict."""
    return row._replace(
        weights=weights,
        gate=gate.verdict,
        gate_reason=gate.reason,
        proposal_seconds=None,
        proposal_core_seconds=None,
    )


@uncollected()
def joined_rows(records: Records, where: Filter = _EVERYTHING) -> tuple[list[RecordRow], Gates]:
    """Return the relaxations that match, each with the gate's verdict, and all verdicts.

    If `where` names weights, these are the relaxations from their predictions, and those from the unrelaxed start of
    the configurations that they were asked about. Else a relaxation from the unrelaxed start has the mildest verdict of
    all weights.
    """
    rows = records.record_rows(where.model_copy(update={"weights": None}))
    gates = find_gates(records, rows, where.weights, where.configuration_ids)
    if where.weights is not None:
        return gates.by_weights(rows).get(where.weights, []), gates
    return [gates.joined(row) if row.start == "unrelaxed" else row for row in rows], gates


class Starts(NamedTuple):
    """Both relaxations of one configuration with one engine's settings, under one set of weights."""

    unrelaxed: LedgerRow | None
    predicted: LedgerRow | None
    weights: str | None
    """sha256; None if none were asked"""
    gate: Gate | None
    """None if these weights were not asked"""

    @property
    def rows(self) -> list[LedgerRow]:
        """The relaxations that exist, from the prediction first."""
        return [row for row in (self.predicted, self.unrelaxed) if row is not None]

    @property
    def key(self) -> StartsKey:
        """Identity of the comparison."""
        return (*self.rows[0].pairing, self.weights)


def both_starts(records: Records, where: Filter = _EVERYTHING) -> Iterator[Starts]:
    """Yield both relaxations of each configuration, settings and weights that match; structures are not read."""
    rows = list(records.ledgers(where.model_copy(update={"weights": None})))
    gates = find_gates(records, rows, where.weights, where.configuration_ids)
    by_pairing: dict[Key, list[LedgerRow]] = defaultdict(list)
    for row in rows:
        by_pairing[row.pairing].append(row)
    for pairing, found in by_pairing.items():
        unrelaxed = next((row for row in found if row.start == "unrelaxed"), None)
        predicted = {row.weights: row for row in found if row.start == "predicted"}
        asked: list[str | None] = [where.weights] if where.weights is not None else [*gates.weights(pairing)]
        if where.weights is None and None in predicted:
            asked.append(None)
        for weights in asked or [None]:
            gate = None if weights is None else gates.under(pairing, weights)
            if unrelaxed is not None or weights in predicted:
                yield Starts(unrelaxed, predicted.get(weights), weights, gate)
