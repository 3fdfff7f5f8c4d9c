"""One launch at a time of what goes to one record store, into whichever queue."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.stores import open_store
from definet_flows.stores.lease import HeldError, sole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 900.0
"""Seconds to wait for another launch to end; longer than it takes to know that one is dead."""

_POLL = 1.0  # s


@contextmanager
def sole_launch(store: str | None, patience: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """Be the only one that launches into a record store, once whoever does so now has ended.

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
    end = time.monotonic() + patience
    with ExitStack() as stack:
        while True:
            try:
                check = stack.enter_context(sole("launching", store))
            except HeldError as error:
                if time.monotonic() > end:
                    raise InputError(f"{error}; launch again later") from None
                time.sleep(_POLL)
            else:
                break

        def alone() -> None:
            with open_store(store) as records:
                check(records)

        yield alone
