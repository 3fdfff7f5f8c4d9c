"""Records in any maggma Store: access, pairs, savings."""

from definet_flows.stores.access import Records, open_store, portable
from definet_flows.stores.backends.sqlite import SqliteStore
from definet_flows.stores.counts import Counts, counts, counts_by, explain_nothing
from definet_flows.stores.figures import Quantity, Savings, Spending
from definet_flows.stores.filters import Filter
from definet_flows.stores.journal import JournalStore
from definet_flows.stores.ledgers import LedgerRow
from definet_flows.stores.pairs import judge, update_pairs
from definet_flows.stores.rows import ArmsRow, arms_rows
from definet_flows.stores.savings import gather, savings, savings_by
from definet_flows.stores.table import Arm, Ends

__all__ = [
    "Arm",
    "ArmsRow",
    "Counts",
    "Ends",
    "Filter",
    "JournalStore",
    "LedgerRow",
    "Quantity",
    "Records",
    "Savings",
    "Spending",
    "SqliteStore",
    "arms_rows",
    "counts",
    "counts_by",
    "explain_nothing",
    "gather",
    "judge",
    "open_store",
    "portable",
    "savings",
    "savings_by",
    "update_pairs",
]
