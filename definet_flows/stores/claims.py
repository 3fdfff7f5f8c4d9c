"""The right to relax: a record is marked running by one job only, in one atomic step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maggma.stores import MemoryStore, MongoStore
from pymongo.errors import DuplicateKeyError

from definet_flows.schemas import DefectRecord, dump

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
        if not _claimed(records, store, record, earlier):
            return False
    elif _identity(records.record(record.id)) != _identity(earlier):
        return False
    records.put(record)
    return True


def _identity(record: DefectRecord | None) -> tuple[str, str | None] | None:
    """Return what a claim changes."""
    return None if record is None else (record.status, record.provenance.job_uuid)


def _claimed(records: Records, store: MongoStore, record: DefectRecord, earlier: DefectRecord | None) -> bool:
    raw: dict[str, Any] = dump(record)
    with records._errors():  # noqa: SLF001 - of the same room
        records._ensure_indexes()  # noqa: SLF001
        collection = store._collection  # noqa: SLF001 - maggma has no conditional update
        if earlier is None:
            try:
                collection.insert_one(raw)
            except DuplicateKeyError:
                return False
            return True
        status, job_uuid = earlier.status, earlier.provenance.job_uuid
        same = {"id": record.id, "status": status, "provenance.job_uuid": job_uuid}
        return bool(collection.replace_one(same, raw).matched_count)
