"""Pages of ledgers in a MongoDB say what the documents say, and are never half of it."""

from __future__ import annotations

import json

import pytest
from maggma.stores import MemoryStore
from store_fixtures import SETTINGS, prediction, record

from definet_flows.errors import InputError, LeftOutWarning
from definet_flows.schemas import dump
from definet_flows.stores import Filter, Records, open_store, savings, update_pairs
from definet_flows.stores.analysis import pages
from definet_flows.stores.analysis.rows import row_of

pytest_plugins = ["mongo_server"]


def put_campaign(records):
    for k in range(5):
        starts = [record(start, configuration_id=f"c{k}", steps=9 - k) for start in ("unrelaxed", "predicted")]
        records.put(*starts)
        update_pairs(records, f"c{k}", SETTINGS)
    records.put(record(configuration_id="gated", gated=True), record(configuration_id="r", status="running"))
    records.put(*(prediction(f"c{k}") for k in range(3)))


def test_a_row_has_every_field_at_its_place():
    row = row_of("record", dump(record("predicted", steps=7, costs=(70, 3.5))))
    told = (row.host, row.n_sites, row.name, row.gate, row.ionic_steps, row.electronic_steps, row.core_hours)
    assert told == ("MoS2", 27, "v_S", "accepted", 7, 70, 3.5)
    assert row_of("record", dump(record(charge=-2))).charge == -2
    assert (row.start, row.status, row.converged, row.energy, row.max_force) == ("predicted", "done", True, -100, 0.009)


def test_a_record_that_lacks_what_every_row_needs_is_named():
    broken = dump(record())
    del broken["engine"]
    with pytest.raises(InputError, match=r"document \w+: engine: missing"):
        row_of("record", broken)


def test_a_row_of_another_format_is_refused():
    row = row_of("record", dump(record()))
    assert pages.decode("record", [pages.encode(row)]) == ([row], [])
    newer = json.dumps([99, *json.loads(pages.encode(row))[1:]])
    with pytest.raises(InputError, match=r"ledger of \w+ has format 99.*update definet_flows"):
        pages.decode("record", [pages.encode(row), newer])


def test_a_row_with_an_impossible_value_is_named_and_the_rest_is_read():
    good = row_of("record", dump(record(configuration_id="[1,", steps=7)))
    bad = good._replace(id="bad", ionic_steps=-7)
    rows, faults = pages.decode("record", [pages.encode(row) for row in (good, bad, good)])
    assert rows == [good, good]
    assert ["document bad: ledger.ionic_steps: " in str(fault) for fault in faults] == [True]


@pytest.mark.parametrize("text", ["", "7", "[]", "[1]", "{}", '["x", "y"]', "{0},{0}"])
def test_what_is_no_row_is_refused(text):
    whole = pages.encode(row_of("record", dump(record())))
    with pytest.raises(InputError, match="row of the record store is broken"):
        pages.decode("record", [whole, text.replace("{0}", whole)])


def test_faults_in_several_batches_are_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr("definet_flows.stores.backends.projection._CHUNK", 1)
    with open_store(tmp_path / "records.sqlite") as records:
        put_campaign(records)
        for k in range(3):
            raw = dump(record(configuration_id=f"c{k}"))
            records.store.update({**raw, "ledger": {**raw["ledger"], "ionic_steps": -7}})
        with pytest.warns(LeftOutWarning, match="3 left out: ") as caught:
            assert len(records.record_rows()) == 12 - 3
        assert len(caught) == 1


def test_a_file_of_another_version_is_read_and_made_fast_again(tmp_path):
    with open_store(tmp_path / "records.sqlite") as records:
        put_campaign(records)
        before = sorted(records.record_rows())
        database = records.store.database
        with database.writing():
            database.run("UPDATE rows SET projection = 'record 1 1' WHERE projection LIKE 'record %'")
            database.run("UPDATE projections SET name = 'record 1 1' WHERE kind = 'record'")
    with open_store(tmp_path / "records.sqlite") as records:
        assert not records.complete
        assert sorted(records.record_rows()) == before
        records.rebuild_pages()
        assert records.complete
        assert sorted(records.record_rows()) == before


def test_any_other_store_has_no_pages():
    with Records(MemoryStore(key="id")) as records:
        put_campaign(records)
        assert records.complete
        assert records.rebuild_pages() == 0
        assert records.store.count({"kind": "page"}) == 0


@pytest.mark.mongo
class TestMongo:
    @pytest.fixture
    def records(self, mongo_server):
        with Records(mongo_server.store()) as opened:
            put_campaign(opened)
            yield opened

    @pytest.mark.parametrize(
        "where",
        [
            {},
            {"configuration_ids": ("c1", "r")},
            {"host": "BN"},
            {"weights": "a" * 64},
            {"n_defects": 1, "n_sites": 27},
            {"charge": 0},
            {"charge": 1},
            {"weights": ("a" * 64, "b" * 64)},
        ],
    )
    def test_pages_and_documents_agree(self, records, where, monkeypatch):
        chosen = Filter(**where)
        reads = (
            records.record_rows,
            records.pair_rows,
            lambda where: records.prediction_rows(where.weights, where.configuration_ids),
        )
        from_pages = [sorted(read(chosen)) for read in reads]
        monkeypatch.setattr(Records, "_pages", lambda *_: None)
        assert from_pages == [sorted(read(chosen)) for read in reads]

    def test_no_record_is_read_for_a_query(self, records, monkeypatch):
        asked = []
        query = records.store.query
        monkeypatch.setattr(
            records.store, "query", lambda *a, **k: asked.append((a[0], k.get("limit"))) or query(*a, **k)
        )
        assert savings(records).same_minimum == 5
        kinds = {criteria.get("kind", "pages") for criteria, _ in asked}
        assert kinds == {"page", "pages", "host", "prerelaxer", "record"}
        (limit,) = [limit for criteria, limit in asked if criteria.get("kind") == "record"]
        assert limit <= 20  # the base is read off a few, once for each host and settings

    def test_record_and_row_go_in_one_command(self, records, monkeypatch):
        sent = []
        collection = records.store._collection
        write = type(collection).bulk_write
        monkeypatch.setattr(
            type(collection), "bulk_write", lambda *a: sent.append([type(o) for o in a[1]]) or write(*a)
        )
        records.put(record(configuration_id="new"))
        assert [[kind.__name__ for kind in kinds] for kinds in sent] == [["ReplaceOne", "UpdateOne"]]

    def test_documents_that_came_in_otherwise_are_read_until_the_pages_are_made(self, mongo_server, records):
        with Records(mongo_server.store()) as copy:
            copy.store.update(
                list(records.store.query({"kind": {"$in": ["record", "pair", "prediction"]}}, {"_id": 0}))
            )
            copy.put(record(configuration_id="later"))
            assert not copy.complete
            before = sorted(copy.record_rows())
            assert len(before) == 13
            assert copy.rebuild_pages() == 13 + 5 + 3
            assert copy.complete
            assert sorted(copy.record_rows()) == before

    def test_rebuilding_forgets_what_was_removed(self, records):
        records.store.remove_docs({"configuration_id": "c0"})
        records.rebuild_pages()
        assert {row.configuration_id for row in records.record_rows()} == {"c1", "c2", "c3", "c4", "gated", "r"}
        assert len(records.pair_rows()) == 4

    def test_a_changed_record_has_one_row(self, records):
        records.put(record(configuration_id="r", steps=3))
        assert [row.status for row in records.record_rows(Filter(configuration_ids=("r",)))] == ["done"]
