"""The journal file itself: crashes, damage, locks, compaction, and jobflow on top of it."""

from __future__ import annotations

import datetime as dt
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from jobflow import Flow, job, run_locally
from jobflow.settings import JobflowSettings
from monty.json import MontyDecoder
from monty.serialization import loadfn
from pymongo.errors import DuplicateKeyError

from definet_flows.errors import InputError
from definet_flows.stores import journalfile, lines
from definet_flows.stores.journal import SqliteStore

KILLS = int(os.environ.get("DEFINET_KILLS", "10"))
ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.sqlite"


def contents(path, key="id"):
    """What another process would read: nothing that this one has in memory."""
    journalfile._JOURNALS.clear()
    journalfile.forget()
    with SqliteStore(str(path), read_only=True, key=key) as store:
        return {doc[key]: doc for doc in store.query(properties={"_id": 0})}


def fill(path, count, start=0):
    with SqliteStore(str(path)) as store:
        for k in range(start, start + count):
            store.update({"id": f"r{k}", "value": k})


# ------------------------------------------------------------------ crashes


@pytest.fixture
def writers():
    """The process that makes writers."""
    command = [sys.executable, str(ROOT / "tests" / "journal_writer.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    with subprocess.Popen(command, **pipes) as process:
        yield process
        process.stdin.close()


def test_killed_writer_loses_nothing_acknowledged(path, writers):
    """SIGKILL at seeded random instants; each round goes on with the same file, so damage would add up."""
    instants = random.Random(7)  # noqa: S311 - seeded on purpose
    latest: dict[str, int] = {}
    acknowledged = torn = 0
    for kill in range(KILLS):
        acknowledged += _write_and_kill(writers, path, kill, instants.uniform(0.0, 0.15), latest)
        torn += not path.read_bytes().endswith(b"\n")
        found = contents(path)
        with SqliteStore(str(path), read_only=True) as store:
            assert store.count() == len(found), "a record twice"
        missing = {name for name in latest if name not in found}
        assert not missing, f"acknowledged and lost after kill {kill}: {missing}"
        stale = {name for name, round_ in latest.items() if found[name]["round"] < round_}
        assert not stale, f"acknowledged change lost after kill {kill}: {stale}"
        assert all(doc["table"] == [doc["round"]] * len(doc["table"]) for doc in found.values())
    assert latest, "no writer ever got so far as to write"
    print(f"{KILLS} kills, {acknowledged} acknowledged writes of {len(latest)} records, {torn} torn last lines")


def _write_and_kill(writers, path, kill, delay, latest):
    """Have a writer killed `delay` s after it began, add what it acknowledged to `latest`; return how many writes."""
    writers.stdin.write(f"{path} {kill} w{kill}\n".encode())
    writers.stdin.flush()
    ready, pid = writers.stdout.readline().split()
    assert ready == b"ready"
    time.sleep(delay)
    os.kill(int(pid), signal.SIGKILL)
    writes = 0
    while (line := writers.stdout.readline()) != b"gone\n":
        number, *names = line.decode().split()
        latest.update(dict.fromkeys(names, int(number)))
        writes += 1
    return writes


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0), tail=st.binary(max_size=30))
def test_any_torn_tail_costs_only_what_it_tore(tmp_path_factory, cut, tail):
    """A file cut anywhere, with rubbish behind the cut, keeps every line before it and takes new ones."""
    path = tmp_path_factory.mktemp("torn") / "j.jsonl"
    fill(path, 5)
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    cut = head + cut % (len(whole) - head)
    kept = whole[:cut].count(b"\n") - 1
    path.write_bytes(whole[:cut] + tail.replace(b"\n", b"."))
    assert set(contents(path)) == {f"r{k}" for k in range(kept)}
    fill(path, 1, start=9)
    assert set(contents(path)) == {*(f"r{k}" for k in range(kept)), "r9"}


def test_torn_header(path):
    path.write_bytes(lines.header()[:30])
    fill(path, 2)
    assert len(contents(path)) == 2


def test_damage_before_the_end_is_not_swept_away(path):
    fill(path, 5)
    damaged = path.read_bytes().replace(b'"value":2', b'"value":7')
    path.write_bytes(damaged)
    for read_only in (True, False):
        journalfile.forget()
        with pytest.raises(InputError, match=r"damaged at byte \d+: restore it"):
            SqliteStore(str(path), read_only=read_only).connect()
    assert path.read_bytes() == damaged


