"""Replace a document only if nobody else has meanwhile: one atomic step in MongoDB and in a journal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from maggma.stores import MongoStore
from pymongo.errors import DuplicateKeyError

from definet_flows.errors import InputError
from definet_flows.schemas import dump
from definet_flows.schemas.models import Revised
from definet_flows.stores.journal import JournalStore

if TYPE_CHECKING:
    from definet_flows.stores.access import Records


def swap(records: Records, document: Revised, revision: int | None) -> bool:
    """Write a document if the stored one has this revision, or with None if there is none; say whether it was written.

    What is written has the next revision. A MongoStore does this in one operation; a journal is locked by the process
    that has it open. Other maggma Stores have no such operation: there, two processes must not do this at once.

    Raises
    ------
    InputError
        If the store is read-only, cannot be reached, or refuses the user.
    """
    if records.read_only:
        msg = f"record store {records.name!r} was opened read-only: nothing written"
        raise InputError(msg)
    following = document.model_copy(update={"revision": 0 if revision is None else revision + 1})
    raw = {**dump(following), "last_updated": datetime.now(UTC).replace(tzinfo=None)}
    with records._errors():  # noqa: SLF001 - of the same room
        records._ensure_indexes()  # noqa: SLF001
        if isinstance(records.store, JournalStore):
            with records.store._attached().mutex:  # noqa: SLF001
                return _compare_and_update(records, raw, revision)
        if isinstance(records.store, MongoStore):
            return write_if(records.store, raw, None if revision is None else {"revision": revision})
        return _compare_and_update(records, raw, revision)


def write_if(store: MongoStore, raw: dict[str, Any], stored: dict[str, Any] | None) -> bool:
    """Write a document in one atomic step if the stored one has these values, or with None if there is none."""
    collection = store._collection  # noqa: SLF001 - maggma has no conditional update
    if stored is not None:
        return bool(collection.replace_one({"id": raw["id"], **stored}, raw).matched_count)
    try:
        collection.insert_one(raw)
    except DuplicateKeyError:
        return False
    return True


def _compare_and_update(records: Records, raw: dict[str, Any], revision: int | None) -> bool:
    stored = records.store.query_one({"id": raw["id"]}, ["revision"])
    if (stored or {}).get("revision") != revision:
        return False
    records.store.update([raw], key="id")
    return True
