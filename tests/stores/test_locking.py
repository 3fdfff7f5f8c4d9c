"""Claims and leases: a relaxation is begun by one job only, and what the dead hold is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from flow_helpers import CU, run, stored
from jobflow import JobStore
from maggma.stores import JSONStore, MemoryStore
from store_fixtures import record

from definet_flows.schemas.models import Lease
from definet_flows.stores import Records, SqliteStore, locking, open_store, process
from definet_flows.stores.locking import claim, explain_running, may_begin, session
from definet_flows.stores.process import Process, runs, this_process
from definet_flows.workflows.campaign.local import folder_store
from definet_flows.workflows.recovery.rebuild import free_dead
from definet_flows.workflows.recovery.retry import collect_killed, unfinished

pytest_plugins = ["flow_fixtures", "mongo_server"]


def running(owner, **place):
    one = record(status="running")
    changes = {"owner": owner, "job_uuid": f"engine of {owner}", **place}
    return one.model_copy(update={"provenance": one.provenance.model_copy(update=changes)})


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    with Records(SqliteStore(str(tmp_path / "records.sqlite"))) as records:
        yield records


@pytest.fixture
def gone():
    """Return a process of this machine that has ended."""
    with subprocess.Popen(["sleep", "60"]) as child:
        told = Process(this_process().place, child.pid, process._born(child.pid))
        assert runs(told)
        child.kill()
        while process._born(child.pid) is not None:
            time.sleep(0.01)
        assert runs(told) is False  # a zombie, too
    return told


def lease(records, token, where: Process, *, age=0.0, beat=0.05, folder=""):
    what = f"relaxing {token}"
    place = {"hostname": "h", "pid": where.pid, "place": where.place, "born": where.born, "folder": folder}
    document = Lease(id=Lease.identity(what), what=what, holder=token, renewed=time.time() - age, beat=beat, **place)
    records.put(document)
    return document


ELSEWHERE = Process("another system", os.getpid(), "1")


# ------------------------------------------------------------------ who lives


def test_a_process_is_known_by_more_than_its_number(gone):
    here = this_process()
    assert here.place
    assert runs(here)
    assert runs(Process(here.place, here.pid, "1")) is False  # the number was given to another since
    assert runs(gone) is False
    assert runs(ELSEWHERE) is None
    assert runs(Process("", 1, "")) is None


def test_who_may_begin(records, gone):
    assert may_begin(records, None, "me")
    assert may_begin(records, record(status="failed"), "me")
    assert may_begin(records, running("me"), "me")  # the queue runs the same job again
    assert not may_begin(records, running("another"), "me")  # in a queue: only the queue knows whether it lives
    lease(records, "dead", gone)
    lease(records, "alive", Process(this_process().place, os.getppid(), process._born(os.getppid())), age=10_000)
    lease(records, "silent", ELSEWHERE)
    assert may_begin(records, running("x", session="dead", hostname="other name", pid=1), "me")
    assert not may_begin(records, running("x", session="alive", hostname="other name", pid=1), "me")
    assert may_begin(records, running("x", session="silent", pid=1), "me")
    assert may_begin(records, running("x", session="never written", pid=1), "me")


def test_a_live_claim_of_another_namespace_is_watched_and_left_alone(records, tmp_path):
    first = lease(records, "beating", ELSEWHERE, age=300, beat=0.2)  # its clock is minutes behind
    ended = threading.Event()

    def beat():
        with Records(SqliteStore(str(tmp_path / "records.sqlite"))) as theirs:
            for k in range(1000):
                if ended.wait(0.05):
                    return
                theirs.put(first.model_copy(update={"revision": k + 1}))

    thread = threading.Thread(target=beat)
    thread.start()
    assert not may_begin(records, running("x", session="beating", pid=1), "me")
    ended.set()
    thread.join()


def test_a_session_of_this_process(records, monkeypatch, tmp_path):
    monkeypatch.setattr(locking, "BEAT", 0.05)
    store = str(tmp_path / "records.sqlite")
    token = session(store, "mine", "/a/folder")
    mine = running("mine", session=token, pid=os.getpid())
    assert may_begin(records, mine, "next")  # the flow before was interrupted, and this thread has come back
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(may_begin, records, mine, "other thread").result()
    beats = {held.revision for _ in range(30) if (held := locking.lease_of(records, mine)) or time.sleep(0.02)}
    until = time.monotonic() + 20
    while len(beats) < 3 and time.monotonic() < until:
        time.sleep(0.02)
        beats.add(locking.lease_of(records, mine).revision)
    assert len(beats) >= 3
    assert locking.lease_of(records, mine).folder == "/a/folder"


# ------------------------------------------------------------------ conditional writes

STORES = ["sqlite", "memory", "json", pytest.param("mongo", marks=pytest.mark.mongo)]


@pytest.fixture(params=STORES)
def any_records(request, tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    if request.param == "mongo":
        store = request.getfixturevalue("mongo_server").store()
    elif request.param == "json":
        store = JSONStore(str(tmp_path / "r.json"), read_only=False, key="id")
    else:
        store = MemoryStore() if request.param == "memory" else SqliteStore(str(tmp_path / "r.sqlite"))
    with Records(store) as records:
        yield records


def test_a_record_is_given_to_one(any_records):
    assert claim(any_records, running("one"), None)
    assert not claim(any_records, running("two"), None)
    assert claim(any_records, running("two"), running("one"))
    assert not claim(any_records, running("three"), running("one"))
    assert any_records.record(record().id).provenance.owner == "two"


def test_what_is_done_is_not_overwritten_by_what_was_read_before(any_records):
    begun = running("one")
    any_records.put(begun)
    any_records.put(record().model_copy(update={"provenance": begun.provenance}))  # it ends after it was read
    assert not claim(any_records, running("two"), begun)
    assert any_records.record(begun.id).status == "done"


def test_the_rows_that_pages_show_know_of_a_claim_at_once(any_records):
    claim(any_records, running("one"), None)
    assert [row.status for row in any_records.record_rows()] == ["running"]
    claim(any_records, record(), running("two"))
    assert [row.status for row in any_records.record_rows()] == ["running"]  # refused: the row too
    claim(any_records, record(), running("one"))
    assert [row.status for row in any_records.record_rows()] == ["done"]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("mongo", marks=pytest.mark.mongo)])
def test_of_many_at_once_one_gets_a_record(kind, request, tmp_path):
    workers, rounds, barrier = 6, 8, Barrier(6)
    if kind == "mongo":
        server = request.getfixturevalue("mongo_server")
        name = server.store().collection_name

    def attempt(number):
        store = server.store(collection_name=name) if kind == "mongo" else SqliteStore(str(tmp_path / "r.sqlite"))
        with Records(store) as records:
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


# ------------------------------------------------------------------ flows


def held_by(**place):
    """Mark the first record of the campaign as running in other hands."""
    done = stored()[0][0]
    elsewhere = done.provenance.model_copy(update={"owner": "another job", **place})
    with open_store("records.sqlite") as records:
        records.put(done.model_copy(update={"status": "running", "ledger": None, "provenance": elsewhere}))
    return elsewhere


def test_a_flow_leaves_alone_what_a_queue_relaxes(maker, jobs):
    maker.control_fraction = 0
    run(maker.make(CU), jobs)
    elsewhere = held_by(hostname="node7", pid=None, session=None)
    output, _ = run(maker.make(CU), jobs)
    assert (output["relaxations_run"], output["relaxations_reused"]) == (0, 2)
    assert stored()[0][0].provenance == elsewhere
    with open_store("records.sqlite") as records:
        (line,) = explain_running(records, [stored()[0][0].id])
    assert line.startswith("1 relaxations are in the hands of jobs of a queue")
    assert "definet retry" in line


@pytest.mark.parametrize("known", ["lease", "host and process only"])
def test_what_can_be_freed_is_freed(maker, jobs, gone, known, workplace):
    maker.control_fraction = 0
    run(maker.make(CU), jobs)
    held_by(hostname="another name", pid=gone.pid, session="dead" if known == "lease" else None, job_uuid="lost")
    with open_store("records.sqlite") as records:
        name = stored()[0][0].id
        if known == "lease":
            lease(records, "dead", gone)
            assert unfinished(records, maker.engine) == [name]
            assert [one.id for one in free_dead(records)] == [name]
        else:
            assert unfinished(records, maker.engine) == []
            assert free_dead(records) == []
            (line,) = explain_running(records, [name])
            assert "definet retry --killed FOLDER" in line
            folder = workplace / "run"
            with folder_store(folder) as outputs:
                outputs.update({"uuid": "another job", "index": 1, "output": None})
            assert [one.id for one in collect_killed(records, folder)] == [name]
        assert records.record(name).status == "failed"
    output, _ = run(maker.make(CU), jobs)
    assert (output["relaxations_run"], output["relaxations_reused"]) == (1, 1)


def test_an_end_that_was_stored_before_the_kill_is_recorded_and_not_computed_again(maker, gone, workplace):
    maker.control_fraction, before = 0, JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    folder = workplace / "earlier"
    outputs = folder_store(folder)
    run(maker.make(CU), outputs)
    outputs.close()
    right = stored()[0]
    held_by(session="dead", pid=gone.pid)
    with open_store("records.sqlite") as records:
        lease(records, "dead", gone, folder=str(folder))
    output, _ = run(maker.make(CU), before)
    assert (output["relaxations_run"], output["relaxations_reused"]) == (0, 2)
    assert [one.ledger for one in stored()[0]] == [one.ledger for one in right]
    assert [one.status for one in stored()[0]] == ["done", "done"]


@pytest.mark.usefixtures("weights")
def test_a_run_killed_in_its_second_arm_keeps_the_first(workplace):
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests / 'support'}"}
    command = [sys.executable, str(tests / "support" / "killed_run.py"), "run"]
    (workplace / "slow").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=workplace, env=environment) as child:
        for _ in range(2):
            assert child.stdout.readline() == "relaxing\n"
        os.kill(child.pid, signal.SIGKILL)
    assert sorted(one.status for one in stored()[0]) == ["done", "running"]
    (workplace / "slow").unlink()
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=workplace, env=environment, check=True)
    assert again.stdout.count("relaxing") == 1
    figures = json.loads(again.stdout.splitlines()[-1].removeprefix("ended "))
    assert figures == {"relaxations_run": 1, "relaxations_reused": 1}
    assert [one.status for one in stored()[0]] == ["done", "done"]
    assert len(stored()[1]) == 1


def test_a_renewal_of_its_own_thread_at_the_same_moment_is_no_loss(tmp_path, monkeypatch):
    """The thread that keeps a lease may renew it between reading and writing of the check."""
    store, write, refused = str(tmp_path / "records.sqlite"), locking.swap, []

    def disturbed(records, lease, revision):
        if not refused:
            refused.append(write(records, lease, revision))
            return False
        return write(records, lease, revision)

    with locking.sole("launching", store) as check, open_store(store) as records:
        monkeypatch.setattr(locking, "swap", disturbed)
        check(records)
    assert refused == [True]
