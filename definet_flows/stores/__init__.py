"""Records in any maggma Store: access, pairs, savings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows._lazy import names_of

if TYPE_CHECKING:
    from definet_flows.stores.analysis.by_configuration import StartsRow, starts_rows
    from definet_flows.stores.analysis.counts import Counts, counts, counts_by, explain_nothing
    from definet_flows.stores.analysis.figures import Quantity, Savings, Spending
    from definet_flows.stores.analysis.ledgers import LedgerRow
    from definet_flows.stores.analysis.pairs import judge, update_pairs
    from definet_flows.stores.analysis.rows import PairRow, RecordRow
    from definet_flows.stores.analysis.savings import gather, savings, savings_by
    from definet_flows.stores.backends.journal_store import JournalStore
    from definet_flows.stores.backends.sqlite import SqliteStore
    from definet_flows.stores.filters import Filter
    from definet_flows.stores.opening import open_store, portable
    from definet_flows.stores.records import Records

__all__ = [
    "Counts",
    "Filter",
    "JournalStore",
    "LedgerRow",
    "PairRow",
    "Quantity",
    "RecordRow",
    "Records",
    "Savings",
    "Spending",
    "SqliteStore",
    "StartsRow",
    "counts",
    "counts_by",
    "explain_nothing",
    "gather",
    "judge",
    "open_store",
    "portable",
    "savings",
    "savings_by",
    "starts_rows",
    "update_pairs",
]

_HOMES = {
    "Arm": "definet_flows.stores.analysis.rows",  # former names: Arm, ArmsRow, Ends, arms_rows
    "ArmsRow": "definet_flows.stores.analysis.by_configuration",
    "Ends": "definet_flows.stores.analysis.rows",
    "arms_rows": "definet_flows.stores.analysis.by_configuration",
    "PairRow": "definet_flows.stores.analysis.rows",
    "StartsRow": "definet_flows.stores.analysis.by_configuration",
    "Counts": "definet_flows.stores.analysis.counts",
    "RecordRow": "definet_flows.stores.analysis.rows",
    "Filter": "definet_flows.stores.filters",
    "JournalStore": "definet_flows.stores.backends.journal_store",
    "LedgerRow": "definet_flows.stores.analysis.ledgers",
    "Quantity": "definet_flows.stores.analysis.figures",
    "Records": "definet_flows.stores.records",
    "Savings": "definet_flows.stores.analysis.figures",
    "Spending": "definet_flows.stores.analysis.figures",
    "SqliteStore": "definet_flows.stores.backends.sqlite",
    "starts_rows": "definet_flows.stores.analysis.by_configuration",
    "counts": "definet_flows.stores.analysis.counts",
    "counts_by": "definet_flows.stores.analysis.counts",
    "explain_nothing": "definet_flows.stores.analysis.counts",
    "gather": "definet_flows.stores.analysis.savings",
    "judge": "definet_flows.stores.analysis.pairs",
    "open_store": "definet_flows.stores.opening",
    "portable": "definet_flows.stores.opening",
    "savings": "definet_flows.stores.analysis.savings",
    "savings_by": "definet_flows.stores.analysis.savings",
    "update_pairs": "definet_flows.stores.analysis.pairs",
}

__getattr__, __dir__ = names_of(__name__, _HOMES)
