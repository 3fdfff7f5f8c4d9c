"""The name that settings of earlier versions have for the store of a laptop."""

from __future__ import annotations

from definet_flows.stores.backends.sqlite import SqliteStore


class JournalStore(SqliteStore):
    """A SqliteStore that takes in the journal of its path: what `~/.jobflow.yaml` and settings have named so far.

    `PATH.sqlite` beside the journal is written, the journal itself is only read.
    """

    @property
    def _is_journal(self) -> bool:
        return True
