"""One row per configuration, settings and weights: what the page's table and the figures of costs are made from."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.schemas import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from definet_flows.schemas import Pair
    from definet_flows.stores import LedgerRow

ACCEPTED = ("accepted", "flagged")

Key = tuple[str, str, str | None]
"""configuration_id, settings hash, weights"""


class Row(Frozen):
    """Both arms of one configuration under one set of settings, the predicted arm by one set of weights."""

    configuration_id: str
    settings_hash: str
    weights: str | None = Field(description="sha256 of the weights; None if none were asked")
    name: str = Field(description="defect names, such as v_S+W_Mo")
    host: str
    n_sites: int
    n_defects: int
    engine: str
    steps_unrelaxed: int | None = Field(description="force evaluations; None if this arm was not run")
    steps_predicted: int | None = Field(description="force evaluations; None if this arm was not run")
    gate: str = Field(description="the gate's verdict; empty without a prediction")
    reason: str = Field(description="why the gate flagged or rejected")
    outcome: str = Field(description="the pair's verdict, else why there is no pair")
    error: str = Field(description="what made an arm fail; empty if none did")

    @property
    def key(self) -> Key:
        """Identity of the row."""
        return self.configuration_id, self.settings_hash, self.weights


def table_rows(ledgers: Iterable[LedgerRow], pairs: Iterable[Pair]) -> list[Row]:
    """Return the rows by host, number of defects and name; an unrelaxed arm without a predicted one has its own."""
    arms: dict[tuple[str, str], list[LedgerRow]] = defaultdict(list)
    for ledger in ledgers:
        arms[ledger.arm].append(ledger)
    verdicts: dict[Key, Pair] = {(p.configuration_id, p.settings_hash, p.weights): p for p in pairs}
    rows = [row for arm in arms.values() for row in _rows(arm, verdicts)]
    return sorted(rows, key=lambda row: (row.host, row.n_sites, row.n_defects, row.name, *map(str, row.key)))


def _rows(arm: list[LedgerRow], pairs: dict[Key, Pair]) -> list[Row]:
    unrelaxed = next((ledger for ledger in arm if ledger.start == "unrelaxed"), None)
    predicted = [ledger for ledger in arm if ledger.start == "predicted"]
    if not predicted:
        return [_row(unrelaxed, None, None)]
    return [_row(unrelaxed, one, pairs.get((*one.arm, one.weights))) for one in predicted]


def _row(unrelaxed: LedgerRow | None, predicted: LedgerRow | None, pair: Pair | None) -> Row:
    arms = [arm for arm in (predicted, unrelaxed) if arm is not None]
    first = arms[0]
    note = next((arm.prediction for arm in arms if arm.prediction is not None), None)
    return Row(
        configuration_id=first.configuration_id,
        settings_hash=first.settings_hash,
        weights=note.weights if note else None,
        name=first.name,
        host=first.host.formula,
        n_sites=first.host.n_sites,
        n_defects=first.n_defects,
        engine=first.engine,
        steps_unrelaxed=_steps(unrelaxed),
        steps_predicted=_steps(predicted),
        gate=note.gate.verdict if note else "",
        reason=note.gate.reason if note else "",
        outcome=pair.verdict if pair else _without_pair(arms),
        error=next((arm.error for arm in arms if arm.error), ""),
    )


def _steps(row: LedgerRow | None) -> int | None:
    return row.ledger.ionic_steps if row is not None and row.ledger is not None else None


def _without_pair(arms: list[LedgerRow]) -> str:
    """Say why two ends were not compared."""
    states = {arm.status for arm in arms}
    if "failed" in states:
        return "failed"
    if "running" in states:
        return "not finished"
    if arms[0].start == "predicted":
        return "no control" if len(arms) == 1 else "not compared"
    note = arms[0].prediction
    if note is None:
        return "no prediction"
    return "gated out" if note.gate.verdict not in ACCEPTED else "no predicted arm"
