"""The class of a laptop's store in settings of earlier versions."""

from __future__ import annotations

from definet_flows.stores.backends.sqlite import SqliteStore


class JournalStore(SqliteStore):
    """A SqliteStore that takes in the journal of its path, as `~/.jobflow.yaml` and older settings name it.

    `PATH.sqlite` beside the journal is written, the journal itself is only read.
    """

    @property
    def _is_journal(self) -> bool:
        return True
