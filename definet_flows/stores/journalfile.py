"""One journal file as one process sees it: a lock to write, its documents in memory.

`definet_flows.stores.journal` is the maggma Store on top, `definet_flows.stores.lines` the format
of a line.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import threading
import uuid
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout
from maggma.stores import MemoryStore
from pymongo.errors import DuplicateKeyError

from definet_flows.errors import BusyError, InputError
from definet_flows.stores import lines
from definet_flows.stores.garbage import uncollected

if TYPE_CHECKING:
    from pathlib import Path

Doc = dict[str, Any]

_LARGE = 10_000_000  # bytes
_LOGGER = logging.getLogger(__name__)


class Journal:
    """One journal file as this process sees it: its documents in memory and, to write, the lock."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.mutex = threading.RLock()
        self._lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
        self._users = 0
        self._file: BinaryIO | None = None
        self._pid = 0
        self._torn = False
        self._clear(b"")

    def _clear(self, head: bytes) -> None:
        memory = MemoryStore()
        memory.connect()
        self.collection: Any = memory._collection  # noqa: SLF001
        # mongomock's own inserts copy and scan: 2,000 upserts take 15 s through them and none here.
        self._documents = self.collection._store  # noqa: SLF001
        self._indexes: dict[tuple[str, ...], dict[str, str]] = {}
        self._unique: set[str] = set()
        self._head = head  # the file's first line: another one means that the file was rewritten
        self._end = 0
        self._puts = 0

    # ------------------------------------------------------------ opening and closing

    def attach(self) -> None:
        """Open the file for one more user."""
        with self.mutex:
            if self._users and not self.read_only:
                self._users += 1
                return
            if self.read_only:
                self.refresh()
            else:
                self._open()
            self._users += 1

    def detach(self) -> None:
        """Let one user go; the last one releases the lock, what is in memory is kept for the next."""
        with self.mutex:
            self._users -= 1
            if not self._users and self._file is not None:
                self._file.close()
                self._file = None
                self._lock.release()

    def refresh(self) -> None:
        """Read what the file holds beyond what is in memory, or all of it if it was rewritten."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            msg = f"journal {self.path} cannot be read ({error.strerror}): run a flow first or name another store"
            raise InputError(msg) from None
        with file, self.mutex:
            head = lines.read_header(file)
            if head != self._head or file.seek(0, os.SEEK_END) < self._end:
                self._clear(head)
            file.seek(self._end)
            start = self._end
            with uncollected():
                for end, operation in lines.operations(file):
                    self._apply(operation)
                    self._end = end
            if self._end - start > _LARGE:
                gc.freeze()  # the collector would go over all that was read ever after, at each query

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            msg = f"journal {self.path} is being written by another process: wait for it, or open it read-only"
            raise BusyError(msg) from None
        except OSError as error:
            msg = f"journal {self.path} cannot be written ({error.strerror}): name another store"
            raise InputError(msg) from None
        try:
            self._begin()
        except BaseException:
            self._lock.release()
            raise

    def _begin(self) -> None:
        if self.path.exists():
            self.refresh()
        else:
            self._clear(b"")
        self._pid = os.getpid()
        if self._puts > 2 * len(self._documents) + 100:
            self._compact()
        self._file = self.path.open("ab", buffering=0)
        self._cut()
        if not self._end:
            self._clear(lines.header())
            self._append(self._head)
            _sync_folder(self.path.parent)

    def _compact(self) -> None:
        """Rewrite the file without what was superseded; a crash leaves the old one."""
        target = self.path.with_name(self.path.name + ".compact")
        head = lines.header()
        with target.open("wb") as file:
            end = file.write(head)
            for line in lines.content(self._documents.documents, sorted(self._unique)):
                end += file.write(line)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(self.path, target)
        target.replace(self.path)
        _sync_folder(self.path.parent)
        self._head, self._end, self._puts = head, end, len(self._documents)

    # ------------------------------------------------------------ changing

    def put(self, batch: list[Doc], fields: tuple[str, ...]) -> None:
        """Upsert `batch`; `fields` identify a document."""
        with self.mutex:
            known, new = self._index(fields), dict[str, str]()
            for doc in batch:
                identity = _values({field: doc[field] for field in fields}, fields)
                doc["_id"] = known.get(identity) or new.setdefault(identity, uuid.uuid4().hex)
            self._refuse_duplicates(batch)
            self._commit({"put": batch})

    def drop(self, ids: list[str]) -> None:
        """Remove documents by `_id`."""
        if ids:
            self._commit({"drop": ids})

    def keep_unique(self, field: str) -> bool:
        """Refuse from now on a second document with the same value of `field`."""
        with self.mutex:
            if field not in self._unique:
                having = sum(_values(doc, (field,)) != _MISSING for doc in self._documents.documents)
                if len(self._index((field,))) < having:
                    return False
                self._commit({"unique": field})
            return True

    def _refuse_duplicates(self, batch: list[Doc]) -> None:
        for field in self._unique:
            holders, new = self._index((field,)), dict[str, str]()
            for doc in batch:
                value = _values(doc, (field,))
                holder = holders.get(value) or new.setdefault(value, doc["_id"])
                if value != _MISSING and holder != doc["_id"]:
                    msg = f"{self.path}: another document has {field} = {value}"
                    raise DuplicateKeyError(msg, 11000)

    def _commit(self, operation: lines.Operation) -> None:
        """Write, and only then change what is in memory, to just what will be read back."""
        line = lines.encode(operation)
        self._append(line)
        self._apply(lines.decode(line) or {})

    def _append(self, line: bytes) -> None:
        if self._file is None or self._pid != os.getpid():
            msg = f"journal {self.path} is not open for writing in this process: connect after the fork"
            raise RuntimeError(msg)
        if self._torn:
            self._cut()
        self._torn = True
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())
        self._torn = False
        self._end += len(line)

    def _cut(self) -> None:
        """Drop what a write that failed or was killed left behind the last good line."""
        assert self._file is not None  # noqa: S101 - both callers have it open
        torn = os.fstat(self._file.fileno()).st_size - self._end
        if torn:
            _LOGGER.warning("journal %s: dropped %d bytes of a write that was never acknowledged", self.path, torn)
            self._file.truncate(self._end)

    # ------------------------------------------------------------ in memory

    def snapshot(self) -> list[Doc]:
        """Return the documents themselves, not copies."""
        with self.mutex:
            return list(self._documents.documents)

    def _apply(self, operation: lines.Operation) -> None:
        for doc in operation.get("put", ()):
            identity = doc["_id"]
            old = self._documents[identity] if identity in self._documents else None  # noqa: SIM401 - no dict, no get
            self._documents[identity] = doc
            self._reindex(old, doc)
            self._puts += 1
        for identity in operation.get("drop", ()):
            del self._documents[identity]
            self._indexes.clear()
        if "unique" in operation:
            self._unique.add(operation["unique"])

    def _reindex(self, old: Doc | None, new: Doc) -> None:
        for fields in list(self._indexes):
            if old is None:
                _enter(self._indexes[fields], new, fields)
            elif _values(old, fields) != _values(new, fields):
                del self._indexes[fields]  # rare, and rebuilt when next needed

    def _index(self, fields: tuple[str, ...]) -> dict[str, str]:
        """Return `_id` by the values of `fields`."""
        if fields not in self._indexes:
            index: dict[str, str] = {}
            for doc in self._documents.documents:
                _enter(index, doc, fields)
            self._indexes[fields] = index
        return self._indexes[fields]


_MISSING = "[]"


def _values(doc: Doc, fields: tuple[str, ...]) -> str:
    """Return the values of `fields` as one hashable text, `_MISSING` if the document lacks one."""
    if any(field not in doc for field in fields):
        return _MISSING
    return json.dumps([doc[field] for field in fields], default=str)


def _enter(index: dict[str, str], doc: Doc, fields: tuple[str, ...]) -> None:
    value = _values(doc, fields)
    if value != _MISSING:
        index.setdefault(value, doc["_id"])


def _sync_folder(folder: Path) -> None:
    """Make a new or renamed file's entry in its folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_JOURNALS: weakref.WeakValueDictionary[tuple[Path, bool], Journal] = weakref.WeakValueDictionary()
# A job opens and closes its store, thousands of times in one process: the last few stay in memory.
_RECENT: deque[Journal] = deque(maxlen=4)
_REGISTRY_MUTEX = threading.Lock()


def forget() -> None:
    """Drop what was kept in memory of journals that are closed."""
    _RECENT.clear()


def shared(path: Path, *, read_only: bool) -> Journal:
    """Return the one Journal of this process for an absolute path."""
    with _REGISTRY_MUTEX:
        journal = _JOURNALS.setdefault((path, read_only), Journal(path, read_only=read_only))
        if journal not in _RECENT:
            _RECENT.append(journal)
        return journal
