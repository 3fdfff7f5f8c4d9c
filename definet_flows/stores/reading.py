"""What is read from a record store: single documents, documents by a filter, and the flat rows that analyses use."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel
from pymongo.errors import PyMongoError

from definet_flows.errors import BadDocumentError, InputError, LeftOutWarning
from definet_flows.schemas import (
    SCHEMA_VERSION,
    DefectRecord,
    Document,
    Frozen,
    HostRun,
    Ledger,
    Pair,
    Prediction,
    Probe,
    RelaxedHost,
)
from definet_flows.stores.analysis import pages
from definet_flows.stores.analysis.ledgers import LEDGER_FIELDS, LedgerRow
from definet_flows.stores.analysis.rows import FORMS, Of, PairRow, PredictionRow, RecordRow, Row, row_of
from definet_flows.stores.backends.maggma_kinds import is_mongo
from definet_flows.stores.backends.projection import Projection, keeps, kept
from definet_flows.stores.backends.sqlite import SqliteStore
from definet_flows.stores.faults import reason
from definet_flows.stores.filters import Filter
from definet_flows.stores.garbage import uncollected
from definet_flows.stores.versions import REMEDY, parse, parse_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from maggma.core import Store

_EVERYTHING = Filter()
_ANY: dict[str, Any] = {}
_SHOWN = 3  # documents left out that a warning names
Batch = tuple[list[Row], list[BadDocumentError]]
"""Rows, and the faults of those that cannot be read."""

_PAGE = ["id", "rows"]
ALWAYS = ("id", "kind", "schema_version")

_D = TypeVar("_D", bound=Document)
_M = TypeVar("_M", bound=BaseModel)
_T = TypeVar("_T")


class Reader:
    """The questions that a record store answers; `Records` opens the store and writes.

    Parameters
    ----------
    store
        Any maggma Store.
    name
        What messages call it.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self._left_out: set[str] = set()

    @property
    def _paged(self) -> bool:
        return is_mongo(self.store)

    @property
    def complete(self) -> bool:
        """Whether queries can do without reading every record; False in a MongoDB whose pages have to be made."""
        return all(self._complete(of) for of in FORMS)

    def _complete(self, of: Of) -> bool:
        if isinstance(self.store, SqliteStore):
            return keeps(self.store.database, PROJECTIONS[of])
        return not self._paged or next(self._query({"id": pages.mark(of)["id"]}, ["id"]), None) is not None

    def record(self, record_id: str) -> DefectRecord | None:
        """Return one record by id, None if there is none."""
        return self._one(record_id, "record", DefectRecord)

    def prediction(self, prediction_id: str) -> Prediction | None:
        """Return one prediction by id, None if there is none."""
        return self._one(prediction_id, "prediction", Prediction)

    def host(self, host_id: str) -> RelaxedHost | None:
        """Return one relaxed host by id, None if there is none."""
        return self._one(host_id, "host", RelaxedHost)

    def host_run(self, run_id: str) -> HostRun | None:
        """Return the relaxation of a host that has begun by id, None if there is none."""
        return self._one(run_id, "host-run", HostRun)

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
        return self._each(map(parse_as(Pair), self._query(self._named(where).criteria("pair"))))

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
        return self._flat("record", where)

    def pair_rows(self, where: Filter = _EVERYTHING) -> list[PairRow]:
        """Return the flat row of every pair that matches; `with_charges` adds the charges."""
        return self._flat("pair", self._named(where))

    def prediction_rows(
        self, weights: str | tuple[str, ...] | None = None, configuration_ids: tuple[str, ...] | None = None
    ) -> list[PredictionRow]:
        """Return the gate's verdict on every prediction, or on those of these weights, these configurations."""
        return self._flat("prediction", Filter(weights=weights, configuration_ids=configuration_ids))

    def _named(self, where: Filter) -> Filter:
        """Return a filter that names the configurations of a charge: a stored pair has none."""
        if where.charge is None:
            return where
        asked = Filter(charge=where.charge, configuration_ids=where.configuration_ids)
        ids = {row.configuration_id for row in self.record_rows(asked)}
        return where.model_copy(update={"charge": None, "configuration_ids": tuple(sorted(ids))})

    @uncollected()
    def _flat(self, of: Of, where: Filter) -> list[Any]:
        """Return the flat rows of a kind: those that the store keeps if it keeps all, else made from the documents."""
        if (batches := self._pages(of, where)) is None:
            raws = self._query(where.criteria(of), [*ALWAYS, *FORMS[of].paths])
            return list(self._each(map(partial(row_of, of), raws)))
        rows, faults = list[Row](), list[BadDocumentError]()
        for read, left_out in batches:
            rows += filter(where.matcher(), read)
            faults += left_out
        self._leave_out(map(str, faults))
        return rows

    def _pages(self, of: Of, where: Filter) -> Iterator[Batch] | None:
        """Return the rows that the store keeps, and the faults of unreadable rows; None unless it keeps all."""
        if not self._complete(of):
            return None
        if isinstance(self.store, SqliteStore):
            return self._kept(self.store, of, where.configuration_ids)
        if self._paged:
            return (pages.decode(of, pages.texts(page)) for page in self._query(pages.criteria(of, where), _PAGE))
        return None

    @staticmethod
    def _kept(store: SqliteStore, of: Of, ids: tuple[str, ...] | None) -> Iterator[Batch]:
        """Yield the rows that a SQLite file keeps; where a row is missing or damaged, its document is read."""
        field = None if ids is None else "configuration_id"
        for batch in kept(store.database, PROJECTIONS[of], field, ids or ()):
            yield pages.decode(of, [row for _, row in batch if row is not None])
            lacking = [store.document(number) for number, row in batch if row is None]
            yield pages.tried(partial(row_of, of), [raw for raw in lacking if raw is not None])

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
                left_out.append(str(error))
                continue
            yield document
        self._leave_out(left_out)

    def _leave_out(self, problems: Iterable[str]) -> None:
        """Say once, in a line, which documents cannot be read."""
        left_out = [problem.removesuffix(f"; {REMEDY}") for problem in problems]
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
            msg = f"record store {self.name!r} {reason(error)}"
            raise InputError(msg) from None


def _projection(of: Of) -> Projection:
    """Return what a SQLite file keeps of a kind of documents: rows as in the pages of a MongoDB."""
    name, (_, paths, needed) = f"{of} {pages.FORMAT} {SCHEMA_VERSION}", FORMS[of]
    return Projection(name, kind=of, version=SCHEMA_VERSION, first=pages.FORMAT, paths=paths, needed=needed)


PROJECTIONS: dict[Of, Projection] = {of: _projection(of) for of in FORMS}


class _HostLedger(Frozen):
    """What a query reads of a relaxed host."""

    id: str
    schema_version: int
    ledger: Ledger