def test_a_file_that_is_no_journal_is_left_alone(path):
    for content in (b'{"id": 1}\n', b"x" * 500, b'[{"a": 1}]'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a journal"):
            SqliteStore(str(path)).connect()
        assert path.read_bytes() == content


def test_newer_format(path):
    path.write_bytes(lines.encode({"journal": 99, "generation": "x"}))
    with pytest.raises(InputError, match=r"format 99.*update definet_flows"):
        SqliteStore(str(path)).connect()


def test_full_disk_keeps_what_was_acknowledged(path, monkeypatch):
    with SqliteStore(str(path)) as store:
        store.update({"id": "first"})
        monkeypatch.setattr(journalfile.os, "fsync", _no_space)
        with pytest.raises(OSError, match="No space"):
            store.update({"id": "second"})
        assert store.count() == 1
        monkeypatch.undo()
        store.update({"id": "third"})
        assert sorted(store.distinct("id")) == ["first", "third"]
    assert set(contents(path)) == {"first", "third"}


def _no_space(_descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


# ------------------------------------------------------------------ one writer, many readers


def test_second_writer_is_told_who_and_what(path):
    fill(path, 1)
    code = (
        "import sys, time; from definet_flows.stores.journal import SqliteStore as J; s = J(sys.argv[1]); "
        "s.connect(); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="being written by another process: wait") as caught:
            SqliteStore(str(path)).connect()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert set(contents(path)) == {"r0"}  # readable meanwhile
        other.stdin.close()
    fill(path, 1, start=1)
    assert set(contents(path)) == {"r0", "r1"}


def test_reader_reads_on(path):
    with SqliteStore(str(path)) as writer, SqliteStore(str(path), read_only=True) as reader:
        writer.update([{"id": "a"}, {"id": "b"}])
        assert reader.count() == 0
        reader.connect(force_reset=True)
        assert reader.count() == 2
        with pytest.raises(InputError, match="read-only"):
            reader.update({"id": "c"})
        with pytest.raises(InputError, match="read-only"):
            reader.remove_docs({})


def test_stores_of_one_process_share_the_file(path):
    first, second = SqliteStore(str(path)), SqliteStore(str(path))
    first.connect()
    second.connect()
    first.update({"id": "a"})
    second.update({"id": "b"})
    assert first.count() == second.count() == 2
    first.close()
    second.update({"id": "c"})
    second.close()
    with pytest.raises(RuntimeError, match="not connected"):
        second.update({"id": "d"})
    assert set(contents(path)) == {"a", "b", "c"}


def test_what_another_process_added_is_read_at_the_next_connect(path):
    fill(path, 1)
    code = (
        "import sys; from definet_flows.stores.journal import SqliteStore as J; "
        "s = J(sys.argv[1]); s.connect(); s.update({'id': 'theirs'}); s.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)
    with SqliteStore(str(path)) as store:
        store.update({"id": "theirs", "mine": True})
        assert store.count() == 2
    assert contents(path)["theirs"] == {"id": "theirs", "mine": True}


def test_a_forgotten_store_lets_go_of_the_lock(path):
    store = SqliteStore(str(path))
    store.connect()
    del store
    fill(path, 1)
    code = "import sys; from definet_flows.stores.journal import SqliteStore as J; J(sys.argv[1]).connect()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)


def test_threads(path):
    with SqliteStore(str(path)) as store:
        barrier = threading.Barrier(8)

        def write(k):
            barrier.wait()
            for n in range(20):
                store.update([{"id": f"own {k} {n}"}, {"id": "common", "by": k}])
                store.count({"id": "common"})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    assert len(contents(path)) == 161


# ------------------------------------------------------------------ as a maggma Store


def test_values_that_json_does_not_know(path):
    values = {
        "id": "x",
        "time": dt.datetime(2025, 1, 2, 3, 4, 5, 678000),  # noqa: DTZ001 - maggma's are naive UTC
        "bytes": b"\x00\xff",
        "oid": ObjectId("507f1f77bcf86cd799439011"),
        "nan": float("nan"),
        "big": 2**60,
        "text": 'a "$date" in a text\n',
    }
    with SqliteStore(str(path)) as store:
        store.update(values)
        now = store.query_one({"id": "x"}, {"_id": 0})
    assert now["nan"] != now["nan"]
    then = contents(path)["x"]
    assert {**now, "nan": 0} == {**then, "nan": 0}
    assert {**then, "nan": 0, "oid": ObjectId(then["oid"])} == {**values, "nan": 0}


def test_several_keys(path):
    with SqliteStore(str(path), key="uuid") as store:
        store.update([{"uuid": "a", "index": i, "n": i} for i in (1, 2)], key=["uuid", "index"])
        store.update({"uuid": "a", "index": 2, "n": 5}, key=["uuid", "index"])
        assert sorted(doc["n"] for doc in store.query()) == [1, 5]
        store.update({"index": 2, "n": 6}, key="index")  # replaces the one found by another key
        store.update({"uuid": "a", "index": 2, "n": 7}, key=["uuid", "index"])
        assert sorted(doc["n"] for doc in store.query()) == [1, 6, 7]
        with pytest.raises(KeyError):
            store.update({"n": 1})


def test_a_queried_document_can_be_written_back(path):
    fill(path, 3)
    with SqliteStore(str(path)) as store:
        for doc in store.query():
            store.update({**doc, "value": doc["value"] + 10})
    assert sorted(doc["value"] for doc in contents(path).values()) == [10, 11, 12]


def test_unique_index_lasts(path):
    fill(path, 3)
    with SqliteStore(str(path)) as store:
        store.update({"id": "z", "value": 2})
        assert not store.ensure_index("value", unique=True)
        store.remove_docs({"id": "z"})
        assert store.ensure_index("value", unique=True)
        assert store.ensure_index("anything")
    journalfile.forget()
    with SqliteStore(str(path)) as store:
        before = path.stat().st_size
        with pytest.raises(DuplicateKeyError):
            store.update([{"id": "y", "value": 77}, {"id": "z", "value": 2}])
        assert path.stat().st_size == before
        store.update({"id": "z", "value": 3})
    assert len(contents(path)) == 4


def test_compaction(path):
    with SqliteStore(str(path)) as store:
        store.ensure_index("id", unique=True)
        for k in range(150):
            store.update([{"id": "a", "round": k}, {"id": "b", "round": -k}])
        store.update({"id": "gone"})
        store.remove_docs({"id": "gone"})
    large = path.stat().st_size
    with SqliteStore(str(path), read_only=True) as reader, SqliteStore(str(path)) as store:
        assert path.stat().st_size < large / 20
        store.update({"id": "c"})
        reader.connect(force_reset=True)  # the file was replaced under the reader
        assert reader.count() == 3
    assert {name: doc.get("round") for name, doc in contents(path).items()} == {"a": 149, "b": -149, "c": None}


def test_crash_while_compacting_leaves_the_old_file(path, monkeypatch):
    with SqliteStore(str(path)) as store:
        for k in range(150):
            store.update({"id": "a", "round": k})
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: _no_space(0))
    with pytest.raises(OSError, match="No space"):
        SqliteStore(str(path)).connect()
    monkeypatch.undo()
    assert path.read_bytes() == before
    with SqliteStore(str(path)) as store:
        assert store.query_one({"id": "a"})["round"] == 149
    assert path.stat().st_size < len(before)


def test_serialisation(path):
    store = SqliteStore(str(path), key="uuid", last_updated_field="completed_at")
    again = MontyDecoder().process_decoded(store.as_dict())
    assert again == store
    assert (again.key, again.last_updated_field, again.read_only) == ("uuid", "completed_at", False)


# ------------------------------------------------------------------ jobflow


@job(data="big")
def _produce(n):
    return {"small": n, "big": list(range(n))}


@job
def _consume(output):
    return output["small"] + len(output["big"])


@pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow's own use of monty
def test_jobflow_yaml_runs_as_it_is(tmp_path, monkeypatch):
    """The file at the root, with the home folder moved to a temporary one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(ROOT / "jobflow.yaml"))
    store = JobflowSettings().JOB_STORE
    assert type(store.docs_store) is SqliteStore
    first = _produce(4)
    second = _consume(first.output)
    run_locally(Flow([first, second]), store=store, ensure_success=True, root_dir=tmp_path, log=False)
    assert store.get_output(second.uuid) == 8
    files = sorted(path.name for path in tmp_path.rglob("*.jsonl"))
    assert files == ["job_data.jsonl", "jobs.jsonl"]
    store.close()
    assert len(contents(next(tmp_path.rglob("jobs.jsonl")), key="uuid")) == 2


def test_jobflow_yaml_holds_no_secret_and_shows_the_other_form():
    text = (ROOT / "jobflow.yaml").read_text()
    assert set(loadfn(ROOT / "jobflow.yaml")) == {"JOB_STORE"}
    assert "# " in text
    assert "MongoStore" in text
    assert "GridFSStore" in text
