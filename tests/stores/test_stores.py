"""What every record store has to do: the same tests over a SQLite file and over MongoDB on a real socket."""

from __future__ import annotations

import json
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import bson
import numpy as np
import pytest
from maggma.stores import MongoStore
from pymongo.errors import OperationFailure
from store_fixtures import host, prediction, record, relaxed_host

from definet_flows.errors import InputError, LeftOutWarning
from definet_flows.schemas import DefectRecord, dump
from definet_flows.stores import Filter, Records, SqliteStore, open_store, update_pairs, versions
from definet_flows.stores.versions import record_schema

pytest_plugins = ["mongo_server"]


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongo)])
def reopen(request, tmp_path):
    """Return a function that opens the same records anew each time."""
    if request.param == "sqlite":
        path = str(tmp_path / "records.sqlite")
        return lambda read_only=False: Records(SqliteStore(path, read_only=read_only), read_only=read_only)
    spec = request.getfixturevalue("mongo_server").spec()
    arguments = {key: value for key, value in spec.items() if not key.startswith("@")}
    return lambda read_only=False: Records(MongoStore(**arguments), read_only=read_only)


class TestAnyStore:
    """Conformance: nothing here knows which store it is."""

    def test_documents_come_back_as_they_were(self, reopen):
        documents = record(), prediction(), relaxed_host()
        with reopen() as records:
            records.put(*documents)
        with reopen(read_only=True) as records:
            for document, read in zip(documents, (records.record, records.prediction, records.host), strict=True):
                assert dump(read(document.id)) == dump(document)
            assert records.record("0" * 32) is None
            assert records.prediction(documents[0].id) is None  # kinds do not mix

    def test_upsert_by_identity(self, reopen):
        with reopen() as records:
            records.put(record(status="running"))
            assert not records.has_done(record().id)
            records.put(record(steps=3))
            records.put(record(steps=5))
            assert records.has_done(record().id)
            assert [found.ledger.ionic_steps for found in records.records()] == [5]

    def test_removal_lasts(self, reopen):
        with reopen() as records:
            records.put(record(), record("predicted"), prediction())
            records.store.remove_docs({"kind": "record", "start": "predicted"})
        with reopen() as records:
            assert [found.start for found in records.records()] == ["unrelaxed"]
            records.put(record("predicted"))
            assert records.store.count({"kind": "record"}) == 2

    def test_queries_are_maggmas(self, reopen):
        with reopen() as records:
            records.put(*(record(configuration_id=f"c{i}", steps=i) for i in range(5)))
            store = records.store
            assert store.count({"kind": "record"}) == 5
            assert sorted(store.distinct("configuration_id", {"kind": "record"})) == [f"c{i}" for i in range(5)]
            assert [len(docs) for _, docs in store.groupby("engine", {"kind": "record"}, ["id"])] == [5]
            wanted = {"kind": "record"}
            steps = [
                doc["ledger"]["ionic_steps"] for doc in store.query(wanted, sort={"ledger.ionic_steps": -1}, limit=2)
            ]
            assert steps == [4, 3]

    def test_filters(self, reopen):
        with reopen() as records:
            records.put(record(), record("predicted"), record(configuration_id="other", defects=("v_S", "W_Mo")))
            names = {"v_S": 2, "v_S+W_Mo": 1, "v_Mo": 0}
            assert {name: len(list(records.ledgers(Filter(name=name)))) for name in names} == names
            assert len(list(records.ledgers(Filter(configuration_ids=("other",), host="MoS2", n_sites=27)))) == 1
            assert len(list(records.ledgers(Filter(weights=record("predicted").prediction.weights)))) == 1

    def test_a_second_document_with_the_same_id_is_impossible(self, reopen):
        with reopen() as records:
            records.put(record())
            with pytest.raises(OperationFailure, match=r"11000|another document"):
                records.store.update({"id": record().id, "other": 1}, key="other")
            assert records.store.count({"kind": "record"}) == 1

    def test_two_that_finish_together(self, reopen):
        """Threads upsert the same and different ids at once: one document each, and one pair."""
        starts = record(), record("predicted", steps=4)
        with reopen() as records:
            barrier = threading.Barrier(8)

            def finish(k: int) -> None:
                barrier.wait()
                records.put(starts[k % 2])
                records.put(record(configuration_id=f"own {k}"))
                update_pairs(records, starts[0].configuration_id, starts[0].settings_hash)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(finish, range(8)))
            assert records.store.count({"kind": "record"}) == 2 + 8
            assert [pair.steps_predicted for pair in records.pairs()] == [4]

    def test_newer_version_is_refused(self, reopen):
        with reopen() as records:
            records.put(record())
            records.store.update({**dump(record("predicted")), "schema_version": 99})
            with pytest.raises(InputError, match=r"schema version 99.*update definet_flows"):
                list(records.ledgers())

    def test_old_versions_are_upgraded_step_by_step(self, reopen, monkeypatch):
        def add_engine(raw):
            return {**raw, "engine": "vasp"}

        def rename(raw):
            return {("start" if key == "begin" else key): value for key, value in raw.items()}

        monkeypatch.setattr(versions, "UPGRADES", {-1: add_engine, 0: rename})
        old = dump(record())
        old["begin"] = old.pop("start")
        old.pop("engine")
        with reopen() as records:
            records.store.update({**old, "schema_version": -1})
            assert records.record(record().id).engine == "vasp"
            records.store.update({**old, "schema_version": -2})
            with pytest.raises(InputError, match="too old"):
                records.record(record().id)

    def test_foreign_document_is_named(self, reopen):
        with reopen() as records:
            records.store.update({"id": "x1", "kind": "record", "schema_version": 1})
            with pytest.warns(LeftOutWarning, match=r"document x1: configuration_id"):
                assert not list(records.records())

    def test_read_only_writes_nothing(self, reopen):
        with reopen() as records:
            records.put(record())
        with reopen(read_only=True) as records:
            with pytest.raises(InputError, match="read-only"):
                records.put(record("predicted"))
            assert records.store.count({"kind": "record"}) == 1

    def test_index_before_the_first_write(self, reopen):
        with reopen() as records:
            order = []
            ensure, update = records.store.ensure_index, records._update
            records.store.ensure_index = lambda *a, **k: order.append(f"index {a[0]}") or ensure(*a, **k)
            records._update = lambda *a: order.append("update") or update(*a)
            records.put(record())
            assert order[0] == "index id"
            assert order[-1] == "update"


