"""One launch at a time into one database: a lock document that outlives no dead holder."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.collection import Collection

COLLECTION = "definet_locks"
DEAD_AFTER = 60.0
"""Seconds without a beat after which a holder counts as dead; it beats after every workflow, of a second or two."""

_POLL = 0.5
_NAME = "launch"


@contextmanager
def sole_launch(locks: Collection[dict[str, Any]], dead_after: float = DEAD_AFTER) -> Iterator[Callable[[], None]]:
    """Hold the lock; waits for another launch to end, or for `dead_after` seconds without a sign of life.

    A beat is a number that grows, watched by the clock of the one who waits: the clocks of two machines are never
    compared.

    Parameters
    ----------
    locks
        Collection of the lock document, in the database that is launched into.
    dead_after
        Seconds.

    Yields
    ------
    callable
        To be called between steps. Raises InputError if another launch took the lock meanwhile, because this process
        slept for longer than `dead_after`.
    """
    owner = uuid.uuid4().hex
    _take(locks, owner, dead_after)

    def beat() -> None:
        mine = {"_id": _NAME, "owner": owner}
        if locks.find_one_and_update(mine, {"$inc": {"beat": 1}}) is None:
            msg = f"this launch stood still for more than {dead_after:g} s and another one took over: launch again"
            raise InputError(msg)

    try:
        yield beat
    finally:
        locks.delete_one({"_id": _NAME, "owner": owner})


def _take(locks: Collection[dict[str, Any]], owner: str, dead_after: float) -> None:
    """Insert the lock document, or take over one whose beat stands still."""
    seen, since = None, time.monotonic()
    while True:
        try:
            locks.insert_one({"_id": _NAME, "owner": owner, "beat": 0})
        except DuplicateKeyError:
            held = locks.find_one({"_id": _NAME})
        else:
            return
        sign = None if held is None else (held["owner"], held["beat"])
        if sign is None or sign != seen:
            seen, since = sign, time.monotonic()
        elif time.monotonic() - since > dead_after:
            stale = {"_id": _NAME, "owner": sign[0], "beat": sign[1]}
            taken = locks.find_one_and_update(
                stale, {"$set": {"owner": owner, "beat": 0}}, return_document=ReturnDocument.AFTER
            )
            if taken is not None:
                return
        time.sleep(_POLL)
