"""Rows of the page's table and of the figures of costs, by configuration, settings and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.schemas import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from definet_flows.schemas import Pair
    from definet_flows.stores import LedgerRow
    from definet_flows.stores.analysis.gates import Starts

ACCEPTED = ("accepted", "flagged")

Key = tuple[str, str, str | None]
"""configuration_id, settings hash, weights"""


class Row(Frozen):
    """A configuration relaxed from both starts, with the settings of one engine and one set of weights."""

    configuration_id: str
    settings_hash: str
    weights: str | None = Field(description="key of the pre-relaxer, the sha256 of weights; None if none was asked")
    start: str = Field(description="names of the pre-relaxer and of the model; empty if none was asked")
    name: str = Field(description="defect names, such as v_S+W_Mo")
    charge: int = Field(description="net charge, e")
    host: str
    n_sites: int
    n_defects: int
    engine: str
    steps_unrelaxed: int | None = Field(description="force evaluations; None if not run")
    steps_predicted: int | None = Field(description="force evaluations; None if not run")
    gate: str = Field(description="the gate's verdict; empty without a prediction")
    reason: str = Field(description="why the gate flagged or rejected")
    outcome: str = Field(description="the pair's verdict, else why there is no pair")
    error: str = Field(description="why a relaxation failed; empty if none did")

    @property
    def key(self) -> Key:
        """Identity of the row."""
        return self.configuration_id, self.settings_hash, self.weights


def table_rows(starts: Iterable[Starts], pairs: Iterable[Pair], labels: Mapping[str, str]) -> list[Row]:
    """Return the rows by host, number of defects, name and charge; `labels` has the names of keys."""
    verdicts: dict[Key, Pair] = {(p.configuration_id, p.settings_hash, p.weights): p for p in pairs}
    rows = [_row(both, verdicts.get(both.key), labels) for both in starts]
    return sorted(
        rows, key=lambda row: (row.host, row.n_sites, row.n_defects, row.name, row.charge, *map(str, row.key))
    )


def _row(both: Starts, pair: Pair | None, labels: Mapping[str, str]) -> Row:
    first = both.rows[0]
    return Row(
        configuration_id=first.configuration_id,
        settings_hash=first.settings_hash,
        weights=both.weights,
        start="" if both.weights is None else labels.get(both.weights, both.weights),
        name=first.name,
        charge=first.charge,
        host=first.host.formula,
        n_sites=first.host.n_sites,
        n_defects=first.n_defects,
        engine=first.engine,
        steps_unrelaxed=_steps(both.unrelaxed),
        steps_predicted=_steps(both.predicted),
        gate=both.gate.verdict if both.gate else "",
        reason=both.gate.reason if both.gate else "",
        outcome=pair.verdict if pair else _without_pair(both),
        error=next((row.error for row in both.rows if row.error), ""),
    )


def _steps(row: LedgerRow | None) -> int | None:
    return row.ledger.ionic_steps if row is not None and row.ledger is not None else None


def _without_pair(both: Starts) -> str:
    """Return why two ends were not compared."""
    states = {row.status for row in both.rows}
    if "failed" in states:
        return "failed"
    if "running" in states:
        return "not finished"
    if both.predicted is not None:
        return "no control" if both.unrelaxed is None else "not compared"
    if both.gate is None:
        return "no prediction"
    return "gated out" if both.gate.verdict not in ACCEPTED else "no relaxation from the prediction"
