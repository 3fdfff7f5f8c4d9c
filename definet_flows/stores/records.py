"""Typed access to records, predictions, relaxed hosts and pairs in any maggma Store.

All of them live in one Store under the key `id`; `kind` tells them apart. A job carries the *name*
of a store; what the name means is read from the settings of the machine the job runs on, so that
no credentials travel with a job or end in a record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from definet_flows._lazy import names_of
from definet_flows.errors import InputError
from definet_flows.schemas import Document, content_hash, dump
from definet_flows.settings import load_settings
from definet_flows.stores.analysis import pages
from definet_flows.stores.analysis.rows import FORMS, row_of
from definet_flows.stores.backends.maggma_kinds import has_collection
from definet_flows.stores.backends.projection import keep
from definet_flows.stores.backends.sqlite import SqliteStore
from definet_flows.stores.faults import DUPLICATE, codes
from definet_flows.stores.reading import ALWAYS, PROJECTIONS, Reader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from maggma.core import Store

    from definet_flows.stores.opening import LOCAL, PATHS, open_store, portable  # noqa: F401 - which were here

_INDEXES = ("kind", "configuration_id", "settings_hash", "last_updated")
_ATTEMPTS = 5

_MOVED = dict.fromkeys(("LOCAL", "PATHS", "open_store", "portable"), "definet_flows.stores.opening")
"""Names of `opening`, which this module had."""

__getattr__, __dir__ = names_of(__name__, _MOVED)


class Records(Reader):
    """The documents of a campaign in one maggma Store; a context manager that closes it.

    Parameters
    ----------
    store
        Any maggma Store; connected here.
    name
        What messages call it; a store's own name may hold a password.
    read_only
        Refuse `put`.

    Raises
    ------
    InputError
        From every method: if the store cannot be reached or does not permit it, or if a document in
        it is of a newer schema version.
    """

    def __init__(self, store: Store, *, name: str = "records", read_only: bool = False) -> None:
        super().__init__(store, name)
        self.read_only = read_only
        self._indexed = False
        store.key = "id"
        if has_collection(store):
            store.safe_update = False  # it would log and drop what does not fit, instead of raising
        try:
            with self._errors():
                store.connect()
                store.query_one({"id": ""}, ["id"])  # nothing matches, but the question must be allowed
        except Exception as error:
            if has_collection(store) and store._coll is not None:  # noqa: SLF001 - close() needs one
                self.close()
            if isinstance(error, InputError):
                raise
            # A driver's complaint about a setting of the wrong type may quote it: a password is among them.
            msg = f"record store {name!r}: {type(error).__name__} while connecting: mend its settings (types, uri)"
            raise InputError(msg) from None

    def __repr__(self) -> str:
        return f"Records({self.name!r})"

    @property
    def location(self) -> str:
        """Where the records are, to be told to a person: a file's path, else the store's name in the settings."""
        return str(self.store.file) if isinstance(self.store, SqliteStore) else self.name

    def __enter__(self) -> Records:  # noqa: PYI034 - not to be derived from
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.store.close()  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------ writing

    def put(self, *documents: Document) -> None:
        """Upsert documents by their id; when this returns, they are stored.

        Raises
        ------
        InputError
            If the store is read-only, refuses the user, or a document exceeds what it can hold.
        """
        self._refuse_if_read_only()
        if not documents:
            return
        raw = [_dated(document) for document in documents]
        with self._errors():
            self._ensure_indexes()
            for attempt in range(_ATTEMPTS):
                try:
                    self._update(raw)
                except BulkWriteError as error:
                    # Another worker inserted the same id first: the next attempt replaces it.
                    if codes(error) != {DUPLICATE} or attempt == _ATTEMPTS - 1:
                        raise
                else:
                    return

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            msg = f"record store {self.name!r} was opened read-only: nothing written"
            raise InputError(msg)

    def replace_if(self, document: Document, expected: Mapping[str, Any] | None) -> bool:
        """Write a document if the stored one of its id is as expected, in one atomic step; say whether it was written.

        A MongoDB decides in one command, with the row of its page; a SQLite file in one transaction. Other maggma
        Stores have no such step: there a lock file keeps the processes of one machine and data folder apart, those of
        several machines must not do this at once.

        Parameters
        ----------
        document
            What to write.
        expected
            Values of the stored document, by their path; None: there must be none.

        Raises
        ------
        InputError
            As `put`.
        """
        self._refuse_if_read_only()
        raw = _dated(document)
        with self._errors():
            self._ensure_indexes()
            if isinstance(self.store, SqliteStore):
                return self.store.replace_if(raw, None if expected is None else dict(expected))
            if self._paged:
                return self._replace_in_mongo(raw, expected)
            with FileLock(_lock_file(self.store.name)):
                found = self.store.query_one({"id": raw["id"]}, ["id"])
                if expected is not None:
                    found = self.store.query_one({"id": raw["id"], **expected}, ["id"])
                if (found is None) != (expected is None):
                    return False
                self.store.update([raw], key="id")
                return True

    def _replace_in_mongo(self, raw: dict[str, Any], expected: Mapping[str, Any] | None) -> bool:
        """Write in one command: where another document is stored, inserting fails, and the page keeps its row."""
        found = {"kind": {"$exists": False}} if expected is None else dict(expected)
        requests = [ReplaceOne({"id": raw["id"], **found}, raw, upsert=True), *pages.updates([raw])]
        try:
            self.store._collection.bulk_write(requests, ordered=True)  # noqa: SLF001 - maggma has no such update
        except BulkWriteError as error:
            if codes(error) != {DUPLICATE}:
                raise
            return False
        return True

    def _update(self, raw: list[dict[str, Any]]) -> None:
        """Upsert documents; a MongoDB gets their rows of the pages in the same command."""
        if not self._paged:
            self.store.update(raw, key="id")
            return
        requests = [ReplaceOne({"id": one["id"]}, one, upsert=True) for one in raw]
        self.store._collection.bulk_write([*requests, *pages.updates(raw)])  # noqa: SLF001 - maggma has no $set

    def rebuild_pages(self) -> int:
        """Make the pages of a MongoDB anew from its documents; return how many rows they hold.

        Needed where documents came in by another way than `put`, or from another version; while nothing else writes. A
        SQLite file makes its rows where it lacks them; other stores have none.
        """
        if not self._paged:
            with self._errors():
                self._ensure_indexes()
            return 0
        count = 0
        with self._errors():
            self._ensure_indexes()
            self.store.remove_docs({"kind": {"$in": ["page", "pages"]}})
            for kind, form in FORMS.items():
                raws = [{**raw, "kind": kind} for raw in self._query({"kind": kind}, [*ALWAYS, *form.paths])]
                raws = list(self._each(map(_checked_row, raws)))
                if raws:
                    self.store._collection.bulk_write(pages.updates(raws))  # noqa: SLF001 - maggma has no $set
                count += len(raws)
                self.store.update(pages.mark(kind), key="id")
        return count

    def _ensure_indexes(self) -> None:
        """Before the first write: without them two workers could insert one id twice."""
        if self._indexed:
            return
        if not self.store.ensure_index("id", unique=True):
            msg = f"record store {self.name!r} takes no unique index on 'id': check permissions and duplicates"
            raise InputError(msg)
        for field in _INDEXES:
            self.store.ensure_index(field)
        if isinstance(self.store, SqliteStore):
            for one in PROJECTIONS.values():
                keep(self.store.database, one, partial(self.store.found, {"kind": one.kind}))
        for kinds in (("record", "pair"), ("prediction",)) if self._paged else ():
            if self.store.query_one({"kind": {"$in": [*kinds]}}, ["id"]) is None:
                self.store.update(pages.mark(kinds[0]), key="id")  # whatever comes in from now on is in the pages
        self._indexed = True


def _checked_row(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a record, pair or prediction whose row can be read; raises BadDocumentError."""
    row_of(raw["kind"], raw)
    return raw


def _dated(document: Document) -> dict[str, Any]:
    """Return a document as it is stored: with the time in UTC, naive as maggma and MongoDB have it."""
    return {**dump(document), "last_updated": datetime.now(UTC).replace(tzinfo=None)}


def _lock_file(name: str) -> Path:
    """Return the file that a process holds while it changes a store that has no conditional update."""
    folder = load_settings().data_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{content_hash('lock', name)}.lock"
