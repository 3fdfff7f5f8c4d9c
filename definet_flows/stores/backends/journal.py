"""Journals of earlier versions, read: append-only files of JSON lines, each with a checksum.

A line reads `{"crc":"1f2e3d4c","put":[...]}`; the checksum covers everything behind its own field. Operations: `put`
(documents to place by `_id`), `drop` (ids to remove), `unique` (a field) and, in the first line only, `journal` (format
version) with a `generation` that changes whenever the file is rewritten.
"""

from __future__ import annotations

import warnings
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from definet_flows.errors import InputError
from definet_flows.stores.backends.sql import at
from definet_flows.stores.backends.text import encode, loads, revived
from definet_flows.stores.backends.writing import Writer, index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from definet_flows.stores.backends.database import Database

FORMAT = 1

Operation = dict[str, Any]

_FORM = b'{"crc":"%08x",'
_START, _BODY = _FORM.index(b"%"), len(_FORM % 0)
_SHORTEST_HEADER = 90  # bytes; a first line that is longer was not cut


class Journal:
    """A journal file.

    Parameters
    ----------
    path
        The file, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state(self) -> str:
        """Its first line and its length, which change when the file does."""
        with self.path.open("rb") as file:
            head = file.readline(200)
        return f"{self.path.stat().st_size} {head[_START : _START + 8].decode(errors='replace')}"

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the final content of the journal: `_id` and document, in the order of writing.

        The file is read twice; a single line is in memory at a time.

        Raises
        ------
        InputError
            If it is no journal, or damaged other than by a write that was cut off at its end.
        """
        last: dict[str, int] = {}
        with self.path.open("rb") as file:
            for start, operation in self._operations(file):
                for doc in operation.get("put", ()):
                    last[doc["_id"]] = start
                for identity in operation.get("drop", ()):
                    last.pop(identity, None)
            for start in sorted(set(last.values())):
                file.seek(start)
                operation = _operation(file.readline()) or {}
                latest = {doc["_id"]: doc for doc in operation.get("put", ())}
                for identity, doc in latest.items():
                    if last.get(identity) == start:
                        yield identity, {key: value for key, value in doc.items() if key != "_id"}

    def _operations(self, file: BinaryIO) -> Iterator[tuple[int, Operation]]:
        start = 0
        for line in file:
            operation = _operation(line)
            if not start:
                self._check_header(line, operation)
            elif operation is None and line.endswith(b"\n"):  # a cut line has no end
                msg = f"journal {self.path} is damaged at byte {start}: restore it from a backup or delete that line"
                raise InputError(msg)
            if operation is None:
                return
            yield start, operation
            start += len(line)

    def _check_header(self, line: bytes, operation: Operation | None) -> None:
        cut = not line.endswith(b"\n") and len(line) < _SHORTEST_HEADER
        if operation is None and not (cut and line[:_START] == _FORM[: min(_START, len(line))]):
            msg = f"{self.path} is not a journal of definet_flows: name another file"
            raise InputError(msg)
        if operation is not None and operation.get("journal", 0) != FORMAT:
            msg = f"journal {self.path} has format {operation.get('journal')}, not {FORMAT}: update definet_flows"
            raise InputError(msg)

    def is_in(self, database: Database) -> bool:
        """Return whether a database holds all of the journal."""
        rows = database.rows("SELECT state FROM imports WHERE source = ?", [self.path.name])
        return bool(rows) and rows[0][0] == self.state

    def take_in(self, database: Database, key: str) -> None:
        """Write the documents into a database, all of them or none; read again lines that the journal has gained.

        Later changes in the database stay. A document that cannot be stored is named in a warning and left out.
        """
        if self.is_in(database):
            return
        index(database, key, unique=False)
        with database.writing():
            state, write = self.state, Writer(database)
            known = {row[0]: row[1:] for row in database.rows("SELECT id, number, crc FROM imported")}
            others = database.rows("SELECT count(*) FROM documents")[0][0] > len(known)
            for identity, doc in self.documents():
                encoded = self._encoded(identity, doc)
                number, crc = known.pop(identity, (None, None))
                if encoded is None or (number is None and others and _has(database, key, doc)):
                    continue
                if number is None or _crc(database, number) == crc:
                    number = write(number, *encoded)
                    row = [identity, number, _crc(database, number)]
                    database.run("INSERT OR REPLACE INTO imported VALUES (?, ?, ?)", row)
            for number, crc in known.values():  # removed from the journal since
                if _crc(database, number) == crc:
                    write.remove(number)
            database.run("INSERT OR REPLACE INTO imports VALUES (?, ?)", [self.path.name, state])

    def _encoded(self, identity: str, doc: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
        try:
            return encode(doc)
        except InputError as error:
            warnings.warn(f"journal {self.path}: document {identity} is left out: {error}", stacklevel=2)
            return None


def _crc(database: Database, number: int) -> int | None:
    """Return the checksum of a document, None if it is gone."""
    rows = database.rows("SELECT crc FROM documents WHERE number = ?", [number])
    return rows[0][0] if rows else None


def _has(database: Database, key: str, doc: dict[str, Any]) -> bool:
    """Return whether a document was written into the database by itself; jobflow's have an index beside their key."""
    found = database.rows(f"SELECT {at('index')} FROM documents WHERE {at(key)} = ?", [doc.get(key)])  # noqa: S608
    return any(row[0] == doc.get("index") for row in found)


def _operation(line: bytes) -> Operation | None:
    """Return the operation in a line; None if the line is cut off or damaged."""
    rest = line[_BODY:-1]
    if not line.endswith(b"\n") or line[:_BODY] != _FORM % zlib.crc32(rest):
        return None
    operation: Operation = loads(b"{" + rest)
    if b'"$' not in rest:
        return operation
    try:
        return {**operation, **{key: revived(value) for key, value in operation.items()}}
    except ValueError:
        return operation  # the documents that mean nothing are named when they are stored
