"""Typed access to records, predictions, relaxed hosts and pairs in any maggma Store.

All of them live in one Store under the key `id`; `kind` tells them apart. A job carries the *name*
of a store; what the name means is read from the settings of the machine the job runs on, so that
no credentials travel with a job or end in a record.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock
from maggma.core import Store
from maggma.stores import MemoryStore, MongoStore
from monty.json import MontyDecoder
from pydantic import BaseModel
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, ConfigurationError, DocumentTooLarge, OperationFailure, PyMongoError

from definet_flows.errors import BadDocumentError, InputError, LeftOutWarning
from definet_flows.schemas import (
    SCHEMA_VERSION,
    DefectRecord,
    Document,
    Frozen,
    Ledger,
    Pair,
    Prediction,
    Probe,
    RelaxedHost,
    content_hash,
    dump,
)
from definet_flows.settings import load_settings
from definet_flows.stores.analysis import pages
from definet_flows.stores.analysis.ledgers import LEDGER_FIELDS, LedgerRow
from definet_flows.stores.analysis.rows import (
    PAIR_NEEDED,
    PAIR_PATHS,
    PREDICTION_PATHS,
    RECORD_NEEDED,
    RECORD_PATHS,
    PairRow,
    PredictionRow,
    RecordRow,
    pair_row_of,
    prediction_row_of,
    record_row_of,
)
from definet_flows.stores.backends.projection import Projection, keep, keeps, kept
from definet_flows.stores.backends.sqlite import SqliteStore
from definet_flows.stores.durability import prepare, prove_once
from definet_flows.stores.filters import Filter
from definet_flows.stores.garbage import uncollected
from definet_flows.stores.versions import REMEDY, parse, parse_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

LOCAL = "local"
PATHS = (".sqlite", ".db", ".jsonl")
"""How a record store ends that is named by its path."""

_EVERYTHING = Filter()
_ANY: dict[str, Any] = {}
_INDEXES = ("kind", "configuration_id", "settings_hash", "last_updated")
_UNAUTHORIZED = {13, 18, 8000}  # MongoDB's codes for what wrong credentials or a read-only user meet
_TOO_LARGE = {10334, 17419, 17420}
_DUPLICATE = 11000
_ATTEMPTS = 5
_SHOWN = 3  # documents left out that a warning names
_ALWAYS = ("id", "kind", "schema_version")

_D = TypeVar("_D", bound=Document)
_M = TypeVar("_M", bound=BaseModel)
_T = TypeVar("_T")


def open_store(name: str | Path | None = None, *, read_only: bool = False) -> Records:
    """Open a record store by name.

    Parameters
    ----------
    name
        A name under `record_stores` in the settings; `local` for the SQLite file in the data folder; a path that ends
        in `.sqlite` or `.db` for such a file there, in `.jsonl` for a journal of earlier versions; None for the setting
        `record_store`.
    read_only
        Change nothing.

    Raises
    ------
    InputError
        If the name is unknown, or the store cannot be reached or read; unless `read_only`, if it does not keep what is
        written.
    """
    settings = load_settings()
    name = settings.record_store if not name else fspath(name)
    if name in settings.record_stores:
        return _open_named(name, settings.record_stores[name], read_only=read_only)
    if name == LOCAL:
        folder = settings.data_dir
        journal = str(folder / "records.jsonl")  # of earlier versions
        store = SqliteStore(str(folder / "records.sqlite"), read_only=read_only, journal=journal)
    elif name.endswith(PATHS):
        store = SqliteStore(str(Path(name).expanduser().absolute()), read_only=read_only)
    else:
        known = ", ".join(sorted({LOCAL, *settings.record_stores}))
        msg = f"no record store is called {name!r}: give one of {known}, or a path ending in .sqlite"
        raise InputError(msg)
    return Records(store, name=name, read_only=read_only)


def _open_named(name: str, spec: dict[str, Any], *, read_only: bool) -> Records:
    """Open a store of the settings; before the first writing of this process it is tried whether it keeps anything."""
    store, what = _from_spec(name, spec), f"record store {name!r}"
    prepare(store, what, read_only=read_only)
    records = Records(store, name=name, read_only=read_only)
    if read_only:
        return records
    try:
        with records._errors():  # noqa: SLF001 - of the same module
            prove_once(store, lambda: _from_spec(name, spec), what, spec)
    except InputError:
        records.close()
        raise
    return records


def portable(name: str | None) -> str | None:
    """Return the name of a record store for jobs, which run in folders of their own: a path is made absolute."""
    return str(Path(name).expanduser().absolute()) if name is not None and name.endswith(PATHS) else name


def _from_spec(name: str, spec: dict[str, Any]) -> Store:
    """Build a Store from the settings; the message never shows the arguments, a password is among them."""
    try:
        store = MontyDecoder().process_decoded(dict(spec))
    except Exception as error:  # noqa: BLE001 - whatever a Store's constructor raises may quote its arguments
        msg = f"record store {name!r}: {type(error).__name__} while building it: mend it in the settings"
        raise InputError(msg) from None
    if not isinstance(store, Store):
        msg = f"record store {name!r} is no maggma Store: give it '@module' and '@class' in the settings"
        raise InputError(msg)
    return store


class Records:
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
        self.store = store
        self.name = name
        self.read_only = read_only
        self._indexed = False
        self._left_out: set[str] = set()
        store.key = "id"
        if isinstance(store, MongoStore):
            store.safe_update = False  # it would log and drop what does not fit, instead of raising
        try:
            with self._errors():
                store.connect()
                store.query_one({"id": ""}, ["id"])  # nothing matches, but the question must be allowed
        except Exception as error:
            if isinstance(store, MongoStore) and store._coll is not None:  # noqa: SLF001 - close() needs one
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
                    if _codes(error) != {_DUPLICATE} or attempt == _ATTEMPTS - 1:
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
            if _codes(error) != {_DUPLICATE}:
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

    @property
    def _paged(self) -> bool:
        return isinstance(self.store, MongoStore) and not isinstance(self.store, MemoryStore)

    @property
    def complete(self) -> bool:
        """Whether queries can do without reading every record; False in a MongoDB whose pages have to be made."""
        return all(self._complete(of) for of in pages.PATHS)

    def _complete(self, of: pages.Of) -> bool:
        if isinstance(self.store, SqliteStore):
            return keeps(self.store.database, _PROJECTIONS[of])
        return not self._paged or next(self._query({"id": pages.mark(of)["id"]}, ["id"]), None) is not None

    def rebuild_pages(self) -> int:
        """Make the pages of a MongoDB anew from its documents; return how many rows they hold.

        Needed where documents came in by another way than `put`; while nothing else writes. Other stores have none.
        """
        if not self._paged:
            return 0
        count = 0
        with self._errors():
            self._ensure_indexes()
            self.store.remove_docs({"kind": {"$in": ["page", "pages"]}})
            for kind, paths in pages.PATHS.items():
                raws = [{**raw, "kind": kind} for raw in self._query({"kind": kind}, [*_ALWAYS, *paths])]
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
            for one in _PROJECTIONS.values():
                keep(self.store.database, one, partial(self.store.found, {"kind": one.kind}))
        for kinds in (("record", "pair"), ("prediction",)) if self._paged else ():
            if self.store.query_one({"kind": {"$in": [*kinds]}}, ["id"]) is None:
                self.store.update(pages.mark(kinds[0]), key="id")  # whatever comes in from now on is in the pages
        self._indexed = True

    # ------------------------------------------------------------ reading

    def record(self, record_id: str) -> DefectRecord | None:
        """Return one record by id, None if there is none."""
        return self._one(record_id, "record", DefectRecord)

    def prediction(self, prediction_id: str) -> Prediction | None:
        """Return one prediction by id, None if there is none."""
        return self._one(prediction_id, "prediction", Prediction)

    def host(self, host_id: str) -> RelaxedHost | None:
        """Return one relaxed host by id, None if there is none."""
        return self._one(host_id, "host", RelaxedHost)

    def has_done(self, record_id: str) -> bool:
        """Tell whether this relaxation is finished and need not be run again."""
        criteria = {"id": record_id, "kind": "record", "status": "done"}
        with self._errors():
            return self.store.query_one(criteria, ["id"]) is not None

    def records(self, where: Filter = _EVERYTHING) -> Iterator[DefectRecord]:
        """Yield whole records, structures included; `ledgers` is many times lighter."""
        return self._each(map(parse_as(DefectRecord), self._query(where.criteria("record"))))

    def ledgers(self, where: Filter = _EVERYTHING) -> Iterator[LedgerRow]:
        """Yield records without their structures."""
        return self._each(map(parse_as(LedgerRow), self._query(where.criteria("record"), LEDGER_FIELDS)))

    def pairs(self, where: Filter = _EVERYTHING) -> Iterator[Pair]:
        """Yield pairs."""
        return self._each(map(parse_as(Pair), self._query(where.criteria("pair"))))

    def probes(self) -> Iterator[Probe]:
        """Yield probes of ends."""
        return self._each(map(parse_as(Probe), self._query({"kind": "probe"})))

    def find(
        self, model: type[_M], criteria: dict[str, Any] = _ANY, fields: list[str] | None = None, *, limit: int = 0
    ) -> Iterator[_M]:
        """Yield documents of one model's kind that match a MongoDB filter; only these fields, a server a few only."""
        kind = model.model_fields["kind"].default
        raws = self._query({**criteria, "kind": kind}, fields, limit=limit)
        return self._each(map(parse_as(model), raws))

    def record_rows(self, where: Filter = _EVERYTHING) -> list[RecordRow]:
        """Return the flat row of every record that matches; no structure is read."""
        if (paged := self._pages("record", where)) is not None:
            with uncollected():
                return list(filter(where.matcher(), self._each(pages.record_rows(paged))))
        return list(self._each(map(record_row_of, self._query(where.criteria("record"), [*_ALWAYS, *RECORD_PATHS]))))

    def pair_rows(self, where: Filter = _EVERYTHING) -> list[PairRow]:
        """Return the flat row of every pair that matches."""
        if (paged := self._pages("pair", where)) is not None:
            with uncollected():
                return list(filter(where.matcher(), self._each(pages.pair_rows(paged))))
        return list(self._each(map(pair_row_of, self._query(where.criteria("pair"), [*_ALWAYS, *PAIR_PATHS]))))

    def prediction_rows(
        self, weights: str | None = None, configuration_ids: tuple[str, ...] | None = None
    ) -> list[PredictionRow]:
        """Return the gate's verdict on every prediction, or on those of these weights, these configurations."""
        where = Filter(weights=weights, configuration_ids=configuration_ids)
        if (paged := self._pages("prediction", where)) is not None:
            with uncollected():
                return list(filter(where.matcher(), self._each(pages.prediction_rows(paged))))
        raws = self._query(where.criteria("prediction"), [*_ALWAYS, *PREDICTION_PATHS])
        return list(self._each(map(prediction_row_of, raws)))

    def _pages(self, of: pages.Of, where: Filter) -> Iterator[dict[str, Any]] | None:
        """Return the pages that hold what is asked for; None unless they hold everything: documents are then read."""
        if isinstance(self.store, SqliteStore):
            return self._rows(self.store, of, where) if self._complete(of) else None
        if not (self._paged and self._complete(of)):
            return None
        return self._query(pages.criteria(of, where), ["id", "rows"])

    def _rows(self, store: SqliteStore, of: pages.Of, where: Filter) -> Iterator[dict[str, Any]]:
        """Yield what a SQLite file keeps of records or pairs, in the form of pages."""
        ids = where.configuration_ids
        field = None if ids is None else "configuration_id"
        for batch in kept(store.database, _PROJECTIONS[of], field, ids or ()):
            yield {"rows": {str(number): row for number, row in batch if row is not None}}
            lacking = [store.document(number) for number, row in batch if row is None]
            found = [raw for raw in lacking if raw is not None]
            yield {"rows": {row.id: pages.encode(row) for row in self._each(map(_ROW_OF[of], found))}}

    def predicted(self, weights: str) -> set[str]:
        """Return the ids of the configurations that these weights (sha256) have predicted, fit or not."""
        criteria = {"kind": "prediction", "weights": weights, "displacements": {"$ne": None}}
        found = (raw.get("configuration_id") for raw in self._query(criteria, ["configuration_id"]))
        return {identity for identity in found if isinstance(identity, str)}

    def host_ledgers(self, settings_hashes: set[str], host_hashes: set[str]) -> list[Ledger]:
        """Return what relaxing these pristine hosts with these settings took."""
        criteria = {
            "kind": "host",
            "settings_hash": {"$in": sorted(settings_hashes)},
            "host.hash": {"$in": sorted(host_hashes)},
        }
        raws = self._query(criteria, ["id", "schema_version", "ledger"])
        return [told.ledger for told in self._each(map(parse_as(_HostLedger), raws))]

    def _each(self, found: Iterator[_T]) -> Iterator[_T]:
        """Yield what can be read; say once, in a line, what cannot. `found` goes on after an error, as `map` does."""
        left_out = []
        while True:
            try:
                document = next(found)
            except StopIteration:
                break
            except BadDocumentError as error:
                left_out.append(str(error).removesuffix(f"; {REMEDY}"))
                continue
            yield document
        new = [problem for problem in dict.fromkeys(left_out) if problem not in self._left_out]
        if new:
            self._left_out.update(new)
            more = f"; and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
            told = f"record store {self.name!r}: {len(new)} left out: {'; '.join(new[:_SHOWN])}{more}; {REMEDY}"
            warnings.warn(told, LeftOutWarning, stacklevel=3)

    def _one(self, identity: str, kind: str, model: type[_D]) -> _D | None:
        raw = next(self._query({"id": identity, "kind": kind}), None)
        return None if raw is None else parse(raw, model)

    def _query(
        self, criteria: dict[str, Any], fields: list[str] | None = None, *, limit: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield documents; a `limit` keeps a server from sending more than are wanted."""
        with self._errors():
            yield from self.store.query(criteria, fields, limit=limit)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn a database's errors into one line; theirs may quote a connection string."""
        try:
            yield
        except (PyMongoError, OSError) as error:
            msg = f"record store {self.name!r} {_reason(error)}"
            raise InputError(msg) from None


def _checked_row(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a record, pair or prediction whose row can be read; raises BadDocumentError."""
    _ROW_OF[raw["kind"]](raw)
    return raw


_ROW_OF: dict[str, Callable[[Mapping[str, Any]], RecordRow | PairRow | PredictionRow]] = {
    "record": record_row_of,
    "pair": pair_row_of,
    "prediction": prediction_row_of,
}


def _dated(document: Document) -> dict[str, Any]:
    """Return a document as it is stored: with the time in UTC, naive as maggma and MongoDB have it."""
    return {**dump(document), "last_updated": datetime.now(UTC).replace(tzinfo=None)}


def _lock_file(name: str) -> Path:
    """Return the file that a process holds while it changes a store that has no conditional update."""
    folder = load_settings().data_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{content_hash('lock', name)}.lock"


def _projection(of: pages.Of, needed: int) -> Projection:
    """Return what a SQLite file keeps of a kind of documents: rows as in the pages of a MongoDB."""
    name = f"{of} {pages.FORMAT} {SCHEMA_VERSION}"
    return Projection(name, kind=of, version=SCHEMA_VERSION, first=pages.FORMAT, paths=pages.PATHS[of], needed=needed)


_PROJECTIONS: dict[pages.Of, Projection] = {
    "record": _projection("record", RECORD_NEEDED),
    "pair": _projection("pair", PAIR_NEEDED),
    "prediction": _projection("prediction", len(PREDICTION_PATHS)),
}


class _HostLedger(Frozen):
    """What a query reads of a relaxed host."""

    id: str
    schema_version: int
    ledger: Ledger


def _reason(error: PyMongoError | OSError) -> str:
    """Say what went wrong and what to do, without a word of the driver's own message."""
    codes = _codes(error)
    if isinstance(error, OSError):
        return f"cannot be written ({error.strerror}): make room or name another; nothing of this update is kept"
    if isinstance(error, DocumentTooLarge) or codes & _TOO_LARGE:
        return "takes no document above MongoDB's 16 MB: it was not written, make it smaller"
    if codes & _UNAUTHORIZED:
        return "refuses this user: check credentials and role in the settings"
    if isinstance(error, OperationFailure):
        return f"failed with MongoDB's error code {min(codes)}: look it up in the server's log"
    if isinstance(error, ConfigurationError):
        return f"cannot be opened with its settings ({type(error).__name__}): check the uri and the options"
    return f"is not reachable ({type(error).__name__}): check host, port and network"


def _codes(error: PyMongoError | OSError) -> set[int]:
    """Return MongoDB's error codes, those of the single writes of a batch instead of the batch's where given."""
    if not isinstance(error, OperationFailure):
        return set()
    writes = {int(failure["code"]) for failure in (error.details or {}).get("writeErrors", ())}
    return writes or {error.code or 0}
