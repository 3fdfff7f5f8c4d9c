"""The right to relax: a record is marked running by one job only, in one atomic step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maggma.stores import MemoryStore, MongoStore

from definet_flows.schemas import DefectRecord, dump
from definet_flows.stores.swap import write_if

if TYPE_CHECKING:
    from definet_flows.stores.access import Records


def claim(records: Records, record: DefectRecord, earlier: DefectRecord | None) -> bool:
    """Write a record unless the store no longer holds what was read of it; say whether it was written.

    A MongoStore decides in one operation. A journal is locked by the process that has it open, so what was read from
    it since is what it holds. Other maggma Stores have no such operation: two processes must not claim in them at once.

    Parameters
    ----------
    records
        An open store.
    record
        What to write: status `running`, with its owner.
    earlier
        What `records.record` returned; None if there was none.

    Raises
    ------
    InputError
        As `Records.put`.
    """
    store = records.store
    if isinstance(store, MongoStore) and not isinstance(store, MemoryStore):
        with records._errors():  # noqa: SLF001 - of the same room
            records._ensure_indexes()  # noqa: SLF001
            if not write_if(store, dump(record), _identity(earlier)):
                return False
    elif _identity(records.record(record.id)) != _identity(earlier):
        return False
    records.put(record)
    return True


def _identity(record: DefectRecord | None) -> dict[str, Any] | None:
    """Return what a claim changes, by its path in a document."""
    return None if record is None else {"status": record.status, "provenance.job_uuid": record.provenance.job_uuid}
