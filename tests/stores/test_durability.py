"""A record store that does not keep what is written is refused before anything is written to it."""

from __future__ import annotations

import json

import mongomock_ng as mongomock
import pytest
from flow_helpers import CU
from kept_store import Kept
from maggma.stores import MemoryStore, MongoStore
from store_fixtures import record

from definet_flows.errors import InputError
from definet_flows.stores import durability, open_store
from definet_flows.workflows.campaign.preflight import preflight

pytest_plugins = ["flow_fixtures", "mongo_server"]
MAGGMA = "maggma.stores"
MEMORY = {"@module": MAGGMA, "@class": "MemoryStore"}


class Forgets(MemoryStore):
    """Stand for a store of another package that keeps nothing, and does not say so."""


class Mocked(MongoStore):
    """Stand for a MongoDB that is a mongomock."""

    def connect(self, *_, **__):
        self._coll = mongomock.MongoClient().db["records"]


class Monty(MemoryStore):
    """Stand for a MontyStore in memory: each connection sees the same documents, and they end with the process."""

    shared = mongomock.MongoClient().db["monty"]
    database_path = ":memory:"

    def connect(self, *_, **__):
        self._coll = self.shared


@pytest.fixture
def configure(workplace, monkeypatch):
    monkeypatch.setattr(durability, "_PROVED", set())
    config = workplace / "settings.json"
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(config))

    def write(spec):
        config.write_text(json.dumps({"record_store": "mine", "record_stores": {"mine": spec}}))

    return write


def json_store(**more):
    return {"@module": MAGGMA, "@class": "JSONStore", "paths": ["records.json"], **more}


def own(kind, **more):
    return {"@module": kind.__module__, "@class": kind.__name__, **more}


REFUSED = {
    "memory": (MEMORY, "memory only"),
    "JSON": (json_store(), "read_only: false"),
    "JSON, old spelling": (json_store(file_writable=False), "read_only: false"),
    "monty": (own(Monty), "memory only"),
    "mongomock": (own(Mocked, database="db", collection_name="c"), "memory only"),
    "silent": (own(Forgets), "does not keep what is written"),
    "concatenated": ({"@module": MAGGMA, "@class": "ConcatStore", "stores": [MEMORY, MEMORY]}, "memory only"),
    "aliased": ({"@module": MAGGMA, "@class": "AliasingStore", "store": MEMORY, "aliases": {}}, "memory only"),
    "aliased JSON": (
        {"@module": MAGGMA, "@class": "AliasingStore", "store": json_store(), "aliases": {}},
        "read_only: false",
    ),
    "two files": (
        {"@module": MAGGMA, "@class": "ConcatStore", "stores": [json_store(read_only=False), own(Kept)]},
        "takes no documents",
    ),
}


@pytest.mark.filterwarnings("ignore:file_writable is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Received conflicting keyword arguments:UserWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_last_is_refused_for_writing(case, configure, workplace):
    spec, reason = REFUSED[case]
    (workplace / "records.json").write_text("[]")
    configure(spec)
    for _ in range(2):  # it is not taken for tried the second time
        with pytest.raises(InputError, match=f"'mine'.*{reason}") as error:
            open_store()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", [json_store(read_only=False), own(Kept)])
def test_what_lasts_is_taken_and_left_as_it_was(spec, configure):
    configure(spec)
    with open_store() as records:
        assert records.store.count() == 0
        records.put(record())
    with open_store(read_only=True) as records:
        assert records.record(record().id) is not None


def test_a_store_is_tried_once_in_a_process(configure, monkeypatch):
    configure(own(Kept))
    tried = []
    monkeypatch.setattr(durability, "_reads_back", lambda *_: tried.append(1) or True)
    for _ in range(3):
        with open_store():
            pass
    assert tried == [1]
    configure(own(Kept, path="other.json"))
    with open_store():
        pass
    assert tried == [1, 1]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("damage", [lambda text: text[:-40], lambda _: "", lambda _: '["a"]'])
def test_a_damaged_json_file_is_refused_and_stays(damage, writable, read_only, configure, workplace):
    configure(json_store(read_only=False))
    with open_store() as records:
        records.put(record())
    path = workplace / "records.json"
    content = damage(path.read_text())
    path.write_text(content)
    configure(json_store(read_only=not writable))
    reason = "read_only: false" if not (read_only or writable) else "records.json is damaged"
    with pytest.raises(InputError, match=reason):
        open_store(read_only=read_only)
    assert path.read_text() == content


def test_reading_a_json_file_does_not_write_it(configure, workplace):
    configure(json_store(read_only=False))
    with open_store() as records:
        records.put(record())
    path = workplace / "records.json"
    path.chmod(0o444)
    before = path.stat().st_mtime_ns
    with open_store(read_only=True) as records:
        assert records.record(record().id) is not None
    assert path.stat().st_mtime_ns == before
    path.unlink()
    with pytest.raises(InputError, match=r"no file records\.json to read"):
        open_store(read_only=True)
    assert not path.exists()


@pytest.mark.parametrize("case", ["memory", "JSON", "silent"])
def test_check_says_it(case, configure, workplace, maker):
    spec, reason = REFUSED[case]
    (workplace / "records.json").write_text("[]")
    configure(spec)
    maker.store = None
    (line,) = [line for line in preflight(maker, CU) if line.subject == "records"]
    assert line.level == "fail"
    assert reason in line.text


@pytest.mark.mongo
def test_a_mongodb_is_taken_and_its_reader_is_not(configure, mongo_server):
    configure(mongo_server.spec())
    with open_store() as records:
        assert records.store.count() == 0
    if not mongo_server.users:
        pytest.skip("MONGODB_URI brings its own user")
    configure(mongo_server.spec(user="reader"))
    with pytest.raises(InputError, match="'mine' refuses this user") as error:
        open_store()
    assert "pa55" not in str(error.value)
    with open_store(read_only=True) as records:
        assert records.record_rows() == []
