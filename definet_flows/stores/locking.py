"""Leases in the record store, for work that only one process may do: a living holder renews its lease.

For a process of this running system and PID namespace it is known whether it lives. The lease of any other process is
free if it was not renewed for `DEAD_AFTER`; a younger lease is watched for three beats of its holder.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from definet_flows.errors import InputError
from definet_flows.schemas.models import Lease, Revised
from definet_flows.stores.opening import open_store
from definet_flows.stores.process import Process, runs, this_process
from definet_flows.stores.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from definet_flows.schemas import DefectRecord, HostRun

    Run = DefectRecord | HostRun

DEAD_AFTER = 600.0
"""Seconds without a sign of life after which any holder counts as dead; clocks must agree to within that."""

BEAT = 10.0
"""Seconds after which a holder renews its lease."""

_BEATS = 3  # that a holder may miss
_KNOWN_FOR = 60.0  # s, for which a session that was seen to live is not watched again


class HeldError(Exception):
    """Another process holds the lease; the message names it."""


def swap(records: Records, document: Revised, revision: int | None) -> bool:
    """Write a document if the stored document has this revision (None: there is none); return whether it was written.

    The written document has the next revision. Raises as `Records.replace_if`.
    """
    following = document.model_copy(update={"revision": 0 if revision is None else revision + 1})
    return records.replace_if(following, None if revision is None else {"revision": revision})


# ------------------------------------------------------------------ leases


@contextmanager
def sole(what: str, store: str | None, patience: float = 0.0) -> Iterator[Callable[[Records], None]]:
    """Hold the lease on some work with a store; the store is not kept open meanwhile.

    Parameters
    ----------
    what
        The work, such as "retraining".
    store
        Name of the record store.
    patience
        Seconds to wait for a living holder to end.

    Yields
    ------
    callable
        To be called with the open store before anything is written: raises InputError if this process stood still for
        so long that another process took over.

    Raises
    ------
    HeldError
        If another living process holds the lease.
    """
    holder = _Holder(what, store)
    until = time.monotonic() + patience
    while not holder.take():
        if time.monotonic() >= until:
            raise HeldError(holder.refusal)
        time.sleep(min(1.0, patience))
    holder.begin()

    def check(records: Records) -> None:
        if not holder.renew(records):
            msg = f"{what}: this process paused for so long that another took over: run it again"
            raise InputError(msg)

    try:
        yield check
    finally:
        holder.end()


@contextmanager
def sole_launch(store: str | None, patience: float = 900.0) -> Iterator[Callable[[], None]]:
    """Hold the lease on launching into a record store, once its present holder has ended.

    Parameters
    ----------
    store
        Name of the record store.
    patience
        Seconds.

    Yields
    ------
    callable
        To be called before anything is added: raises InputError if this process stood still for so long that another
        launch took over.

    Raises
    ------
    InputError
        If another launch still runs after `patience`.
    """
    with ExitStack() as stack:
        try:
            check = stack.enter_context(sole("launching", store, patience))
        except HeldError as error:
            raise InputError(f"{error}; launch again later") from None

        def alone() -> None:
            with open_store(store) as records:
                check(records)

        yield alone


@dataclass
class _Holder:
    """A lease that this process holds, or wants to hold."""

    what: str
    store: str | None
    folder: str = ""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    refusal: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def take(self) -> bool:
        """Take the lease unless a living process has it; `refusal` then names that process."""
        with open_store(self.store) as records:
            held = _stored(records, self.what)
            if held is not None and lives(records, held):
                self.refusal = f"{self.what} runs already: {holder_words(held)}, since {held.since}"
                return False
            here = this_process()
            lease = Lease(
                id=Lease.identity(self.what),
                what=self.what,
                holder=self.token,
                hostname=socket.gethostname(),
                pid=here.pid,
                since=datetime.now(UTC).isoformat(timespec="seconds"),
                renewed=time.time(),
                beat=BEAT,
                place=here.place,
                born=here.born,
                folder=self.folder,
            )
            self.refusal = f"{self.what}: another process began at this moment"
            return swap(records, lease, None if held is None else held.revision)

    def begin(self) -> None:
        """Renew the lease from now on."""
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Give the lease back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        # A store that cannot be reached now: the lease runs out by itself.
        with suppress(InputError), open_store(self.store) as records:
            self.renew(records, release=True)

    def renew(self, records: Records, *, release: bool = False) -> bool:
        """Renew the lease, or give it back; return whether this process still holds it."""
        while (held := _stored(records, self.what)) is not None and held.holder == self.token:
            update = {"holder": None} if release else {"renewed": time.time()}
            if swap(records, held.model_copy(update=update), held.revision):
                return True
            # The thread that keeps the lease has renewed it between reading and writing.
        return False

    def _keep(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(InputError), open_store(self.store) as records:  # a network may come back
                self.renew(records)


def _stored(records: Records, what: str) -> Lease | None:
    return next(records.find(Lease, {"id": Lease.identity(what)}), None)


def holder_words(held: Lease) -> str:
    """Return the holder of a lease in words."""
    ago = max(0.0, time.time() - held.renewed)
    return f"process {held.pid} on {held.hostname}, heard of {ago:.0f} s ago"


def lives(records: Records, held: Lease) -> bool:
    """Return whether the holder of a lease lives; where nothing else shows it, watch whether the lease is renewed."""
    if held.holder is None:
        return False
    known = runs(Process(held.place, held.pid, held.born))
    if known is not None:
        return known
    if time.time() - held.renewed > DEAD_AFTER:
        return False
    until = time.monotonic() + _BEATS * held.beat
    while time.monotonic() < until:
        time.sleep(min(held.beat / 5, 1.0))
        now = _stored(records, held.what)
        if now is None or now.holder != held.holder:
            return now is not None and now.holder is not None
        if now.revision != held.revision:
            return True
    return False


# ------------------------------------------------------------------ the right to relax


@dataclass
class _Sessions:
    """The leases of this process, by record store; the owners of its jobs, and the holders that are known to live."""

    pid: int
    holders: dict[str | None, _Holder] = field(default_factory=dict)
    threads: dict[str, threading.Thread] = field(default_factory=dict)
    known: dict[str, tuple[bool, float]] = field(default_factory=dict)
    mutex: threading.Lock = field(default_factory=threading.Lock)


_sessions = _Sessions(0)


def session(store: str | None, owner: str, folder: str = "") -> str:
    """Return the lease under which this process relaxes, renewed from now on until it ends.

    Parameters
    ----------
    store
        Name of the record store.
    owner
        The job that begins relaxations.
    folder
        Where the jobs of this flow run.
    """
    mine = _of_this_process()
    with mine.mutex:
        if store not in mine.holders:
            holder = _Holder("", store, folder)
            holder.what = _relaxing(holder.token)
            holder.take()
            holder.begin()
            mine.holders[store] = holder
        mine.threads[owner] = threading.current_thread()
        return mine.holders[store].token


def _of_this_process() -> _Sessions:
    global _sessions  # noqa: PLW0603 - a child process must not use its parent's
    if _sessions.pid != os.getpid():
        _sessions = _Sessions(os.getpid())
        atexit.register(_end_sessions, _sessions)
    return _sessions


def _end_sessions(sessions: _Sessions) -> None:
    if sessions.pid == os.getpid():
        for holder in sessions.holders.values():
            holder.end()


def _relaxing(token: str) -> str:
    return f"relaxing {token}"


def lease_of(records: Records, record: Run) -> Lease | None:
    """Return the lease under which a record is relaxed; None if there is none, as in a queue."""
    token = record.provenance.session
    return None if token is None else _stored(records, _relaxing(token))


def may_begin(records: Records, record: Run | None, by: str) -> bool:
    """Return whether nothing relaxes a record now, as far as this process can know.

    Only the queue knows about a job in a queue: its record stays running until the queue runs the job again, or until
    `definet retry` declares it lost.
    """
    if record is None or record.status != "running":
        return True
    place = record.provenance
    if place.owner in (None, by):
        return True
    if place.session is not None:
        return not _session_lives(records, record)
    # Earlier versions wrote only host and process: the process is dead if it is not there, else its state is unknown.
    return place.pid is not None and place.hostname == socket.gethostname() and not _exists(place.pid)


def _session_lives(records: Records, record: Run) -> bool:
    mine, token = _of_this_process(), str(record.provenance.session)
    if token in {holder.token for holder in mine.holders.values()}:
        thread = mine.threads.get(str(record.provenance.owner))  # this very thread has come back to it
        return thread is not None and thread is not threading.current_thread() and thread.is_alive()
    living, when = mine.known.get(token, (False, 0.0))
    if living and time.monotonic() - when < _KNOWN_FOR:
        return True
    held = lease_of(records, record)
    living = held is not None and lives(records, held)
    mine.known[token] = (living, time.monotonic())
    return living


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def claim(records: Records, record: Run, earlier: Run | None) -> bool:
    """Write a record if the store still holds the record that was read; return whether it was written.

    Parameters
    ----------
    records
        An open store.
    record
        What to write.
    earlier
        What `records.record` or `records.host_run` returned; None if there was none.

    Raises
    ------
    InputError
        As `Records.put`.
    """
    return records.replace_if(record, _identity(earlier))


def _identity(record: Run | None) -> dict[str, Any] | None:
    """Return the fields that a claim changes, by their paths in a document."""
    return None if record is None else {"status": record.status, "provenance.job_uuid": record.provenance.job_uuid}


def standing(records: Records, ids: Iterable[str]) -> tuple[list[DefectRecord], list[DefectRecord]]:
    """Return the running ones among some records: first those with a living owner, then those without."""
    found = [
        record for record in (records.record(identity) for identity in ids) if record and record.status == "running"
    ]
    dead = [record for record in found if may_begin(records, record, "")]
    return [record for record in found if record not in dead], dead


def explain_running(records: Records, ids: Iterable[str]) -> list[str]:
    """Return a line for each holder of unfinished records: who it is, and what to do."""
    held, dead = standing(records, ids)
    lines = Counter(f"are in the hands of {_holder(records, record)}" for record in held)
    if dead:
        lines["were begun and have no end: run the same command again"] = len(dead)
    return [f"{count} relaxations {line}" for line, count in lines.items()]


def _holder(records: Records, record: DefectRecord) -> str:
    lease, place = lease_of(records, record), record.provenance
    if lease is not None:
        return f"process {lease.pid} on {lease.hostname}, which lives: run the same command again when it has ended"
    if place.pid is not None:
        who = f"process {place.pid} on {place.hostname}, of which nothing can be known here"
        return f"{who}: if it is dead, `definet retry --killed FOLDER` with the folder of its jobs frees them"
    remedy = "if they are lost, `definet retry --launchpad FILE` or `definet retry --killed FOLDER` frees them"
    return f"jobs of a queue, which alone knows of them: {remedy}"
