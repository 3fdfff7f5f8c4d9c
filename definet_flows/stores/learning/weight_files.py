"""Weights as bytes beside the records: base64 in chunks, in a store of their own.

Beside a file `records.sqlite` that is `records.weights.sqlite`; beside a MongoDB collection the collection
of the same name with `_weights`; any other maggma Store takes them itself.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.stores.backends.maggma_kinds import is_mongo
from definet_flows.stores.backends.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggma.core import Store

    from definet_flows.stores.records import Records

_CHUNK = 6_000_000  # bytes; 8 MB as text, MongoDB takes documents of 16
_SUFFIX = "weights"


def put_weights(records: Records, content: bytes) -> str:
    """Store weights; return their sha256, by which they are found. The same content twice is stored once.

    Raises
    ------
    InputError
        If the store is read-only, cannot be reached or refuses the user.
    """
    if records.read_only:
        msg = f"record store {records.name!r} was opened read-only: nothing written"
        raise InputError(msg)
    digest = hashlib.sha256(content).hexdigest()
    parts = [content[first : first + _CHUNK] for first in range(0, len(content), _CHUNK)]
    with _beside(records) as store:
        store.ensure_index("id", unique=True)
        for k, part in enumerate(parts):  # singly: all of them may exceed the size of an update
            text = base64.b64encode(part).decode()
            place = {"id": f"{digest}-{k}", "kind": "weights", "sha256": digest, "part": k, "parts": len(parts)}
            store.update([{**place, "data": text}], key="id")
    return digest


def get_weights(records: Records, digest: str) -> bytes:
    """Return the weights with this sha256.

    Raises
    ------
    InputError
        If they are not in the store, or have another sha256.
    """
    with _beside(records) as store:
        parts = sorted(store.query({"kind": "weights", "sha256": digest}), key=lambda doc: doc["part"])
    content = b"".join(base64.b64decode(doc["data"]) for doc in parts)
    if hashlib.sha256(content).hexdigest() != digest:
        have = f"{len(parts)} of {parts[0]['parts']} parts" if parts else "nothing"
        msg = f"weights {digest[:12]} are not whole in record store {records.name!r} ({have}): register them again"
        raise InputError(msg)
    return content


@contextmanager
def _beside(records: Records) -> Iterator[Store]:
    """Yield the store that takes the weights of a record store, connected."""
    store = records.store
    with records._errors():  # noqa: SLF001 - of the same room
        if isinstance(store, SqliteStore):
            beside = _sibling(store)
            beside.connect()
            try:
                yield beside
            finally:
                beside.close()
        elif is_mongo(store):
            from maggma.stores import MongoStore  # noqa: PLC0415 - loaded already, for this store

            collection = store._collection  # noqa: SLF001 - maggma names no sibling
            sibling = collection.database[f"{collection.name}_{_SUFFIX}"]
            yield MongoStore.from_collection(sibling)  # type: ignore[no-untyped-call]
        else:
            yield store


def _sibling(store: SqliteStore) -> SqliteStore:
    """Return the store of the weights beside a SQLite file; those beside a journal of earlier versions too."""

    def beside(path: str) -> str:
        return str(Path(path).with_suffix(f".{_SUFFIX}{Path(path).suffix}"))

    journal = None if store.journal is None else beside(store.journal)
    return type(store)(beside(store.path), read_only=store.read_only, journal=journal)
