"""The SQLite file as a maggma Store: crashes, damage, full disks, several writers."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from definet_flows.errors import InputError
from definet_flows.stores import SqliteStore
from definet_flows.stores.backends import database

KILLS = int(os.environ.get("DEFINET_KILLS", "10"))
ROOT = Path(__file__).parents[2]
FORK = multiprocessing.get_context("fork")
NOBODY = 65534


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.sqlite"


def contents(path, key="id"):
    with SqliteStore(str(path), read_only=True, key=key) as store:
        return {doc[key]: doc for doc in store.query()}


def fill(path, count, start=0):
    with SqliteStore(str(path)) as store:
        store.update([{"id": f"r{k}", "value": k} for k in range(start, start + count)])


# ------------------------------------------------------------------ crashes


@pytest.fixture
def writers():
    """The process that makes writers."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "sqlite_writer.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    with subprocess.Popen(command, **pipes) as process:
        yield process
        process.stdin.close()


def test_killed_writer_loses_nothing_acknowledged(path, writers):
    """SIGKILL at seeded random instants; each round goes on with the same file, so damage would add up."""
    instants = random.Random(7)  # noqa: S311 - seeded on purpose
    latest: dict[str, int] = {}
    acknowledged = 0
    for kill in range(KILLS):
        acknowledged += _write_and_kill(writers, path, kill, instants.uniform(0.0, 0.15), latest)
        with SqliteStore(str(path), read_only=True) as store:
            docs = list(store.query())
            store.verify()
        found = {doc["id"]: doc for doc in docs}
        assert len(docs) == len(found), "a record twice"
        missing = {name for name in latest if name not in found}
        assert not missing, f"acknowledged and lost after kill {kill}: {missing}"
        stale = {name for name, round_ in latest.items() if found[name]["round"] < round_}
        assert not stale, f"acknowledged change lost after kill {kill}: {stale}"
        assert all(doc["table"] == [doc["round"]] * len(doc["table"]) for doc in found.values())
    assert latest, "no writer ever got so far as to write"
    print(f"{KILLS} kills, {acknowledged} acknowledged writes of {len(latest)} records")


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


def test_a_full_disk_is_said_in_one_line_and_loses_nothing(path):
    fill(path, 1)

    def write_until_full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        with SqliteStore(str(path)) as store:
            for k in range(1000):
                done.value = k
                store.update({"id": f"x{k}", "text": "x" * 20_000})

    done = FORK.Value("i", 0)
    said = in_a_child(write_until_full)
    assert "make room; nothing of this update is kept" in said
    assert 3 < done.value < 40
    assert set(contents(path)) == {"r0", *(f"x{k}" for k in range(done.value))}
    fill(path, 2)


@pytest.mark.skipif(os.getuid() != 0, reason="needs a user who may do less than the one who runs the tests")
def test_a_folder_that_may_only_be_read():
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "records.sqlite"
        fill(path, 3)
        path.parent.chmod(0o755)
        assert in_a_child(lambda: len(contents(path)), NOBODY) == "3"
        assert "cannot be" in in_a_child(lambda: fill(path, 1), NOBODY)
        assert "cannot be" in in_a_child(lambda: fill(path.parent / "new.sqlite", 1), NOBODY)
        assert len(contents(path)) == 3


