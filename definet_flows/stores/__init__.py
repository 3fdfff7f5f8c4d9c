"""Records in any maggma Store: access, pairs, savings."""

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
from definet_flows.stores.records import Records, open_store, portable

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

Arm, Ends, ArmsRow, arms_rows = RecordRow, PairRow, StartsRow, starts_rows
"""Former names."""
