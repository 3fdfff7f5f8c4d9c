"""Whether a maggma Store keeps documents: a document is written, read back through a second connection, and removed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from maggma.core import Store
from pymongo.errors import PyMongoError

from definet_flows.errors import InputError
from definet_flows.stores.backends.maggma_kinds import is_bare_memory, is_json, is_memory, is_mongo
from definet_flows.stores.backends.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggma.stores import JSONStore

_REMEDY = "name a MongoStore, or leave it out for a SQLite file on this machine"
_KIND = "trial of writing"
_SECONDS = 5.0  # a second connection may read from a replica that is a moment behind
_PROVED: set[str] = set()


def require_lasting(store: Store, again: Callable[[], Store], what: str, key: str = "id") -> None:
    """Refuse a connected store that loses documents.

    Parameters
    ----------
    store
        A store, connected for writing.
    again
        Returns the same store, not connected yet.
    what
        The store in words, such as "record store 'cluster'".
    key
        Field that identifies a document.

    Raises
    ------
    InputError
        If a written document cannot be read back, or the store forbids writing.
    """
    if reason := volatile(store):
        msg = f"{what} {reason}"
        raise InputError(msg)
    if isinstance(store, SqliteStore):
        return  # on disk before it is acknowledged
    token = f"definet {uuid4()}"
    try:
        store.update([{key: token, "kind": _KIND}], key=key)
        try:
            found = _reads_back(again(), key, token)
        finally:
            store.remove_docs({key: token})
    except (InputError, PyMongoError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a Store raises may quote its arguments
        msg = f"{what} takes no documents ({type(error).__name__} of {type(store).__name__}): {_REMEDY}"
        raise InputError(msg) from None
    if not found:
        msg = f"{what} does not keep what is written ({type(store).__name__}): {_REMEDY}"
        raise InputError(msg)


def prove_once(store: Store, again: Callable[[], Store], what: str, spec: Any) -> None:  # noqa: ANN401 - JSON
    """As `require_lasting`, once in this process for each store; `spec` identifies the store."""
    identity = json.dumps([what, spec], default=repr, sort_keys=True)
    if identity not in _PROVED:
        require_lasting(store, again, what)
        _PROVED.add(identity)


def volatile(store: Store) -> str | None:
    """Return why a store, or a store that it is made of, cannot keep anything; None if it can."""
    return next((reason for leaf in _leaves(store) if (reason := _forgets(leaf)) is not None), None)


def prepare(store: Store, what: str, *, read_only: bool) -> None:
    """Refuse, before a store connects, a JSON file that is damaged, or a store that cannot keep anything.

    A store that is only read does not write its file anew, as a JSONStore does whenever it connects.

    Raises
    ------
    InputError
        If a file is not a list of documents; to write, if the store cannot keep documents.
    """
    if not read_only and (reason := volatile(store)):
        msg = f"{what} {reason}"
        raise InputError(msg)
    for leaf in _leaves(store):
        if is_json(leaf):
            leaf.read_only = leaf.read_only or read_only
    require_whole(store, what)


def require_whole(store: Store, what: str) -> None:
    """Refuse a store, not connected yet, with a JSON file that is damaged.

    maggma takes a file that it cannot read for empty, and overwrites it with the next document.

    Raises
    ------
    InputError
        If a file is not a list of documents, or is not there and would not be made.
    """
    for leaf in _leaves(store):
        if is_json(leaf):
            for path in map(Path, leaf.paths):
                _require_documents(leaf, path, what)


def _require_documents(store: JSONStore, path: Path, what: str) -> None:
    if not path.exists():
        if not store.read_only:
            return  # it is made
        msg = f"{what}: there is no file {path} to read: run a flow first, or name another store"
        raise InputError(msg)
    try:
        documents = store.read_json_file(path)
        reason = None if all(isinstance(document, dict) for document in documents) else "it is no list of documents"
    except Exception as error:  # noqa: BLE001 - of whatever reads compressed files, JSON and dates
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if reason is not None:
        msg = f"{what}: {path} is damaged ({reason}): bring it back from a copy, or name another file"
        raise InputError(msg)


def _leaves(store: Store) -> Iterator[Store]:
    """Yield a store and the stores that it is made of: concatenated, aliased, an index beside files."""
    yield store
    for value in vars(store).values():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        for part in parts:
            if isinstance(part, Store):
                yield from _leaves(part)


def _forgets(store: Store) -> str | None:
    if isinstance(store, SqliteStore):
        return None
    if is_json(store):
        return "is a JSONStore that writes nothing to its file: give it `read_only: false`" if store.read_only else None
    in_memory = is_bare_memory(store) or getattr(store, "database_path", "") == ":memory:"
    # A store that extends MemoryStore may well write files: what it keeps is seen when it is read back.
    collection = None if is_memory(store) else getattr(store, "_coll", None)
    if in_memory or type(collection).__module__.startswith("mongomock"):
        return f"keeps documents in memory only ({type(store).__name__}), nothing would be on disk: {_REMEDY}"
    return None


def _reads_back(store: Store, key: str, token: str) -> bool:
    """Return whether a second connection finds a document."""
    store.key = key
    if is_mongo(store):
        store.safe_update = False
    store.connect()
    try:
        end = time.monotonic() + (0 if is_memory(store) else _SECONDS)
        while not (found := store.query_one({key: token}, [key]) is not None) and time.monotonic() < end:
            time.sleep(0.1)
        return found
    finally:
        store.close()  # type: ignore[no-untyped-call]
