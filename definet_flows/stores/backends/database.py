"""A SQLite file that a store has open: connection, transactions, and errors in a line.

Tables: `documents` (a document's text and its checksum; `odd` marks those with a list where an index expects a value),
`rows` (the entries of a projection, so that a query over all of them reads no structure), and facts on
the file: `projections`, `indexes`, `imports`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pymongo.errors import DuplicateKeyError

from definet_flows.errors import BusyError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENCE = 300.0
"""Seconds that a writer waits for its turn."""

APPLICATION = 0x44464E54
"""Mark of definet_flows in the header of a SQLite file."""

FORMAT = 1

_POLL = 0.02  # s, where SQLite itself does not wait
_BEING_MADE = 3.0  # s; how long a reader waits for a file without tables to become a store
_SMALL = 16_000_000  # bytes; SQLite checks as much in a tenth of a second
_SCHEMA = f"""
CREATE TABLE documents (
    number INTEGER PRIMARY KEY, odd INTEGER NOT NULL, crc INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX odd ON documents (number) WHERE odd;
CREATE TABLE rows (
    projection TEXT, number INTEGER, crc INTEGER, body TEXT, PRIMARY KEY (projection, number)) WITHOUT ROWID;
CREATE TABLE projections (name TEXT PRIMARY KEY, kind TEXT NOT NULL, spec TEXT NOT NULL);
CREATE TABLE indexes (field TEXT PRIMARY KEY, one INTEGER NOT NULL);
CREATE TABLE imports (source TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE imported (id TEXT PRIMARY KEY, number INTEGER NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""
_CHECKED: set[tuple[int, int]] = set()
"""Files that this process has checked, by device and inode."""


class Database:
    """An open SQLite file.

    Parameters
    ----------
    path
        The file, absolute; made with its folders unless `read_only`.
    read_only
        Change nothing.

    Raises
    ------
    InputError
        If the file is no store, is damaged, or cannot be opened.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.mutex = threading.RLock()
        self._pid = os.getpid()
        self._within = False
        self._known: dict[Path, tuple[int, int]] = {}
        with self._errors():
            self._connection = self._open()
        try:
            with self._errors():
                self._prepare()
                self._check()
        except BaseException:
            self._connection.close()
            raise

    # ------------------------------------------------------------ opening

    def _open(self) -> sqlite3.Connection:
        if self.read_only:
            if not self.path.is_file():
                msg = f"store {self.path} cannot be read (no such file): run a flow first or name another store"
                raise InputError(msg)
            mine = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
            connection = self._connected("mode=rw" if mine else "mode=ro")  # rw: its files beside it go at the end
            connection.execute("PRAGMA query_only = 1")
            return connection
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"store {self.path} cannot be written ({error.strerror}): name another store"
            raise InputError(msg) from None
        return self._connected("mode=rwc")

    def _connected(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path))}?{mode}"
        return sqlite3.connect(
            uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=256
        )

    def _prepare(self) -> None:
        """Make the tables of a new file; refuse the file of another program, or of a newer version."""
        if self.read_only:
            self._read_header()
            return
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute("PRAGMA synchronous = FULL")  # an acknowledged write survives a power cut
                self._connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages of 4 kB
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:  # SQLite does not wait while another process sets the mode
                if not _locked(error) or time.monotonic() > until:
                    raise
                time.sleep(_POLL)
        try:
            if not self._tables():
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
            self._read_header()
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._remember()

    def _read_header(self) -> None:
        try:
            owner, version = self._header()
        except sqlite3.OperationalError as error:
            if not self.read_only or _locked(error):
                raise
            # A folder that may only be read: SQLite can share nothing there, and nobody writes.
            log = Path(f"{self.path}-wal")
            if log.exists() and log.stat().st_size:
                msg = f"store {self.path} has writes that are still in {log.name}: open it once where you may write"
                raise InputError(msg) from None
            self._connection.close()
            self._connection = self._connected("mode=ro&immutable=1")
            owner, version = self._header()
        until = time.monotonic() + _BEING_MADE
        while self.read_only and owner == 0 and not self._tables() and time.monotonic() < until:
            time.sleep(_POLL)  # another process makes the store at this moment
            owner, version = self._header()
        if owner != APPLICATION:
            msg = f"{self.path} is a database, but no store of definet_flows: name another file"
            raise InputError(msg)
        if version > FORMAT:
            msg = f"store {self.path} has format {version}, this definet_flows reads up to {FORMAT}: update it"
            raise InputError(msg)

    def _tables(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])

    def _header(self) -> tuple[int, int]:
        owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
        return owner, self._connection.execute("PRAGMA user_version").fetchone()[0]

    def _check(self) -> None:
        """Have SQLite check a small file, once in a process; `verify` checks a large file."""
        state = self.path.stat()
        if state.st_size <= _SMALL and (state.st_dev, state.st_ino) not in _CHECKED:
            self.verify()
            _CHECKED.add((state.st_dev, state.st_ino))

    def verify(self) -> None:
        """Have SQLite check its pages and indexes.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        with self.mutex, self._errors():
            found = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(self.path, str(found).splitlines()[-1])

    def close(self) -> None:
        """Close the connection; all its writes are in the file."""
        with self.mutex, suppress(sqlite3.Error):
            if self._pid == os.getpid():  # a child must not touch its copy of a connection
                self._connection.close()

    # ------------------------------------------------------------ using

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a SELECT."""
        with self.mutex, self._errors():
            self._mine()
            return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement within a transaction."""
        return self._connection.execute(statement, values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Change the file in a transaction: all of it is on disk at the named path when the block ends, or nothing.

        Writers wait for each other, in other processes too.

        Raises
        ------
        InputError
            If the store is read-only, or the change cannot be written; then nothing of it is kept.
        """
        if self.read_only:
            msg = f"store {self.path} was opened read-only: open it with read_only=False to change it"
            raise InputError(msg)
        with self.mutex, self._errors():
            if self._within:  # of the same thread: part of the transaction around it
                yield
                return
            self._mine()
            self._stand()
            self._connection.execute("BEGIN IMMEDIATE")
            self._within = True
            try:
                self._remember()
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._within = False
            self._stand()

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _mine(self) -> None:
        if self._pid != os.getpid():
            msg = f"store {self.path} is not open in this process: connect after the fork"
            raise RuntimeError(msg)

    # ------------------------------------------------------------ the file under its name

    def _remember(self) -> None:
        """Note the files that have these names; the log (`-wal`) is there from the first transaction on."""
        for path in (self.path, Path(f"{self.path}-wal")):
            with suppress(OSError):
                state = path.stat()
                self._known.setdefault(path, (state.st_dev, state.st_ino))

    def _stand(self) -> None:
        """Refuse to go on with a file that is no longer found under its name."""
        for path, known in self._known.items():
            try:
                state = path.stat()
                found = (state.st_dev, state.st_ino)
            except OSError:
                found = None
            if found != known:
                what = "removed" if found is None else "replaced by another"
                msg = f"store {path} was {what} while it was open: this write is not in it, run the same again"
                raise InputError(msg)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _told(self.path, error) from None


def damaged(path: Path, what: str) -> InputError:
    """Return the error of a damaged store."""
    msg = f"store {path} is damaged ({what}): restore it from a backup, or recover it with `sqlite3 {path} .recover`"
    return InputError(msg)


def _locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _told(path: Path, error: sqlite3.Error) -> Exception:
    """Return a SQLite error as a line."""
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        return DuplicateKeyError(f"{path}: another document has the same value ({text})", 11000)
    if _locked(error):
        return BusyError(f"store {path} is being written by another process for {PATIENCE:.0f} s: wait for it to end")
    if "malformed" in text:
        return damaged(path, text)
    reasons = {
        "not a database": f"{path} is no database: name another file",
        "unable to open": f"store {path} cannot be opened (no such place, or you may not write there): name another",
        "readonly": f"store {path} cannot be written (you may not write there): name another store",
    }
    known = next((line for words, line in reasons.items() if words in text), None)
    return InputError(known or f"store {path} cannot be written ({text}): make room; nothing of this update is kept")
