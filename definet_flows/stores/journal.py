"""A crash-safe store for one machine: an append-only file behind maggma's MemoryStore.

Every update is one checksummed line, on disk (fsync) before it is acknowledged; a line torn by a
crash is dropped when the file is next opened. All documents are held in memory, so this is good for
a few thousand records; beyond that use a MongoStore.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maggma.stores import MemoryStore
from monty.json import jsanitize

from definet_flows.errors import InputError
from definet_flows.stores.journalfile import Doc, Journal, shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class JournalStore(MemoryStore):
    """A maggma Store in one append-only file of JSON lines.

    One process writes at a time (a lock file stands beside the journal), any number may read. All
    stores of one process that name the same file share one copy in memory.

    Parameters
    ----------
    path
        The file; `~` is the home of whoever connects. It is made, with its folders, on first use.
    read_only
        Read what is there, take no lock, change nothing. `connect(force_reset=True)` reads on.
    key
        Field that identifies a document in `update`.
    last_updated_field
        Field in which maggma's builders look for the time of the last change.

    Raises
    ------
    InputError
        From `connect`: if another process writes to the file, if it is damaged other than at its
        end, or if `read_only` and there is no such file.
    """

    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        key: str = "id",
        last_updated_field: str = "last_updated",
    ) -> None:
        super().__init__(collection_name=Path(path).stem, key=key, last_updated_field=last_updated_field)
        self.path = str(path)
        self.read_only = read_only
        self._journal: Journal | None = None
        self._detach: weakref.finalize[[], JournalStore] | None = None

    @property
    def name(self) -> str:
        """What the store is called in messages."""
        return f"journal://{self.path}"

    def connect(self, force_reset: bool = False) -> None:  # noqa: FBT001, FBT002 - maggma's signature
        """Read the file, and lock it unless read-only; with `force_reset` read what was added since."""
        if self._journal is not None and force_reset:
            self._journal.refresh()
        if self._journal is None:
            journal = shared(Path(self.path).expanduser().resolve(), read_only=self.read_only)
            journal.attach()
            self._journal = journal
            self._detach = weakref.finalize(self, journal.detach)

    def close(self) -> None:
        """Let go of the file; the last store of this process to do so releases the lock."""
        if self._detach is not None:
            self._detach()
        self._journal = self._detach = None

    def update(self, docs: list[Doc] | Doc, key: list[str] | str | None = None) -> None:
        """Upsert one batch: all of it is on disk when this returns, or none of it.

        Parameters
        ----------
        docs
            One document or several.
        key
            Field or fields that identify a document; the store's own `key` if None.
        """
        batch = [jsanitize(doc, allow_bson=True, recursive_msonable=True) for doc in _listed(docs)]
        if batch:
            self._writable().put(batch, tuple(_listed(key or self.key)))

    def remove_docs(self, criteria: Doc) -> None:
        """Remove the documents that match `criteria`."""
        journal = self._writable()
        with journal.mutex:
            journal.drop([doc["_id"] for doc in self.query(criteria, ["_id"])])

    def ensure_index(self, key: str, unique: bool | None = False) -> bool:  # noqa: FBT001, FBT002 - maggma's
        """Keep a field unique from now on; other indexes have nothing to speed up in memory.

        Returns
        -------
        bool
            False if the field is not unique already.
        """
        return self._writable().keep_unique(key) if unique else True

    def peek(self, criteria: Doc, fields: Sequence[str] | None = None) -> Iterator[Doc]:
        """Yield matching documents as they are in memory, ten times as fast as `query`: not to be changed.

        Parameters
        ----------
        criteria
            Values of fields (dotted), or lists of them as ``{"$in": [...]}``; anything else goes through `query`.
        fields
            Only these, by their path; all if None.
        """
        if any(isinstance(value, dict) and set(value) != {"$in"} for value in criteria.values()):
            yield from self.query(criteria, fields)  # type: ignore[arg-type]  # takes any sequence
            return
        tests = [(path.split("."), _wanted(value)) for path, value in criteria.items()]
        paths = None if fields is None else [field.split(".") for field in fields]
        for doc in self._attached().snapshot():
            if all(_is_in(_at(doc, path), wanted) for path, wanted in tests):
                yield doc if paths is None else _picked(doc, paths)

    @property
    def _collection(self) -> Any:  # noqa: ANN401 - an in-memory pymongo collection, untyped in maggma
        return self._attached().collection

    def _attached(self) -> Journal:
        if self._journal is None:
            msg = f"{self.name} is not connected: call connect() first"
            raise RuntimeError(msg)
        return self._journal

    def _writable(self) -> Journal:
        if self.read_only:
            msg = f"{self.name} was opened read-only: open it with read_only=False to change it"
            raise InputError(msg)
        return self._attached()

    def __hash__(self) -> int:
        return hash((self.path, self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JournalStore) and (self.path, self.key) == (other.path, other.key)


def _wanted(value: Any) -> tuple[Any, ...] | frozenset[Any]:  # noqa: ANN401 - of a filter
    return frozenset(value["$in"]) if isinstance(value, dict) else (value,)


def _is_in(value: Any, wanted: tuple[Any, ...] | frozenset[Any]) -> bool:  # noqa: ANN401 - whatever stands there
    return value.__hash__ is not None and value in wanted


def _at(doc: Doc, path: Sequence[str]) -> Any:  # noqa: ANN401 - whatever stands there
    value: Any = doc
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _picked(doc: Doc, paths: Sequence[Sequence[str]]) -> Doc:
    """Return a document with some fields only, as a projection does."""
    found: Doc = {}
    for path in paths:
        source = _at(doc, path[:-1])
        if isinstance(source, dict) and path[-1] in source:
            target = found
            for part in path[:-1]:
                target = target.setdefault(part, {})
            target[path[-1]] = source[path[-1]]
    return found


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - one of something, or a list of them
    return value if isinstance(value, list) else [value]
