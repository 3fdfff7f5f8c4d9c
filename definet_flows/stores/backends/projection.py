"""Rows that a store keeps beside the documents of a kind, so that a query over all of them reads no structure."""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from definet_flows.stores.backends.database import damaged
from definet_flows.stores.backends.matching import walk
from definet_flows.stores.backends.sql import GIVEN, at, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from definet_flows.stores.backends.database import Database
    from definet_flows.stores.backends.matching import Doc

_CHUNK = 5000  # rows


@dataclass(frozen=True)
class Projection:
    """A row for each document of a kind; the file names its projections, so every writer keeps them.

    Attributes
    ----------
    name
        A name of its own for each set of paths.
    kind
        `kind` of the documents.
    version
        `schema_version` of the documents that have a row; other documents are read whole.
    first
        First entry of each row.
    paths
        Where the other entries stand in a document; values, never lists or dictionaries.
    needed
        How many of the paths, from the first on, every document must have.
    """

    name: str
    kind: str
    version: int
    first: int
    paths: tuple[str, ...]
    needed: int

    def row(self, doc: Mapping[str, Any]) -> str | None:
        """Return the row of a document as JSON; None if the document must be read whole."""
        values = [walk(doc, path) for path in self.paths]
        whole = all(plain and not _odd(value) for value, plain in values)
        if doc.get("schema_version") != self.version or not whole or (None, True) in values[: self.needed]:
            return None
        return orjson.dumps([self.first, *(value for value, _ in values)]).decode()

    def dump(self) -> str:
        """Return it as text, for the file."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def load(cls, text: str) -> Projection:
        """Return it as the file has it."""
        raw = orjson.loads(text)
        return cls(**{**raw, "paths": tuple(raw["paths"])})


def _odd(value: object) -> bool:
    """Return whether JSON has no such value: NaN, a time."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is not None and not isinstance(value, str | int)


def keeps(database: Database, projection: Projection) -> bool:
    """Return whether a file has the rows of a projection."""
    return bool(database.rows("SELECT 1 FROM projections WHERE name = ?", [projection.name]))


def keep(database: Database, projection: Projection, documents: Callable[[], Iterable[tuple[int, Doc]]]) -> None:
    """Keep a row of every document of a kind from now on.

    Parameters
    ----------
    database
        An open file, within no transaction.
    projection
        It replaces the file's projection for this kind.
    documents
        Returns the numbers and documents of this kind in the file: their rows are made now.
    """
    if keeps(database, projection):
        return
    with database.writing():
        if keeps(database, projection):
            return
        kind = [projection.kind]
        database.run("DELETE FROM rows WHERE projection IN (SELECT name FROM projections WHERE kind = ?)", kind)
        database.run("DELETE FROM projections WHERE kind = ?", kind)
        database.run("INSERT INTO projections VALUES (?, ?, ?)", [projection.name, projection.kind, projection.dump()])
        for number, doc in documents():
            put_row(database, projection, number, doc)


def put_row(database: Database, projection: Projection, number: int, doc: Doc) -> None:
    """Keep the row of a document."""
    row = projection.row(doc)
    values = [projection.name, number, None if row is None else zlib.crc32(row.encode()), row]
    database.run("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", values)


def kept(
    database: Database, projection: Projection, field: str | None = None, values: Sequence[str] = ()
) -> Iterator[list[tuple[int, str | None]]]:
    """Yield the rows of a projection in lists: number of the document, and its row as JSON.

    A row is None where the document must be read whole.

    Parameters
    ----------
    database
        A file that keeps the projection.
    projection
        Which rows.
    field
        Only documents whose value of this field, which has an index, is in `values`.

    Raises
    ------
    InputError
        If there are not as many rows as documents: the file is damaged.
    """
    documents = f"SELECT count(*) FROM documents WHERE {at('kind')} = ?"  # noqa: S608 - of constants, as all here
    both = f"SELECT ({documents}), (SELECT count(*) FROM rows WHERE projection = ?)"  # noqa: S608
    there, rows = database.rows(both, [projection.kind, projection.name])[0]
    if there != rows:
        raise damaged(database.path, f"{there} documents of kind {projection.kind}, {rows} rows")
    chosen = f"AND number IN (SELECT number FROM documents WHERE {at(field)} IN {GIVEN})" if field else ""  # noqa: S608
    statement = (
        f"SELECT number, crc, CAST(body AS BLOB) FROM rows WHERE projection = ? AND number > ? {chosen} "  # noqa: S608
        f"ORDER BY number LIMIT {_CHUNK}"
    )
    last, given = -1, [listed(values)] if field else []
    while found := database.rows(statement, [projection.name, last, *given]):
        yield [(number, _sound(crc, body)) for number, crc, body in found]
        last = found[-1][0]


def _sound(crc: int | None, body: bytes | None) -> str | None:
    """Return a row as text; None if it is missing or damaged: its document is then read."""
    return None if body is None or zlib.crc32(body) != crc else body.decode()
