"""`definet records`, `savings` and `export`: what they print, and that bad input is one line that changes nothing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from store_fixtures import SETTINGS, record
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.schemas import KnownPreRelaxer, PreRelaxerName, dump
from definet_flows.stores import open_store, update_pairs

pytest_plugins = ["mongo_server"]

COMMANDS = (["savings"], ["records"], ["export", "out.csv"])


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "settings.yaml"))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def campaign():
    """Two pairs, one of them a complex; a gated configuration, a failed and a running relaxation."""
    with open_store("c.jsonl") as records:
        for defects, steps in ((("v_S",), (40, 10)), (("v_S", "W_Mo"), (20, 20))):
            arms = [
                record(start, steps=n, defects=defects, costs=(10 * n, n / 2))
                for start, n in zip(("unrelaxed", "predicted"), steps, strict=True)
            ]
            records.put(*arms)
            update_pairs(records, arms[0].configuration_id, SETTINGS)
        records.put(record(configuration_id="gated", steps=60, gated=True))
        records.put(record(configuration_id="failed", steps=5, status="failed"))
        records.put(record(configuration_id="running", status="running"))
    return "c.jsonl"


def call(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + result.stderr
    return result


def files(folder=Path()):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(*arguments, saying):
    """Exit code 2, one line that says what and what to do, nothing changed."""
    before = files()
    result = call(*arguments, code=2)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert saying in lines[0]
    assert "Traceback" not in result.output + result.stderr
    assert files() == before
    return lines[0]


# ------------------------------------------------------------------ what they tell


def test_savings_in_three_costs_and_all_that_is_beside_them(campaign):
    told = json.loads(call("savings", "--store", campaign, "--by", "name", "--json").stdout)
    total = told["total"]
    assert told["saving"] == pytest.approx(1 - 30 / 60)
    assert [total[cost]["saving"] for cost in ("ionic", "electronic", "core_hours")] == [pytest.approx(0.5)] * 3
    assert [total[cost]["campaign"] for cost in ("ionic", "core_hours")] == [pytest.approx(1 - 90 / 120), None]
    assert total["core_hours"]["spending"]["controls"] == pytest.approx(30)
    assert total["core_hours"]["spending"]["unknown"] == 1
    assert {key: total[key] for key in ("same_minimum", "gated", "failed", "running")} == {
        "same_minimum": 2,
        "gated": 1,
        "failed": 1,
        "running": 1,
    }
    assert {name: group["ionic"]["saving"] for name, group in told["by"].items()} == {"v_S": 0.75, "v_S+W_Mo": 0.0}
    text = call("savings", "--store", campaign).stdout
    for piece in ("50.0%", "25.0%", "gated out", "better minimum", "other minimum", "unconverged", "core-hours"):
        assert piece in text


def test_what_pre_relaxing_cost_is_told_and_what_is_unknown_is_a_dash(campaign):
    table = call("savings", "--store", campaign, "--by", "prerelaxer").stdout.split("proposals")[1]
    line = next(line.split() for line in table.splitlines() if line.split()[:1] == ["definet"])
    assert line[1:6] == ["2", "0.1", "2", "-", "0"]
    (row,) = [line.split() for line in table.splitlines() if line.split()[:1] == ["pre-relaxing"]]
    assert row[1:] == ["-", "-", "-", "0.1"]


def test_records_are_counted(campaign):
    told = json.loads(call("records", "--store", campaign, "--by", "n_defects", "--json").stdout)
    total = told["total"]
    assert (total["relaxations"], total["configurations"], total["done"]) == (7, 5, 5)
    assert (total["failed"], total["running"], total["gated"], total["predicted"]) == (1, 1, 1, 2)
    assert (total["ionic_steps"], total["electronic_steps"], total["core_hours"]) == (155, 900, 45.0)
    assert total["median_ionic_steps"] == 20
    assert [told["by"][n]["relaxations"] for n in ("1", "2")] == [5, 2]
    assert "v_S+W_Mo" in call("records", "--store", campaign, "--by", "name").stdout


def test_any_field_filters(campaign):
    for arguments in (["--where", "n_defects=2"], ["--name", "v_S+W_Mo"], ["--where", "name=v_S+W_Mo"]):
        told = json.loads(call("records", "--store", campaign, *arguments, "--json").stdout)
        assert told["total"]["relaxations"] == 2


def test_charge_is_a_column_a_filter_and_a_group(campaign):
    with open_store(campaign) as records:
        records.put(record(configuration_id="charged", charge=-1, steps=7))
    told = json.loads(call("records", "--store", campaign, "--where", "charge=-1", "--json").stdout)
    assert told["total"]["ionic_steps"] == 7
    for command in ("records", "savings"):
        lines = call(command, "--store", campaign, "--by", "charge").stdout.splitlines()
        assert {line.split()[0] for line in lines if line.strip()[:2] in {"0 ", "-1"}} == {"0", "-1"}
    refused("savings", "--store", campaign, "--where", "charge=2", saying="no relaxation has charge +2")
    refused("savings", "--store", campaign, "--where", "charge=2", saying="'c.jsonl' has -1, 0")


def test_sums_say_of_how_many_and_unknown_costs_are_dashes(campaign):
    text = call("records", "--store", campaign).stdout
    assert re.search(r"900 +45\.0 +- +-", text)  # electronic steps, core-hours, wall time, cores
    assert re.search(r"\(of 4 of 6\) +\(of 4 of 6\)", text)
    with open_store("unknown.jsonl") as records:
        records.put(record(), record("predicted", steps=5))
        update_pairs(records, record().configuration_id, SETTINGS)
    text = call("savings", "--store", "unknown.jsonl").stdout
    assert re.search(r"from unrelaxed starts +20 +- +-", text)
    assert re.search(r"cost known +1 +0 of 1 +0 of 1", text)
    assert re.search(r"too +25 +- +-", text)
    assert "No relaxation states its time." in text


def test_weights_and_prerelaxers_are_chosen_by_name(campaign):
    with open_store(campaign) as records:
        known = PreRelaxerName(name="fields", key="f" * 32)
        arm = record("predicted", steps=5, weights=known.key)
        records.put(KnownPreRelaxer.of(known), arm)
        update_pairs(records, arm.configuration_id, SETTINGS)
    saved = {
        choice: json.loads(call("savings", "--store", campaign, *choice, "--json").stdout)["saving"]
        for choice in (
            ("--prerelaxer", "fields"),
            ("--where", "prerelaxer=definet"),
            ("--weights", "aaaaaaaa"),
            ("--where", f"weights={'a' * 64}"),
        )
    }
    assert list(saved.values()) == [pytest.approx(share) for share in (0.875, 0.5, 0.5, 0.5)]
    text = call("savings", "--store", campaign).stdout
    assert "definet · aaaaaaaa: 50.0% of ionic steps saved; pairs in the same minimum: 2" in text
    assert "fields: 87.5% of ionic steps saved; pairs in the same minimum: 1" in text
    assert "definet · aaaaaaaa" in call("savings", "--store", campaign, "--by", "weights").stdout
    for option, value in (("--prerelaxer", "field"), ("--weights", "bbbbbb")):
        refused("savings", "--store", campaign, option, value, saying=f"{value}: record store 'c.jsonl' has")


@pytest.mark.parametrize("name", ["o.csv", "o.extxyz", "o.db", "o.json", "o"])
def test_export_by_ending(campaign, name):
    assert name in call("export", name, "--store", campaign, "--name", "v_S+W_Mo").stdout
    assert Path(name).exists()


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("command", COMMANDS)
def test_empty_store(command):
    with open_store("empty.jsonl"):
        pass
    refused(*command, "--store", "empty.jsonl", saying="'empty.jsonl' holds no relaxations")
    refused(*command, "--store", "absent.jsonl", saying="cannot be read")


@pytest.mark.parametrize("command", COMMANDS)
def test_filters_that_exclude_everything_name_what_there_is(campaign, command):
    refused(*command, "--store", campaign, "--host", "BN", saying="no relaxation has host BN: record store 'c.jsonl'")
    refused(*command, "--store", campaign, "--where", "n_defects=9", saying="has 1, 2")
    refused(*command, "--store", campaign, "--name", "v_S", "--where", "n_defects=2", saying="all filters at once")


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_field(campaign, command):
    refused(*command, "--store", campaign, "--where", "colour=red", saying="no field 'colour'")
    refused(*command, "--store", campaign, "--where", "n_defects=many", saying="n_defects=many")
    refused(*command, "--store", campaign, "--where", "n_defects", saying="n_defects")
    refused(*command, "--store", campaign, "--colour", "red", saying="--colour")


@pytest.mark.parametrize("command", COMMANDS[:2])
def test_unknown_grouping(campaign, command):
    assert "n_defects" in refused(*command, "--store", campaign, "--by", "colour", saying="'colour'")


@pytest.mark.parametrize("command", COMMANDS)
def test_newer_records_among_others(campaign, command):
    with open_store(campaign) as records:
        records.store.update({**dump(record(configuration_id="newer")), "schema_version": 99})
    refused(*command, "--store", campaign, saying="schema version 99")


def test_export_to_nowhere(campaign):
    refused("export", "o.docx", "--store", campaign, saying="o.docx")
    refused("export", "no/such/o.csv", "--store", campaign, saying="no/such/o.csv")
    Path("there").mkdir()
    refused("export", "there", "--store", campaign, saying="there")


@pytest.mark.parametrize("command", COMMANDS)
def test_unreachable_server_tells_no_password(command):
    gone = {
        "@module": "maggma.stores",
        "@class": "MongoStore",
        "uri": "mongodb://me:s3cret@127.0.0.1:1/db",
        "database": "db",
        "collection_name": "c",
        "mongoclient_kwargs": {"serverSelectionTimeoutMS": 100},
    }
    Path("settings.yaml").write_text(json.dumps({"record_stores": {"gone": gone}}))
    assert "s3cret" not in refused(*command, "--store", "gone", saying="'gone' is not reachable")


@pytest.mark.parametrize(
    ("spec", "saying"),
    [
        ({"host": "127.0.0.1", "username": "me", "password": 53707}, "TypeError while connecting"),
        ({"host": "127.0.0.1", "port": "53707"}, "TypeError while connecting"),
        ({"uri": "mongodb://me:x5370/7@127.0.0.1:1/db"}, "ValueError while connecting"),
        ({"uri": "mongo://me:53707@127.0.0.1/db"}, "with its settings"),
        ({"passwort": "53707"}, "TypeError while building it"),
        ({"mongoclient_kwargs": {"silly": "53707"}}, "with its settings"),
    ],
)
def test_wrong_settings_of_a_store_are_not_quoted(spec, saying):
    mongo = {"@module": "maggma.stores", "@class": "MongoStore", "database": "db", "collection_name": "c"}
    Path("settings.yaml").write_text(json.dumps({"record_stores": {"wrong": mongo | spec}}))
    told = refused("savings", "--store", "wrong", saying="record store 'wrong'")
    assert re.search(saying, told)
    assert "5370" not in told


@pytest.mark.parametrize(
    ("text", "saying"), [("record_store: [53707\n", "line 2"), ("- 53707\n", "settings"), ("53707\n", "settings")]
)
def test_settings_that_cannot_be_read(text, saying):
    Path("settings.yaml").write_text(text)
    told = refused("savings", saying=saying)
    assert "settings" in told
    assert "53707" not in told


def test_nothing_finished_to_export():
    with open_store("r.jsonl") as records:
        records.put(record(status="running"))
    refused("export", "o.extxyz", "--store", "r.jsonl", saying="a finished end that this format takes: nothing written")


@pytest.mark.parametrize("command", ["records", "savings"])
def test_what_no_weights_were_asked_about_is_a_group_too(campaign, command):
    told = json.loads(call(command, "--store", campaign, "--by", "weights", "--json").stdout)["by"]
    assert list(told) == ["a" * 64, "none"]
    assert [(group["failed"], group["running"]) for group in told.values()] == [(0, 0), (1, 1)]
    if command == "records":
        assert sum(group["relaxations"] for group in told.values()) == 7


@pytest.mark.parametrize("command", ["records", "savings"])
def test_no_number_is_cut_in_a_narrow_terminal(campaign, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in call(command, "--store", campaign, "--by", "name").stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_journal(campaign):
    Path(campaign).chmod(0o400)
    refused("records", "build", "--store", campaign, saying="cannot be written")


@pytest.mark.mongo
class TestMongo:
    @pytest.fixture(autouse=True)
    def _server(self, mongo_server):
        if not mongo_server.users:
            pytest.skip("MONGODB_URI brings its own user")
        self.server = mongo_server
        self.collection = mongo_server.spec()["collection_name"]
        self.configure()
        with open_store("m") as records:
            records.put(record(), record("predicted", steps=5))
            update_pairs(records, record().configuration_id, SETTINGS)

    def configure(self, **login):
        spec = self.server.spec(collection=self.collection, **login)
        Path("settings.yaml").write_text(json.dumps({"record_stores": {"m": spec}}))

    @pytest.mark.parametrize("command", COMMANDS)
    def test_wrong_credentials(self, command):
        self.configure(password="wr0ng")  # noqa: S106 - wrong on purpose
        assert "wr0ng" not in refused(*command, "--store", "m", saying="refuses this user: check credentials")

    def test_a_reader_reads_and_cannot_write(self):
        self.configure(user="reader")
        assert json.loads(call("savings", "--store", "m", "--json").stdout)["saving"] == pytest.approx(0.75)
        with pytest.raises(ValueError, match="refuses this user"):
            open_store("m")  # writing is tried before anything is computed
        assert json.loads(call("records", "--store", "m", "--json").stdout)["total"]["relaxations"] == 2

    def test_no_password_in_the_store(self):
        with open_store("m") as records:
            assert "pa55word" not in str(list(records.store.query()))
