"""Journals of earlier versions: read once, written no more, nothing of them lost."""

from __future__ import annotations

import datetime as dt

import pytest
from journal_lines import header, line, put
from monty.json import MontyDecoder

from definet_flows.errors import InputError
from definet_flows.stores import JournalStore, SqliteStore, open_store
from definet_flows.workflows.campaign.local import folder_store, run_folders

WHEN = dt.datetime(2025, 1, 2, 3, 4, 5, 678000)  # noqa: DTZ001 - maggma's are naive UTC


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "records.jsonl"
    docs = [{"id": f"r{k}", "value": k, "last_updated": WHEN} for k in range(4)]
    gone = put({"id": "gone"}) + line(drop=["_gone"])
    path.write_bytes(header() + line(unique="id") + put(*docs) + gone + put({"id": "r1", "value": 10}))
    return path


def contents(path, **options):
    with SqliteStore(str(path), **options) as store:
        return {doc["id"]: doc.get("value") for doc in store.query()}


RIGHT = {"r0": 0, "r1": 10, "r2": 2, "r3": 3}


def test_a_journal_is_read_once_and_stays_as_it_is(journal):
    before = journal.read_bytes()
    assert contents(journal) == RIGHT
    with SqliteStore(str(journal)) as store:
        assert store.query_one({"id": "r2"})["last_updated"] == WHEN
        store.update({"id": "r2", "value": 20})
        store.remove_docs({"id": "r3"})
    assert contents(journal) == {"r0": 0, "r1": 10, "r2": 20}
    assert journal.read_bytes() == before
    assert (journal.parent / "records.jsonl.sqlite").is_file()


def test_what_an_earlier_version_adds_is_read_too_and_changes_since_are_kept(journal):
    with SqliteStore(str(journal)) as store:
        store.update([{"id": "r2", "value": 20}, {"id": "new", "value": 7}])
    with journal.open("ab") as file:
        more = [
            {"id": "r2", "value": -1},
            {"id": "r0", "value": 5},
            {"id": "new", "value": -1},
            {"id": "r9", "value": 9},
        ]
        file.write(put(*more) + line(drop=["_r3"]))
    assert contents(journal) == {"r0": 5, "r1": 10, "r2": 20, "new": 7, "r9": 9}


@pytest.mark.parametrize("read_only", [True, False])
def test_damage_is_said_and_a_write_that_was_cut_off_is_not(journal, read_only):
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    assert contents(journal, read_only=read_only) == {**RIGHT, "r1": 1}
    (journal.parent / "records.jsonl.sqlite").unlink()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]  # the last line: it was acknowledged
    for damaged in (flipped, whole.replace(b'"value":2', b'"value":7')):
        journal.write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged at byte \d+: restore it from a backup or delete that line"):
            contents(journal, read_only=read_only)


@pytest.mark.parametrize("content", [b'{"id": 1}\n', b"x" * 500, b'[{"a": 1}]'])
def test_a_file_that_is_no_journal(journal, content):
    journal.write_bytes(content)
    with pytest.raises(InputError, match="not a journal"):
        contents(journal)
    assert journal.read_bytes() == content


def test_newer_format(journal):
    journal.write_bytes(line(journal=99))
    with pytest.raises(InputError, match=r"format 99.*update definet_flows"):
        contents(journal)


def test_a_document_that_cannot_be_read_is_named_and_the_rest_is_there(journal):
    with journal.open("ab") as file:
        file.write(line(put=[{"_id": "_bad", "id": "bad", "when": {"$date": "x"}}]))
    with pytest.warns(UserWarning, match="document _bad is left out"):
        assert contents(journal) == RIGHT


def test_the_names_of_earlier_settings_go_on_working(journal, tmp_path):
    for module in ("definet_flows.stores", "definet_flows.stores.backends.journal_store"):
        spec = {"@module": module, "@class": "JournalStore", "path": str(tmp_path / "jobs.jsonl"), "key": "uuid"}
        store = MontyDecoder().process_decoded(spec)
        with store:
            store.update([{"uuid": "a", "index": i} for i in (1, 2)], key=["uuid", "index"])
            assert store.count() == 2
        assert MontyDecoder().process_decoded(store.as_dict()) == store
    assert isinstance(JournalStore(str(journal)), SqliteStore)


@pytest.mark.usefixtures("journal")
def test_the_default_store_takes_in_the_default_journal(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path))
    with open_store(read_only=True) as records:
        assert records.store.count() == 4
        assert records.location == str(tmp_path / "records.sqlite")


def test_runs_of_earlier_versions_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path))
    folder = tmp_path / "runs" / "2025"
    folder.mkdir(parents=True)
    docs = [{"_id": str(i), "uuid": "a", "index": i, "output": i} for i in (1, 2)]
    (folder / "jobs.jsonl").write_bytes(header() + line(put=docs))
    assert run_folders() == [folder]
    store = folder_store(folder, read_only=True)
    store.connect()
    assert store.get_output("a", which="last") == 2
    store.close()
