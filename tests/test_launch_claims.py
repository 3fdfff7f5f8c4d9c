"""A relaxation is begun by one job only, whichever campaigns want it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from definet_flows.stores.claims import claim
from definet_flows.workflows.claims import may_begin, owned
from flow_helpers import CU, run, stored
from store_fixtures import record

from definet_flows.stores import SqliteStore
from definet_flows.stores.access import Records

pytest_plugins = ["flow_fixtures", "mongo_server"]


def running(owner, **place):
    one = record(status="running")
    changes = {"owner": owner, "job_uuid": f"engine of {owner}", **place}
    return one.model_copy(update={"provenance": one.provenance.model_copy(update=changes)})


def gone():
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_who_may_begin():
    assert may_begin(None, "me")
    assert may_begin(record(status="failed"), "me")
    assert may_begin(running("me"), "me")  # the queue runs the same job again
    assert not may_begin(running("another"), "me")  # in a queue: only the queue knows whether it lives
    here = owned(running("another"), "another").provenance
    assert here.pid == os.getpid()
    assert may_begin(running("another", hostname=here.hostname, pid=gone()), "me")
    assert may_begin(running("another", hostname=here.hostname, pid=os.getpid()), "me")  # this process came back to it
    assert not may_begin(running("another", hostname="elsewhere", pid=gone()), "me")
    started = "2100-01-01T00:00:00+00:00"
    parent = os.getppid()
    assert not may_begin(running("another", hostname=here.hostname, pid=parent, started=started), "me")
    long_ago = "1970-01-02T00:00:00+00:00"  # the number was given to another process since
    assert may_begin(running("another", hostname=here.hostname, pid=parent, started=long_ago), "me")


def test_a_file_gives_a_record_to_one(tmp_path):
    with Records(SqliteStore(str(tmp_path / "records.sqlite"))) as records:
        assert claim(records, running("one"), None)
        assert not claim(records, running("two"), None)
        assert claim(records, running("two"), running("one"))
        assert records.record(record().id).provenance.owner == "two"


@pytest.mark.mongo
def test_of_many_at_once_one_gets_a_record(mongo_server):
    store, workers, rounds = mongo_server.store(), 8, 20
    barrier = Barrier(workers)

    def attempt(number):
        with Records(mongo_server.store(collection_name=store.collection_name)) as records:
            won = 0
            for turn in range(rounds):
                barrier.wait()
                earlier = records.record(record().id)
                barrier.wait()
                won += claim(records, running(f"{number} in {turn}"), earlier)
                barrier.wait()
            return won

    with ThreadPoolExecutor(workers) as pool:
        assert sum(pool.map(attempt, range(workers))) == rounds


def test_a_flow_leaves_alone_what_another_campaign_relaxes(maker, jobs):
    maker.control_fraction = 0
    run(maker.make(CU), jobs)
    done = stored()[0][0]
    elsewhere = done.provenance.model_copy(update={"owner": "a job in a queue", "hostname": "node7", "pid": None})
    with Records(SqliteStore("records.sqlite")) as records:
        records.put(done.model_copy(update={"status": "running", "provenance": elsewhere}))
    output, _ = run(maker.make(CU), jobs)
    assert (output["relaxations_run"], output["relaxations_reused"]) == (0, 2)
    assert stored()[0][0].provenance == elsewhere
