"""Documents that cannot be right are named and left out; every command shows the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from broken_store import WAYS, break_store
from report_store import filled_store, identity
from typer.testing import CliRunner

from definet_flows import open_store
from definet_flows.cli import app
from definet_flows.errors import BadDocumentError, LeftOutWarning

COMMANDS = (
    ("records",),
    ("records", "--json", "--by", "name"),
    ("records", "--by", "weights"),
    ("savings",),
    ("savings", "--json", "--by", "host"),
    ("savings", "--by", "name"),
    ("export", "costs.csv"),
    ("export", "relaxed.extxyz"),
    ("export", "relaxed.db"),
    ("export", "entries.json"),
    ("export", "folder"),
    ("report", "-o", "page.html"),
    ("explain", identity("same")),
    ("explain", identity("gated")[:8]),
    ("status",),
    ("status", "--json"),
    ("models", "list"),
    ("models", "show", "sevennet-1"),
    ("retrain", "--min-new", "100000"),
)


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))


def call(*arguments):
    result = CliRunner().invoke(app, [*arguments, "--store", "records.jsonl"], env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def not_json(text):
    raise AssertionError(text)


@pytest.mark.slow
@pytest.mark.parametrize("ways", [tuple(WAYS)[:5], tuple(WAYS)[5:10], tuple(WAYS)[10:]])
def test_every_command_bears_broken_documents(ways, tmp_path):
    assert break_store(tmp_path / "records.jsonl", ways) > 1000
    for command in COMMANDS:
        result = call(*command)
        assert result.exit_code in (0, 2), (command, result.output)
        assert "\x1b" not in result.output
        if "--json" in command and result.exit_code == 0:
            json.loads(result.stdout, parse_constant=not_json)


def spoil(identity_, **changes):
    """Add a copy of a stored document under another id, with fields changed by their dotted path."""
    with open_store("records.jsonl") as records:
        raw = dict(next(records.store.query({"id": identity_})), id=f"bad-{next(iter(changes))}")
        raw = json.loads(json.dumps({key: raw[key] for key in raw if key not in ("_id", "last_updated")}))
        for path, value in changes.items():
            *way, last = path.split("__")
            part = raw
            for key in way:
                part = part[key]
            part[last] = value
        records.store.update([raw])
    return raw["id"]


def ids():
    with open_store("records.jsonl", read_only=True) as records:
        rows = [row for row in records.record_rows() if row.configuration_id == identity("same")]
        return {row.start: row.id for row in rows}, next(
            one.id for one in records.pair_rows() if one.steps_unrelaxed == 40
        )


def saving():
    result = call("savings", "--json")
    return json.loads(result.stdout, parse_constant=not_json), " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("pair", {"steps_predicted": -20000000000000}, "steps_predicted: Input should be greater than or equal to 0"),
        ("pair", {"core_hours_predicted": float("nan")}, "core_hours_predicted: Input should be a finite number"),
        ("pair", {"steps_unrelaxed": 10**15}, "steps_unrelaxed: Input should be less than or equal to"),
        ("pair", {"verdict": "saved"}, "verdict: Input should be 'same minimum'"),
        ("predicted", {"ledger__core_hours": float("inf")}, "ledger.core_hours: Input should be a finite number"),
        ("predicted", {"ledger__wall_seconds": -1.0}, "ledger.wall_seconds: Input should be greater than"),
        ("predicted", {"status": "finished"}, "status: Input should be 'running', 'done' or 'failed'"),
        ("predicted", {"host__n_sites": None}, "host.n_sites: missing"),
        ("predicted", {"schema_version": "1"}, "schema_version: '1' is no version"),
    ],
)
def test_a_bad_document_is_named_and_changes_no_number(tmp_path, kind, changes, why):
    filled_store(tmp_path / "records.jsonl")
    before, silent = saving()
    arms, pair = ids()
    bad = spoil(pair if kind == "pair" else arms[kind], **changes)
    after, told = saving()
    assert (silent, after) == ("", before)
    assert f"warning: record store 'records.jsonl': 1 left out: document {bad}: {why}" in told


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sites__relaxed": [1, 2, 3]}, "sites.relaxed: 1 rows, 27 markers"),
        ({"sites__markers": "0" * 5}, "sites.markers: 5 rows for 27 sites"),
        ({"sites__numbers": [16]}, "sites.numbers: 1 rows, 27 markers"),
        ({"sites__permutation": [0, 0]}, "sites.permutation: its entries are not different rows of the table"),
        ({"sites__relaxed": ["x"]}, "sites.relaxed: Value error"),
        ({"sites__unrelaxed": [float("nan")] * 81}, "sites.unrelaxed: nan is not finite"),
        ({"sites__unrelaxed": [1e300] * 81}, "sites.unrelaxed: 1e+294 is more than can be"),
        ({"ledger__energy": float("-inf")}, "ledger.energy: -inf is not finite"),
        ({"ledger__attempts": [{"ionic_steps": -1}]}, "ledger.attempts.0.ionic_steps"),
        ({"host__lattice": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]}, "host.lattice: the cell has no volume"),
        ({"configuration__edits": [{"marker": 2, "site": 99, "old": 16}]}, "configuration.edits: site 99 of 27"),
        ({"configuration__edits": [{"marker": 2, "site": 1, "old": 999}]}, "configuration.edits: 999 is no atomic"),
    ],
)
def test_structures_that_cannot_be_are_left_out_of_an_export(tmp_path, changes, why):
    filled_store(tmp_path / "records.jsonl")
    arms, _ = ids()
    bad = spoil(arms["predicted"], **changes)
    result = call("export", "relaxed.extxyz")
    assert result.exit_code == 0
    assert f"1 left out: document {bad}: {why}" in " ".join(result.stderr.split())
    assert bad not in Path("relaxed.extxyz").read_text()
    assert arms["predicted"] in Path("relaxed.extxyz").read_text()


def test_each_is_named_once_in_a_command(tmp_path):
    filled_store(tmp_path / "records.jsonl")
    arms, _ = ids()
    bad = spoil(arms["predicted"], host__n_sites=-1)
    result = call("report", "-o", "page.html")  # reads ledgers, records and rows
    assert result.exit_code == 0
    assert result.stderr.count(bad) <= 2  # what a ledger and what a whole record say of it


def test_many_are_counted(tmp_path):
    filled_store(tmp_path / "records.jsonl")
    arms, _ = ids()
    for field in ("name", "engine", "start", "status", "configuration_id"):
        spoil(arms["predicted"], **{field: None})
    assert "5 left out: " in (told := " ".join(call("records").stderr.split()))
    assert "; and 2 more; remove it from the store or write it anew" in told


def test_in_python_it_is_a_warning(tmp_path):
    filled_store(tmp_path / "records.jsonl")
    arms, _ = ids()
    bad = spoil(arms["predicted"], name=7)
    with open_store("records.jsonl", read_only=True) as records:
        with pytest.warns(LeftOutWarning, match=bad):
            assert bad not in {one.id for one in records.records()}
        with pytest.raises(BadDocumentError, match=f"document {bad}: name: "):
            records.record(bad)


def test_a_newer_document_is_refused_as_ever(tmp_path):
    filled_store(tmp_path / "records.jsonl")
    arms, _ = ids()
    spoil(arms["predicted"], schema_version=99)
    result = call("records")
    assert result.exit_code == 2
    assert "has schema version 99" in result.stderr
