"""Assertions in modules of fixtures are rewritten, whichever module imports them first; tables have one width."""

import os
import sys

import pytest

pytest.register_assert_rewrite("flow_fixtures", "mongo_server", "queue_helpers", "vasp_fixtures")

# Two workers share the cores: threads of one would spin while they wait for each other, and the spinning counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# rich keeps the COLUMNS of the moment at which a console is made: made without, it follows what each test sets.
os.environ.pop("COLUMNS", None)
import definet_flows.cli.app  # noqa: F401, E402


@pytest.fixture(autouse=True)
def _no_lease_outlives_its_test():
    """Stop the threads that renew leases: a later test may fork while one of them holds a lock of SQLite's."""
    yield
    locking = sys.modules.get("definet_flows.stores.locking")
    if locking is None:
        return
    for holder in locking._sessions.holders.values():
        holder._ended.set()
        if holder._thread is not None:
            holder._thread.join()
    locking._sessions.holders.clear()
