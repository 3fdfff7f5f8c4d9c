"""Both starts side by side, for tables: one row per configuration, settings and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.schemas import Frozen, Verdict
from definet_flows.stores.analysis.gates import both_starts

if TYPE_CHECKING:
    from definet_flows.schemas import Pair
    from definet_flows.stores.analysis.gates import Starts, StartsKey
    from definet_flows.stores.analysis.ledgers import LedgerRow
    from definet_flows.stores.filters import Filter
    from definet_flows.stores.records import Records


class StartsRow(Frozen):
    """Costs and ends of one configuration from both starts."""

    configuration_id: str
    settings_hash: str
    engine: str
    weights: str | None = Field(description="sha256; None if none were asked")
    name: str
    charge: int = Field(default=0, description="net charge, e")
    steps_unrelaxed: int | None = Field(default=None, description="force evaluations; None if not run")
    steps_predicted: int | None = Field(default=None, description="force evaluations; None if gated or not run")
    start_force_unrelaxed: float | None = Field(default=None, description="largest |force| at the start, eV/Å")
    start_force_predicted: float | None = Field(default=None, description="largest |force| at the start, eV/Å")
    converged: bool = Field(description="every relaxation ended below the force criterion")
    verdict: Verdict | None = Field(default=None, description="None without a pair")
    gate: str = Field(default="", description="the gate's verdict on the prediction")
    reason: str = Field(default="", description="why the gate flagged or rejected")
    in_domain: bool = False
    failed: bool = False

    @property
    def same_minimum(self) -> bool:
        """Whether both relaxations converged in the same minimum."""
        return self.verdict == "same minimum"


def starts_rows(records: Records, where: Filter) -> list[StartsRow]:
    """Return a row per configuration, settings and weights, by number of defects, then name.

    A relaxation from the unrelaxed start serves all weights.
    """
    pairs: dict[StartsKey, Pair] = {(p.configuration_id, p.settings_hash, p.weights): p for p in records.pairs(where)}
    starts = sorted(both_starts(records, where), key=_order)
    return [_row(both, pairs.get(both.key)) for both in starts]


def _order(both: Starts) -> tuple[int, str, tuple[str, ...]]:
    first = both.rows[0]
    return first.n_defects, first.name, tuple(map(str, both.key))


def _row(both: Starts, pair: Pair | None) -> StartsRow:
    rows, gate = both.rows, both.gate
    return StartsRow(
        configuration_id=rows[0].configuration_id,
        settings_hash=rows[0].settings_hash,
        engine=rows[0].engine,
        weights=both.weights,
        name=rows[0].name,
        charge=rows[0].charge,
        steps_unrelaxed=_steps(both.unrelaxed),
        steps_predicted=_steps(both.predicted),
        start_force_unrelaxed=_start_force(both.unrelaxed),
        start_force_predicted=_start_force(both.predicted),
        converged=all(row.ledger is not None and row.ledger.converged for row in rows),
        verdict=pair.verdict if pair else None,
        gate=gate.verdict if gate else "no prediction",
        reason=gate.reason if gate else "",
        in_domain=gate.in_domain if gate else False,
        failed=any(row.status == "failed" for row in rows),
    )


def _steps(row: LedgerRow | None) -> int | None:
    return row.ledger.ionic_steps if row is not None and row.ledger is not None else None


def _start_force(row: LedgerRow | None) -> float | None:
    return row.ledger.start_max_force if row is not None and row.ledger is not None else None


ArmsRow, arms_rows = StartsRow, starts_rows
"""Former names."""
