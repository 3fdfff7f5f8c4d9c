"""A maggma Store in a SQLite file: for a laptop, as record store and as jobflow's JobStore.

An update is on disk before it is acknowledged; several processes may write, each waits for its turn. Documents are JSON
text; SQL narrows a query by the indexed fields, MongoDB's filter is then applied to the rest.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
import weakref
import zlib
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from maggma.core import Sort, Store
from pydash import get, has, set_

from definet_flows.errors import InputError
from definet_flows.stores.backends.database import Database, damaged
from definet_flows.stores.backends.journal import Journal
from definet_flows.stores.backends.matching import matcher, matches, projected, sort_key, values_at, wanted
from definet_flows.stores.backends.sql import GIVEN, HAS, ODD, asked, at, listed
from definet_flows.stores.backends.text import decode, encode
from definet_flows.stores.backends.writing import Writer, index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from definet_flows.stores.backends.matching import Criteria, Doc, Properties

_FEW = 1000  # documents above which every index is good enough


class SqliteStore(Store):
    """A maggma Store in a SQLite file.

    Parameters
    ----------
    path
        The file; `~` is the home of the connecting user. It is made, with its folders, on first use. A path ending in
        `.jsonl` names a journal of earlier versions: it is read, and the file `PATH.sqlite` beside it is the store.
    read_only
        Read only, change nothing.
    journal
        A journal of earlier versions whose documents belong to the store; read when it is new or has grown.
    key
        Field that identifies a document in `update`.
    last_updated_field
        Field in which maggma's builders look for the time of the last change.

    Raises
    ------
    InputError
        From `connect`: if the file is no store, is damaged or cannot be opened, or if `read_only` and there is none.
    """

    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        journal: str | None = None,
        key: str = "id",
        last_updated_field: str = "last_updated",
    ) -> None:
        super().__init__(key=key, last_updated_field=last_updated_field)
        self.path = str(path)
        self.read_only = read_only
        self.journal = journal
        self._open: Database | None = None

    @property
    def name(self) -> str:
        """What the store is called in messages."""
        return f"sqlite://{self.file}"

    @property
    def file(self) -> Path:
        """The SQLite file."""
        path = Path(self.path).expanduser().absolute()
        return path.with_name(f"{path.name}.sqlite") if self._is_journal else path

    @property
    def _is_journal(self) -> bool:
        return self.path.endswith(".jsonl")

    @property
    def _collection(self) -> NoReturn:
        msg = f"{self.name} has no pymongo collection: use the methods of a maggma Store"
        raise NotImplementedError(msg)

    # ------------------------------------------------------------ opening and closing

    def connect(self, force_reset: bool = False) -> None:  # noqa: FBT001, FBT002 - maggma's signature
        """Open the file; documents are read when a query needs them."""
        if self._open is not None and not force_reset:
            return
        self.close()
        source = self.path if self._is_journal else self.journal
        journal = Journal(Path(source).expanduser().absolute()) if source else None
        if journal is None or not journal.path.is_file():
            self._open = Database(self.file, read_only=self.read_only)
        else:
            self._open = self._with_journal(journal)
        if not self.read_only:
            self.ensure_index(self.key)

    def _with_journal(self, journal: Journal) -> Database:
        if self.read_only and self.file.is_file():
            database = Database(self.file, read_only=True)
            if journal.is_in(database):
                return database
            database.close()
        try:
            database = Database(self.file, read_only=False)
        except InputError:
            if not self.read_only:
                raise
            database = self._temporary()
        try:
            journal.take_in(database, self.key)
        except BaseException:
            database.close()
            raise
        return database

    def _temporary(self) -> Database:
        """Return a database that goes with this store: beside a journal that may only be read nothing can be made."""
        folder = Path(tempfile.mkdtemp(prefix="definet_"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Database(folder / self.file.name, read_only=False)

    def close(self) -> None:
        """Let go of the file."""
        if self._open is not None:
            self._open.close()
        self._open = None

    @property
    def database(self) -> Database:
        """The open file."""
        if self._open is None:
            msg = f"{self.name} is not connected: call connect() first"
            raise RuntimeError(msg)
        return self._open

    def _writable(self) -> Database:
        if self.read_only:
            msg = f"store {self.file} was opened read-only: open it with read_only=False to change it"
            raise InputError(msg)
        return self.database

    def verify(self) -> None:
        """Check all pages, indexes and documents.

        Raises
        ------
        InputError
            If the file is damaged; names the first document that is.
        """
        self.database.verify()
        for number in self._numbers(None):
            if self.document(number, warn=False) is None and self.database.rows(HAS, [number]):
                raise damaged(self.file, f"document {self._called(number)} is not what was written")

    # ------------------------------------------------------------ reading

    def query(
        self,
        criteria: Criteria = None,
        properties: Properties = None,
        sort: dict[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[Doc]:
        """Yield the documents that match a MongoDB filter; a damaged document is named in a warning and left out."""
        found = self.found(criteria)
        if sort:
            found = self._sorted(found, sort)
        for k, (_, doc) in enumerate(found):
            if limit and k >= skip + limit:
                return
            if k >= skip:
                yield projected(doc, properties)

    def count(self, criteria: Criteria = None) -> int:
        """Return how many documents match."""
        if not criteria:
            return int(self.database.rows("SELECT count(*) FROM documents")[0][0])
        return sum(1 for _ in self.found(criteria))

    def distinct(self, field: str, criteria: Criteria = None, all_exist: bool = False) -> list[Any]:  # noqa: FBT001, FBT002
        """Return the values of a field, each once; those of a list each for itself."""
        del all_exist
        known: dict[str, Any] = {}
        for _, doc in self.found(criteria):
            known |= {repr(value): value for value in values_at(field, doc)}
        return list(known.values())

    def groupby(
        self,
        keys: list[str] | str,
        criteria: Criteria = None,
        properties: Properties = None,
        sort: dict[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[tuple[Doc, list[Doc]]]:
        """Yield the values of fields with the documents that have them; documents without them are left out."""
        fields = keys if isinstance(keys, list) else [keys]
        shown = [*fields, *properties] if properties else None
        having = [doc for doc in self.query(criteria, shown, sort, skip, limit) if all(has(doc, key) for key in fields)]

        def values(doc: Doc) -> list[Any]:
            return [sort_key(key, doc) for key in fields]

        def identity(doc: Doc) -> str:
            return repr([get(doc, key) for key in fields])

        for _, group in groupby(sorted(sorted(having, key=identity), key=values), key=identity):
            docs, common = list(group), dict[str, Any]()
            for key in fields:
                set_(common, key, get(docs[0], key))
            yield common, docs

    def found(self, criteria: Criteria) -> Iterator[tuple[int, Doc]]:
        """Yield number and document of all that match."""
        fits = matcher(criteria)
        for number in self._numbers(criteria):
            doc = self.document(number)
            if doc is not None and fits(doc):
                yield number, doc

    def _sorted(self, found: Iterator[tuple[int, Doc]], sort: dict[str, Sort | int]) -> Iterator[tuple[int, Doc]]:
        """Yield in order; of several, only the values that order them are held in memory."""
        head = list(islice(found, 2))
        if len(head) < 2:  # noqa: PLR2004 - jobflow asks for the latest output of a job, which has one
            yield from head
            return
        keys = [([sort_key(field, doc) for field in sort], number) for number, doc in chain(head, found)]
        for k, way in reversed(list(enumerate(sort.values()))):
            down = (way.value if isinstance(way, Sort) else way) < 0
            keys.sort(key=lambda item, k=k: item[0][k], reverse=down)  # type: ignore[misc]  # k is bound at once
        for _, number in keys:
            doc = self.document(number)
            if doc is not None:
                yield number, doc

    def _numbers(self, criteria: Criteria) -> list[int]:
        """Return the numbers of all documents that can match: narrowed by the best indexed field."""
        fields = {field: values for field, values in asked(criteria).items() if field in self._indexes()}
        if not fields:
            return [row[0] for row in self.database.rows("SELECT number FROM documents ORDER BY number")]
        field = next(iter(fields))
        if len(fields) > 1:
            field = min(fields, key=lambda name: self._count(name, fields[name]))
        statement = f"SELECT number FROM documents WHERE {at(field)} IN {GIVEN} UNION {ODD}"  # noqa: S608
        return [row[0] for row in self.database.rows(statement, [listed(fields[field])])]

    def _count(self, field: str, values: Sequence[Any]) -> int:
        found = f"SELECT 1 FROM documents WHERE {at(field)} IN {GIVEN} LIMIT {_FEW}"  # noqa: S608
        return int(self.database.rows(f"SELECT count(*) FROM ({found})", [listed(values)])[0][0])  # noqa: S608

    def document(self, number: int, *, warn: bool = True) -> Doc | None:
        """Return the document of a number; None if it is gone, or damaged: a warning then names it."""
        rows = self.database.rows("SELECT crc, CAST(body AS BLOB) FROM documents WHERE number = ?", [number])
        if not rows:
            return None
        crc, body = rows[0]
        try:
            if zlib.crc32(body) == crc:
                return decode(body)
        except ValueError:
            pass
        if warn:
            text = f"store {self.file}: document {self._called(number)} is damaged and left out: write it anew"
            warnings.warn(text, stacklevel=2)
        return None

    def _called(self, number: int) -> str:
        body = self.database.rows("SELECT CAST(body AS BLOB) FROM documents WHERE number = ?", [number])[0][0]
        named = re.search(rb'"%s":"([^"]{1,80})"' % re.escape(self.key.encode()), body or b"")
        return named[1].decode(errors="replace") if named else f"number {number}"

    def _indexes(self) -> dict[str, bool]:
        """Return the fields that have an index, and whether no two documents may have the same value."""
        return dict(self.database.rows("SELECT field, one FROM indexes"))

    # ------------------------------------------------------------ writing

    def update(self, docs: list[Doc] | Doc, key: list[str] | str | None = None) -> None:
        """Upsert a batch: all of it is on disk when this returns, or none of it.

        Parameters
        ----------
        docs
            A document or several.
        key
            Field or fields that identify a document; the store's own `key` if None.

        Raises
        ------
        InputError
            If a document would not be read back as it is, or the file cannot be written.
        """
        database, fields = self._writable(), _several(key or self.key)
        batch = [encode(doc) for doc in _several(docs)]
        for field in fields:
            if field not in self._indexes():
                self.ensure_index(field)
        if not batch:
            return
        with database.writing():
            put = Writer(database)
            for doc, text in batch:
                put(self._holder({field: doc[field] for field in fields}), doc, text)

    def replace_if(self, doc: Doc, expected: Doc | None) -> bool:
        """Write a document if the stored document of its key is as expected, in a transaction; return whether it was.

        Parameters
        ----------
        doc
            What to write.
        expected
            MongoDB filter that the stored document must match; None: there must be none.

        Raises
        ------
        InputError
            If the stored document is damaged, and as `update`.
        """
        database, (whole, text) = self._writable(), encode(doc)
        with database.writing():
            number = self._holder({self.key: doc[self.key]})
            if (number is None) != (expected is None):
                return False
            if number is not None:
                stored = self.document(number, warn=False)
                if stored is None:
                    raise damaged(self.file, f"document {doc[self.key]} is not what was written")
                if not matches(expected, stored):
                    return False
            Writer(database)(number, whole, text)
        return True

    def _holder(self, identity: Doc) -> int | None:
        """Return the number of the document with these values, None if there is none."""
        field = next(iter(identity))
        if len(identity) == 1 and isinstance(identity[field], str) and wanted(identity[field]) is not None:
            statement = f"SELECT number FROM documents WHERE {at(field)} = ?"  # noqa: S608
            found = self.database.rows(statement, [identity[field]])
            if found or not self.database.rows(ODD):
                return found[0][0] if found else None
        exact = {name: {"$eq": value} for name, value in identity.items()}
        return next((number for number, _ in self.found(exact)), None)

    def remove_docs(self, criteria: Doc) -> None:
        """Remove the documents that match `criteria`."""
        database = self._writable()
        with database.writing():
            write = Writer(database)
            for number in [number for number, _ in self.found(criteria)]:
                write.remove(number)

    def ensure_index(self, key: str, unique: bool | None = False) -> bool:  # noqa: FBT001, FBT002 - maggma's
        """Index a field, and keep it unique from now on if asked to.

        Returns
        -------
        bool
            False if the field is not unique already, or has a name that SQL cannot index.
        """
        database, known = self._writable(), self._indexes().get(key)
        if key == self.last_updated_field:
            return not unique  # a time is no value to SQL
        return bool(known is not None and known >= bool(unique)) or index(database, key, unique=bool(unique))

    def __hash__(self) -> int:
        return hash((self.path, self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SqliteStore) and (self.path, self.key) == (other.path, other.key)


def _several(value: Any) -> list[Any]:  # noqa: ANN401 - a thing, or a list of them
    return value if isinstance(value, list) else [value]
