"""Which of maggma's Stores a store is, without the import of `maggma.stores`: it loads the clients of AWS and SSH.

A store can only be of a class whose module is loaded already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from maggma.core import Store
    from maggma.stores import JSONStore, MemoryStore, MongoStore


def is_memory(store: Store) -> TypeGuard[MemoryStore]:
    """Whether a store is a MemoryStore, or derived from it."""
    return isinstance(store, _loaded("MemoryStore"))


def is_bare_memory(store: Store) -> bool:
    """Whether a store is a MemoryStore itself, nothing derived from it."""
    return type(store) is _loaded("MemoryStore")


def is_json(store: Store) -> TypeGuard[JSONStore]:
    """Whether a store is a JSONStore."""
    return isinstance(store, _loaded("JSONStore"))


def has_collection(store: Store) -> TypeGuard[MongoStore]:
    """Whether a store is a MongoStore; a MemoryStore, derived from it, is."""
    return isinstance(store, _loaded("MongoStore"))


def is_mongo(store: Store) -> TypeGuard[MongoStore]:
    """Whether a store is a MongoStore and the documents are in a database, not in memory."""
    return has_collection(store) and not is_memory(store)


def _loaded(name: str) -> Any:  # noqa: ANN401 - a class, or none
    return getattr(sys.modules.get("maggma.stores.mongolike"), name, ())
