"""The SQLite file asked as maggma and jobflow ask: MongoDB's filters, orders, projections, keys and indexes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from bson import ObjectId
from jobflow import Flow, job, run_locally
from jobflow.settings import JobflowSettings
from maggma.stores import MemoryStore
from monty.json import MontyDecoder
from monty.serialization import loadfn
from pymongo.errors import DuplicateKeyError

from definet_flows.stores import SqliteStore
from definet_flows.stores.backends import matching
from definet_flows.stores.backends.projection import Projection, keep, kept

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.sqlite"


DOCS = [
    {"id": "a", "n": 1, "deep": {"x": 5, "list": [{"y": 1}, {"y": 2}]}, "tags": ["red", "blue"], "name": "v_S"},
    {"id": "b", "n": 2.0, "deep": {"x": None}, "tags": "red", "name": "v_Mo"},
    {"id": "c", "n": True, "deep": 7, "tags": [], "name": None},
    {"id": "d", "n": "2", "name": "W_Mo", "when": dt.datetime(2025, 1, 2)},  # noqa: DTZ001 - maggma's are naive UTC
    {"id": "e", "n": -1, "deep": {"x": [5, 6]}, "name": "v_S+v_S", "when": dt.datetime(2026, 1, 2)},  # noqa: DTZ001
]
CRITERIA = [
    {},
    {"id": "a"},
    {"id": {"$in": ["a", "c", "z"]}},
    {"id": {"$nin": ["a", "c"]}},
    {"n": 2},
    {"n": {"$gt": 0, "$lt": 2}},
    {"n": {"$ne": 2}},
    {"tags": "red"},
    {"tags": {"$in": ["blue", "green"]}},
    {"deep.x": 5},
    {"deep.x": None},
    {"deep.x": {"$exists": True}},
    {"deep.list.y": 2},
    {"name": {"$regex": "^v_"}},
    {"name": None},
    {"when": {"$gt": dt.datetime(2025, 6, 1)}},  # noqa: DTZ001
    {"when": dt.datetime(2025, 1, 2)},  # noqa: DTZ001
    {"$or": [{"n": 1}, {"name": "v_Mo"}]},
    {"$and": [{"tags": "red"}, {"id": "b"}]},
    {"tags": "red", "id": "a"},
    {"deep": {"$type": "object"}, "tags": {"$size": 2}},
    {"id": {"$eq": "b"}},
    {"n": {"$in": [True, -1]}},
    {"id": {"$in": ["a", "b", "e"]}, "tags": "red"},
    {"name": {"$in": ["v_S", "v_Mo"]}, "n": {"$in": [1, 2]}},
    {"deep.x": {"$in": ["5", "none"]}},
]


@pytest.mark.parametrize("indexed", [(), ("n", "tags", "deep.x", "deep.list.y", "name", "when")])
def test_filters_mean_what_they_mean_in_mongodb(path, indexed):
    memory = MemoryStore(key="id")
    memory.connect()
    memory.update(DOCS)
    with SqliteStore(str(path)) as store:
        store.update(DOCS[:2])
        for field in indexed:
            assert store.ensure_index(field)
        store.update(DOCS[2:])
        for criteria in CRITERIA:
            right = {doc["id"] for doc in memory.query(criteria)}
            assert {doc["id"] for doc in store.query(criteria)} == right, criteria
            assert store.count(criteria) == len(right)
        assert sorted(store.distinct("tags")) == sorted(memory._collection.distinct("tags"))
        assert store.distinct("n", {"id": {"$in": ["a", "d"]}}) == [1, "2"]


@pytest.mark.parametrize(
    "properties",
    [["id", "deep.x"], {"deep": 1, "_id": 0}, {"deep": 0, "_id": 0}, ["deep.list.y"], {"_id": 0}, ["absent"]],
)
def test_projections_and_orders(path, properties):
    memory = MemoryStore(key="id")
    memory.connect()
    memory.update(DOCS)
    with SqliteStore(str(path)) as store:
        store.update(DOCS)
        for sort, skip, limit in (({"n": 1, "id": -1}, 0, 0), ({"when": -1, "id": 1}, 1, 3)):
            right = [doc["id"] for doc in memory.query({}, sort=sort, skip=skip, limit=limit)]
            assert [doc["id"] for doc in store.query({}, sort=sort, skip=skip, limit=limit)] == right
        right = [{k: v for k, v in doc.items() if k != "_id"} for doc in memory.query({}, properties, sort={"id": 1})]
        assert list(store.query({}, properties, sort={"id": 1})) == right
        groups = {common["tags"]: len(docs) for common, docs in store.groupby("tags", {"id": "b"}, ["n"])}
        assert groups == {"red": 1}


def test_values_that_json_does_not_know(path):
    values = {
        "id": "x",
        "time": dt.datetime(2025, 1, 2, 3, 4, 5, 678912),  # noqa: DTZ001 - maggma's are naive UTC
        "zone": dt.datetime(2025, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "deep": [{"time": dt.datetime(2025, 1, 2)}],  # noqa: DTZ001
        "bytes": b"\x00\xff",
        "oid": ObjectId("507f1f77bcf86cd799439011"),
        "nan": float("nan"),
        "inf": [-float("inf")],
        "big": 2**60,
        "text": 'a "$date" in a text\n',
        "pair": (1, 2),
    }
    with SqliteStore(str(path)) as store:
        store.update(values)
        found = store.query_one({"id": "x"})
    assert found["nan"] != found["nan"]
    right = {**values, "time": dt.datetime(2025, 1, 2, 3, 4, 5, 678000), "pair": [1, 2]}  # noqa: DTZ001
    right["zone"] = dt.datetime(2025, 1, 1, 22)  # noqa: DTZ001
    assert {**found, "nan": 0} == {**right, "nan": 0}


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


@pytest.mark.parametrize("value", ["a\0b", "a\0", 'q"uote', "Å ", "", 7, 1.5, None, ["x"], {"y": 1}])
def test_whatever_identifies_a_document_it_is_there_once(path, value):
    with SqliteStore(str(path)) as store:
        store.ensure_index("kind")
        for n in (1, 2):
            store.update([{"id": value, "n": n}, {"id": "other", "n": 0}])
        assert [doc["n"] for doc in store.query({"id": {"$eq": value}})] == [2]
        assert store.count() == 2


def test_unique_index_lasts(path):
    with SqliteStore(str(path)) as store:
        store.update([{"id": f"r{k}", "value": k} for k in range(3)])
        store.update({"id": "z", "value": 2})
        assert not store.ensure_index("value", unique=True)
        store.remove_docs({"id": "z"})
        assert store.ensure_index("value", unique=True)
        assert store.ensure_index("anything")
    with SqliteStore(str(path)) as store:
        with pytest.raises(DuplicateKeyError):
            store.update([{"id": "y", "value": 77}, {"id": "z", "value": 2}])
        assert store.count() == 3
        store.update({"id": "z", "value": 3})
        assert store.count() == 4


def test_replace_if(path):
    with SqliteStore(str(path)) as store:
        assert not store.replace_if({"id": "a", "n": 1}, {"n": 0})
        assert store.replace_if({"id": "a", "n": 1}, None)
        assert not store.replace_if({"id": "a", "n": 9}, None)
        assert not store.replace_if({"id": "a", "n": 9}, {"n": 2})
        assert store.replace_if({"id": "a", "n": 2}, {"n": 1, "deep.x": None})
        assert store.query_one({"id": "a"}) == {"id": "a", "n": 2}


def test_rows_follow_their_documents_whoever_writes(path):
    projection = Projection("p1", kind="record", version=1, first=1, paths=("id", "a.b"), needed=1)

    def rows(store):
        return [row for batch in kept(store.database, projection) for _, row in batch]

    with SqliteStore(str(path)) as store:
        store.update([{"id": f"r{k}", "kind": "record", "schema_version": 1, "a": {"b": k}} for k in range(3)])
        keep(store.database, projection, lambda: store.found({"kind": "record"}))
        assert rows(store) == ['[1,"r0",0]', '[1,"r1",1]', '[1,"r2",2]']
    with SqliteStore(str(path)) as other:  # knows of no projection: the file does
        other.update({"id": "r1", "kind": "record", "schema_version": 1, "a": {"b": 10.5}})
        other.update({"id": "old", "kind": "record", "schema_version": 0})
        other.update({"id": "nan", "kind": "record", "schema_version": 1, "a": {"b": float("nan")}})
        other.update({"id": "pair", "kind": "pair"})
        other.remove_docs({"id": "r0"})
        assert rows(other) == ['[1,"r1",10.5]', '[1,"r2",2]', None, None]


def test_serialisation(path):
    store = SqliteStore(str(path), key="uuid", last_updated_field="completed_at", journal="old.jsonl")
    again = MontyDecoder().process_decoded(store.as_dict())
    assert again == store
    assert (again.key, again.last_updated_field, again.read_only, again.journal) == (
        "uuid",
        "completed_at",
        False,
        "old.jsonl",
    )


# ------------------------------------------------------------------ jobflow


@job(data="big")
def _produce(n):
    return {"small": n, "big": list(range(n))}


@job
def _consume(output):
    return output["small"] + len(output["big"])


@pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow's own use of monty
def test_jobflow_yaml_runs_as_it_is(tmp_path, monkeypatch):
    """The file at the root, with the home folder moved to a temporary folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(ROOT / "jobflow.yaml"))
    store = JobflowSettings().JOB_STORE
    assert type(store.docs_store) is SqliteStore
    first = _produce(4)
    second = _consume(first.output)
    run_locally(Flow([first, second]), store=store, ensure_success=True, root_dir=tmp_path, log=False)
    assert store.get_output(second.uuid) == 8
    store.close()
    files = sorted(path.name for path in tmp_path.rglob("*.sqlite*"))
    assert files == ["job_data.sqlite", "jobs.sqlite"]


def test_jobflow_yaml_holds_no_secret_and_shows_the_other_form():
    text = (ROOT / "jobflow.yaml").read_text()
    assert set(loadfn(ROOT / "jobflow.yaml")) == {"JOB_STORE"}
    assert "# " in text
    assert "MongoStore" in text
    assert "GridFSStore" in text


def test_a_document_is_not_compared_with_every_value_of_a_long_list(path, monkeypatch):
    store = SqliteStore(str(path))
    store.connect()
    ids = [f"{k:04d}" for k in range(300)]
    store.update([{"id": name, "kind": "record"} for name in ids])
    asked, matches = [], matching.matches
    monkeypatch.setattr(matching, "matches", lambda criteria, doc: asked.append(criteria) or matches(criteria, doc))
    assert store.count({"id": {"$in": ids}, "kind": "record"}) == 300
    assert asked == [{"kind": "record"}] * 300
    assert store.count({"id": {"$in": ids[:3]}}) == 3
    store.close()
