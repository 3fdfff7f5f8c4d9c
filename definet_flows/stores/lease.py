"""One at a time: a lease document in the store, renewed while its holder lives; a dead holder's runs out."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from definet_flows.errors import BusyError, InputError
from definet_flows.schemas.models import Lease
from definet_flows.stores.access import Records, open_store
from definet_flows.stores.swap import swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEAD_AFTER = 600.0
"""Seconds without a sign of life after which a holder counts as dead; machines' clocks must agree to within that."""

_BEAT = 60.0  # s
_PATIENCE, _POLL = 60.0, 0.1  # s


class HeldError(Exception):
    """Another process holds the lease; the message says which."""


def open_patiently(store: str | None) -> Records:
    """Open a record store to write; a journal that another process writes to is waited for, a minute at most.

    Raises
    ------
    InputError
        As `open_store`.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return open_store(store)
        except BusyError:
            if time.monotonic() > until:
                raise
        time.sleep(_POLL)


@contextmanager
def sole(what: str, store: str | None) -> Iterator[Callable[[Records], None]]:
    """Be the only one that does something with a store; the store is not kept open meanwhile.

    A holder that was killed on this machine is known to be dead at once, elsewhere after `DEAD_AFTER`.

    Parameters
    ----------
    what
        What it is about, such as "retraining".
    store
        Name of the record store.

    Yields
    ------
    callable
        To be called with the open store before anything is written: raises InputError if this process stood still for
        so long that another one took over.

    Raises
    ------
    HeldError
        If another living process does it.
    """
    holder = uuid.uuid4().hex
    with open_patiently(store) as records:
        _take(records, what, holder)
    ended = threading.Event()
    thread = threading.Thread(target=_keep_renewing, args=(what, holder, store, ended), daemon=True)
    thread.start()

    def check(records: Records) -> None:
        if not _renew(records, what, holder):
            msg = (
                f"{what}: this process stood still for over {DEAD_AFTER:.0f} s and another one took over: run it again"
            )
            raise InputError(msg)

    try:
        yield check
    finally:
        ended.set()
        thread.join()
        # A store that cannot be reached now: the lease runs out by itself.
        with suppress(InputError), open_patiently(store) as records:
            _renew(records, what, holder, release=True)


def _held(records: Records, what: str) -> Lease | None:
    return next(records.find(Lease, {"id": Lease.identity(what)}), None)


def _take(records: Records, what: str, holder: str) -> None:
    held = _held(records, what)
    if held is not None and held.holder is not None and _lives(held):
        ago = max(0.0, time.time() - held.renewed)
        msg = f"{what} runs already: process {held.pid} on {held.hostname} since {held.since}, heard of {ago:.0f} s ago"
        raise HeldError(msg)
    lease = Lease(
        id=Lease.identity(what),
        what=what,
        holder=holder,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        renewed=time.time(),
    )
    if not swap(records, lease, None if held is None else held.revision):
        msg = f"{what}: another process began at this moment"
        raise HeldError(msg)


def _lives(held: Lease) -> bool:
    if time.time() - held.renewed > DEAD_AFTER:
        return False
    return held.hostname != socket.gethostname() or _runs(held.pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _renew(records: Records, what: str, holder: str, *, release: bool = False) -> bool:
    """Give a sign of life, or give the lease back; say whether it is still ours."""
    held = _held(records, what)
    if held is None or held.holder != holder:
        return False
    update = {"holder": None} if release else {"renewed": time.time()}
    return swap(records, held.model_copy(update=update), held.revision)


def _keep_renewing(what: str, holder: str, store: str | None, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        try:
            with open_patiently(store) as records:
                _renew(records, what, holder)
        except InputError:
            continue  # a journal that another process writes to right now, a network that comes back