def in_a_child(act, user=None):
    """Return what a forked process gets: a value as text, or the one line of an InputError."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        if user is not None:
            os.setgid(user)
            os.setuid(user)
        try:
            said = str(act())
        except InputError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("content", [b"no database", b"x" * 5000, b"{}\n" * 300])
def test_a_file_that_is_no_database_is_left_alone(path, content):
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(InputError, match="is no database: name another file"):
            SqliteStore(str(path), read_only=read_only).connect()
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_left_alone(path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE atoms (id INTEGER)")
    other.close()
    for read_only in (True, False):
        with pytest.raises(InputError, match="no store of definet_flows"):
            SqliteStore(str(path), read_only=read_only).connect()


def test_newer_format(path):
    fill(path, 1)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(InputError, match=r"format 99.*update"):
        SqliteStore(str(path)).connect()


# ------------------------------------------------------------------ damage


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x01
    path.write_bytes(content)


def test_a_damaged_document_is_named_and_the_rest_is_readable(path, monkeypatch):
    monkeypatch.setattr(database, "_SMALL", 0)
    fill(path, 50)
    flip(path, path.read_bytes().index(b'"value":31') + 8)
    with SqliteStore(str(path)) as store:
        with pytest.warns(UserWarning, match="document r31 is damaged and left out"):
            assert len(list(store.query())) == 49
        with pytest.raises(InputError, match="document r31"):
            store.verify()
        with pytest.raises(InputError, match="r31 is not what was written"):
            store.replace_if({"id": "r31", "value": 1}, {"value": 31})
        store.update({"id": "r31", "value": 310})
        assert store.query_one({"id": "r31"})["value"] == 310


@pytest.mark.parametrize("seed", range(2))
def test_no_flipped_bit_is_taken_for_what_was_written(path, seed):
    """Whatever is flipped: the documents are those that were written, or an error or a warning says so."""
    fill(path, 60)
    whole, right = path.read_bytes(), contents(path)
    chance = random.Random(seed)  # noqa: S311 - seeded on purpose
    written = [k for k, byte in enumerate(whole) if byte]  # most of a page is empty
    told = 0
    for _ in range(25):
        database._CHECKED.clear()
        path.write_bytes(whole)
        flip(path, chance.choice(written))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = read_twice(path, right)
            except InputError as error:
                said.append(error)
        told += bool(said)
        assert said or found == [right, right]
    assert told


def read_twice(path, right):
    """Return all documents, read at once and each by its id."""
    with SqliteStore(str(path), read_only=True) as store:
        return [{doc["id"]: doc for doc in store.query()}, {name: store.query_one({"id": name}) for name in right}]


@pytest.mark.parametrize("doc", [{"$date": "x"}, {"a": [{"$oid": "x"}]}, {"a": {"$date": 5}}, {"a": 2**70}])
def test_what_could_not_be_read_back_is_refused(path, doc):
    fill(path, 1)
    with SqliteStore(str(path)) as store:
        with pytest.raises(InputError, match="cannot be stored"):
            store.update([{"id": "good"}, {"id": "bad", **doc}])
        assert store.distinct("id") == ["r0"]


@pytest.mark.parametrize("how", ["removed", "replaced by another", "log removed"])
def test_a_file_that_is_gone_takes_no_writes(path, tmp_path, how):
    fill(path, 2)
    with SqliteStore(str(path)) as store:
        store.update({"id": "seen"})
        if how == "log removed":
            Path(f"{path}-wal").unlink()
        elif how == "removed":
            path.unlink()
        else:
            fill(tmp_path / "other.sqlite", 1)
            (tmp_path / "other.sqlite").replace(path)
        with pytest.raises(InputError, match=how.removeprefix("log ")):
            store.update({"id": "lost"})
        with pytest.raises(InputError, match="run the same again"):
            store.remove_docs({})


# ------------------------------------------------------------------ several at once


def test_four_processes_write_and_all_wait_for_their_turn(path):
    began = time.perf_counter()
    writers = [FORK.Process(target=write_one_by_one, args=(path, k)) for k in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    print(f"{200 / (time.perf_counter() - began):.0f} acknowledged records a second")
    assert [one.exitcode for one in writers] == [0] * 4
    assert len(contents(path)) == 200


def write_one_by_one(path, name):
    with SqliteStore(str(path)) as store:
        for k in range(50):
            store.update({"id": f"{name} {k}", "table": [[1.234567, 2.345678, k / 7]] * 500})


def test_a_writer_waits_for_its_turn_and_says_so_when_it_was_too_long(path, monkeypatch):
    fill(path, 1)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with SqliteStore(str(path)) as store:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        release.start()
        store.update({"id": "later"})
        release.join()
        assert store.count() == 2
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(InputError, match="being written by another process"), SqliteStore(str(path)) as store:
        store.update({"id": "never"})
    other.execute("COMMIT")
    other.close()
    assert set(contents(path)) == {"r0", "later"}


def test_readers_read_while_another_writes(path):
    with SqliteStore(str(path)) as writer, SqliteStore(str(path), read_only=True) as reader:
        writer.update([{"id": "a"}, {"id": "b"}])
        assert reader.count() == 2
        found = reader.query()
        assert next(found)["id"] == "a"
        writer.update({"id": "c"})
        writer.remove_docs({"id": "b"})
        assert [doc["id"] for doc in found] == []
        assert reader.count() == 2
        for refused in (lambda: reader.update({"id": "d"}), lambda: reader.remove_docs({})):
            with pytest.raises(InputError, match="read-only"):
                refused()


def test_threads_of_one_process(path):
    with SqliteStore(str(path)) as store, SqliteStore(str(path)) as other:
        barrier = threading.Barrier(8)

        def write(k):
            barrier.wait()
            for n in range(10):
                (store, other)[k % 2].update([{"id": f"own {k} {n}"}, {"id": "common", "by": k}])
                store.count({"id": "common"})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    assert len(contents(path)) == 81


def test_a_child_process_does_not_use_the_connection_of_its_parent(path):
    fill(path, 1)
    with SqliteStore(str(path)) as store:
        child = os.fork()
        if not child:
            try:
                store.update({"id": "child"})
            except RuntimeError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        store.update({"id": "parent"})
    assert set(contents(path)) == {"r0", "parent"}


def test_a_reader_waits_while_another_process_makes_the_store(tmp_path):
    path = tmp_path / "records.sqlite"
    path.touch()  # SQLite makes the file before the tables are in it

    def make() -> None:
        time.sleep(0.5)
        SqliteStore(str(path)).connect()

    maker = threading.Thread(target=make)
    maker.start()
    reader = SqliteStore(str(path), read_only=True)
    reader.connect()
    assert reader.count() == 0
    reader.close()
    maker.join()
