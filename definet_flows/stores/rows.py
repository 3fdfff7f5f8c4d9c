"""One row per configuration: both arms of a campaign side by side, for tables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.schemas import Frozen, Verdict

if TYPE_CHECKING:
    from definet_flows.schemas import Pair
    from definet_flows.stores.access import Records
    from definet_flows.stores.filters import Filter
    from definet_flows.stores.ledgers import LedgerRow


class ArmsRow(Frozen):
    """What the two arms of one configuration took, and where they ended."""

    configuration_id: str
    name: str
    steps_unrelaxed: int | None = Field(default=None, description="force evaluations; None if this arm was not run")
    steps_predicted: int | None = Field(default=None, description="force evaluations; None if gated or not run")
    start_force_unrelaxed: float | None = Field(default=None, description="largest |force| at the start, eV/Å")
    start_force_predicted: float | None = Field(default=None, description="largest |force| at the start, eV/Å")
    converged: bool = Field(description="every arm that was run ended below the force criterion")
    verdict: Verdict | None = Field(default=None, description="None without a pair")
    gate: str = Field(default="", description="the gate's verdict on the prediction")
    reason: str = Field(default="", description="why the gate flagged or rejected")
    in_domain: bool = False
    failed: bool = False

    @property
    def same_minimum(self) -> bool:
        """Whether both arms converged in the same minimum."""
        return self.verdict == "same minimum"


def arms_rows(records: Records, where: Filter) -> list[ArmsRow]:
    """Return one row per configuration, by number of defects, then name; an unrelaxed arm serves all weights."""
    arms: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in records.ledgers(where.model_copy(update={"weights": None})):
        if row.start == "unrelaxed" or _asked(row, where.weights):
            arms[row.configuration_id].append(row)
    pairs = {pair.configuration_id: pair for pair in records.pairs(where)}
    ordered = sorted(arms.items(), key=lambda item: (item[1][0].n_defects, item[1][0].name, item[0]))
    return [_row(id_, rows, pairs.get(id_), where.weights) for id_, rows in ordered]


def _asked(row: LedgerRow, weights: str | None) -> bool:
    """Whether these weights were asked about the arm; None: any."""
    return row.prediction is not None and weights in (None, row.prediction.weights)


def _row(configuration_id: str, rows: list[LedgerRow], pair: Pair | None, weights: str | None) -> ArmsRow:
    unrelaxed, predicted = (next((r for r in rows if r.start == start), None) for start in ("unrelaxed", "predicted"))
    note = next((r.prediction for r in rows if _asked(r, weights)), None)
    return ArmsRow(
        configuration_id=configuration_id,
        name=rows[0].name,
        steps_unrelaxed=_steps(unrelaxed),
        steps_predicted=_steps(predicted),
        start_force_unrelaxed=_start_force(unrelaxed),
        start_force_predicted=_start_force(predicted),
        converged=all(r.ledger is not None and r.ledger.converged for r in rows),
        verdict=pair.verdict if pair else None,
        gate=note.gate.verdict if note else "no prediction",
        reason=note.gate.reason if note else "",
        in_domain=note.gate.in_domain if note else False,
        failed=any(r.status == "failed" for r in rows),
    )


def _steps(row: LedgerRow | None) -> int | None:
    return row.ledger.ionic_steps if row is not None and row.ledger is not None else None


def _start_force(row: LedgerRow | None) -> float | None:
    return row.ledger.start_max_force if row is not None and row.ledger is not None else None
