"""Writing documents into the database: within a transaction, with their rows and indexes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from pymongo.errors import DuplicateKeyError

from definet_flows.stores.backends.matching import walk
from definet_flows.stores.backends.projection import Projection, put_row
from definet_flows.stores.backends.sql import FIELD, at, hidden

if TYPE_CHECKING:
    from definet_flows.stores.backends.database import Database
    from definet_flows.stores.backends.matching import Doc


class Writer:
    """Writes documents within a transaction, with their rows and indexes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fields = [row[0] for row in database.rows("SELECT field FROM indexes")]
        self.projections = [Projection.load(row[0]) for row in database.rows("SELECT spec FROM projections")]

    def __call__(self, number: int | None, doc: Doc, text: str) -> int:
        """Write a document, in place of `number` if that is given; return its number."""
        odd = not all(walk(doc, field)[1] for field in self.fields)
        row = [odd, zlib.crc32(text.encode()), text]
        if number is None:
            number = self.database.run("INSERT INTO documents (odd, crc, body) VALUES (?, ?, ?)", row).lastrowid
            assert number is not None  # noqa: S101 - of an INSERT
        else:
            self.database.run("UPDATE documents SET odd = ?, crc = ?, body = ? WHERE number = ?", [*row, number])
            self.database.run("DELETE FROM rows WHERE number = ?", [number])
        for projection in self.projections:
            if doc.get("kind") == projection.kind:
                put_row(self.database, projection, number, doc)
        return number

    def remove(self, number: int) -> None:
        """Remove a document."""
        self.database.run("DELETE FROM documents WHERE number = ?", [number])
        self.database.run("DELETE FROM rows WHERE number = ?", [number])


def index(database: Database, field: str, *, unique: bool) -> bool:
    """Index a field, and keep it unique from now on if asked to; return False if it is not, or SQL cannot index it."""
    if not FIELD.fullmatch(field):
        return not unique
    try:
        with database.writing():
            kind = "UNIQUE INDEX" if unique else "INDEX"
            database.run(f'DROP INDEX IF EXISTS "field {field}"')
            database.run(f'CREATE {kind} "field {field}" ON documents ({at(field)})')
            database.run(f"UPDATE documents SET odd = 1 WHERE NOT odd AND ({hidden(field)})")  # noqa: S608
            database.run("INSERT OR REPLACE INTO indexes VALUES (?, ?)", [field, unique])
    except DuplicateKeyError:
        return False
    return True