def test_record_of_192_sites_is_small():
    """Three coordinate tables included, in what MongoDB stores and in what a SQLite file stores."""
    moved = np.random.default_rng(0).normal(scale=0.1, size=(192, 3))
    big = dump(record("predicted", size=8, defects=("v_S", "W_Mo"), move=moved))
    assert host(8).n_sites == 192
    assert len(bson.encode(big)) <= 30_000
    assert len(json.dumps(big)) <= 30_000
    assert len(json.dumps(big["ledger"])) < 2_000


def test_ledgers_are_read_without_structures(tmp_path):
    with Records(SqliteStore(str(tmp_path / "r.sqlite"))) as records:
        records.put(record("predicted", size=8))
        asked = []
        peek = records.store.query
        records.store.query = lambda *a, **k: asked.extend(peek(*a, **k)) or iter(asked)
        assert next(records.ledgers()).steps == 20
        assert len(json.dumps(asked[0])) < 2_000


def test_schema_is_published():
    schema = record_schema()
    assert set(DefectRecord.model_fields) == set(schema["properties"])
    assert schema["$defs"]["SiteMap"]["properties"]["unrelaxed"]["items"] == {"type": "integer"}


class TestOpenStore:
    @pytest.fixture(autouse=True)
    def _own_settings(self, tmp_path, monkeypatch):
        self.config = tmp_path / "settings.yaml"
        monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(self.config))
        monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))

    def _configure(self, **stores):
        self.config.write_text(json.dumps({"record_stores": stores}))

    def test_default_is_the_local_file(self, tmp_path):
        with open_store() as records:
            records.put(record())
        assert (tmp_path / "data" / "records.sqlite").exists()
        with open_store("local", read_only=True) as records:
            assert records.has_done(record().id)

    def test_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with open_store("mine.sqlite") as records:
            records.put(record())
        assert (tmp_path / "mine.sqlite").exists()

    def test_named(self, tmp_path):
        spec = {"@module": "definet_flows.stores", "@class": "SqliteStore", "path": str(tmp_path / "n.jsonl")}
        self._configure(cluster=spec)
        with open_store("cluster") as records:
            records.put(record())
        assert (tmp_path / "n.jsonl.sqlite").exists()

    def test_unknown_name_lists_the_known(self):
        self._configure(cluster={"@module": "maggma.stores", "@class": "MemoryStore"})
        with pytest.raises(InputError, match=r"'clutser'.*cluster, local"):
            open_store("clutser")

    @pytest.mark.parametrize(
        "spec",
        [
            {"host": "nowhere", "password": "s3cret"},
            {"@module": "maggma.stores", "@class": "NoSuchStore", "password": "s3cret"},
            {"@module": "maggma.stores", "@class": "MongoStore", "password": "s3cret"},
            {"@module": "maggma.stores", "@class": "MongoStore", "uri": "mongo://u:s3cret@h", "collection_name": "c"},
        ],
    )
    def test_bad_settings_do_not_leak(self, spec):
        self._configure(cluster=spec)
        with pytest.raises(InputError, match="'cluster'") as caught:
            open_store("cluster")
        assert "s3cret" not in "".join(traceback.format_exception(caught.value, limit=0))

    def test_nothing_there_to_read(self, tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            open_store(str(tmp_path / "absent.jsonl"), read_only=True)
        assert list(tmp_path.iterdir()) == []

    def test_unreachable(self):
        self._configure(
            gone={
                "@module": "maggma.stores",
                "@class": "MongoStore",
                "uri": "mongodb://me:s3cret@127.0.0.1:1/db",
                "database": "db",
                "collection_name": "c",
                "mongoclient_kwargs": {"serverSelectionTimeoutMS": 200},
            }
        )
        with pytest.raises(InputError, match="'gone' is not reachable") as caught:
            open_store("gone")
        assert "s3cret" not in str(caught.value)


@pytest.mark.mongo
class TestMongo:
    def test_wrong_credentials(self, mongo_server):
        if not mongo_server.users:
            pytest.skip("MONGODB_URI brings its own user")
        with pytest.raises(InputError, match="refuses this user") as caught:
            Records(mongo_server.store(password="wr0ng"), name="cluster")  # noqa: S106 - wrong on purpose
        assert "wr0ng" not in str(caught.value)

    def test_read_only_user(self, mongo_server):
        if not mongo_server.users:
            pytest.skip("MONGODB_URI brings its own user")
        with (
            Records(mongo_server.store(username="reader"), name="cluster") as records,
            pytest.raises(InputError, match="permissions"),
        ):
            records.put(record())

    def test_oversized_document_is_not_dropped_in_silence(self, mongo_server):
        with Records(mongo_server.store(safe_update=True), name="cluster") as records:
            with pytest.raises(InputError, match="16 MB"):
                records.put(record().model_copy(update={"error": "x" * 17_000_000}))
            assert records.store.count({"kind": "record"}) == 0
            assert records.record_rows() == []

    def test_no_password_in_what_is_shown(self, mongo_server):
        with Records(mongo_server.store(), name="cluster") as records:
            assert repr(records) == "Records('cluster')"
