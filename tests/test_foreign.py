"""Text of others is text: on a terminal, in tables, pages, CSV cells and paths."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path

import ase.db
import pandas as pd
import pytest
from report_store import identity
from rich.table import Table
from rich.text import Text
from store_fixtures import SETTINGS, record
from typer.testing import CliRunner

from definet_flows import open_store
from definet_flows.cli import app
from definet_flows.cli.app import console
from definet_flows.cli.plain import PlainConsole
from definet_flows.foreign import cell, file_name, one_line, plain
from definet_flows.schemas import DefectRecord
from definet_flows.schemas.models import Model
from definet_flows.stores import judge
from definet_flows.workflows.campaign.models import _place

HOSTILE = "[/red][bold]v_S\x1b[31m\x1b]0;title\x07\u202e:smile:</script><script>alert(1)</script>"
SHOWN = r"[/red][bold]v_S\x1b[31m\x1b]0;title\x07\u202e:smile:</script><script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [*arguments, "--store", "records.jsonl"], env={"COLUMNS": "400"})
    assert result.exit_code == code, result.output
    return result


def fill(**changes):
    """Write a pair and a failed relaxation whose record fields are changed; return the arms."""
    arms = [
        record(start, configuration_id=identity("same"), steps=steps).model_copy(update=changes)
        for start, steps in (("unrelaxed", 40), ("predicted", 10))
    ]
    failed = record(configuration_id=identity("failed"), status="failed").model_copy(update={"error": HOSTILE})
    with open_store("records.jsonl") as records:
        records.put(*arms, judge(*arms), failed)
    return arms


# ------------------------------------------------------------------ terminal


def test_control_and_direction_characters_are_visible():
    assert plain("a\x1b[2Jb\x07\r\t\x9b\u202ec\u200bd\ud800\n") == r"a\x1b[2Jb\x07\r\t\x9b\u202ec\u200bd\ud800" + "\n"
    assert one_line("v_S\nerror: all is lost") == r"v_S\nerror: all is lost"
    assert plain("v_S+W_Mo, μB, Å, 图") == "v_S+W_Mo, μB, Å, 图"


def test_a_console_obeys_neither_markup_nor_escapes():
    shown = PlainConsole()
    shown.width = 400
    table = Table(HOSTILE, title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE, Text("[red]\x1b[31m"))
    with shown.capture() as captured:
        shown.print(HOSTILE, soft_wrap=True)
        shown.print(table)
    assert captured.get().count(SHOWN) == 5
    assert r"[red]\x1b[31m" in captured.get()
    assert "\x1b" not in captured.get()


def test_style_is_still_there_on_a_terminal():
    shown = PlainConsole()
    shown._force_terminal = True
    with shown.capture() as captured:
        shown.print(Text.assemble(("error:", "bold red"), " \x1b[2J"))
    assert "error:" in captured.get()
    assert r"\x1b[2J" in captured.get()


@pytest.mark.parametrize(
    "command",
    [
        ("records", "--by", "name"),
        ("savings", "--by", "name"),
        ("records", "--by", "host"),
        ("savings", "--by", "engine"),
        ("records", "--name", "no such name"),
        ("explain", identity("same")),
    ],
)
def test_names_from_a_store_are_text_in_every_command(command):
    one = record()
    host = one.host.model_copy(update={"formula": HOSTILE})
    fill(name=HOSTILE, engine=HOSTILE, host=host)
    output = call(*command, code=2 if "no such name" in command else 0).output
    assert SHOWN in output
    assert "\x1b" not in output
    assert "\u202e" not in output


def test_an_error_of_a_record_is_text():
    fill()
    assert SHOWN in call("explain", identity("failed")).output


def test_models_are_text():
    with open_store("records.jsonl") as records:
        records.put(
            Model(
                id=HOSTILE,
                settings_hash=SETTINGS,
                engine=HOSTILE,
                sha256="5" * 64,
                size=0,
                recipe={HOSTILE: HOSTILE, "network": {HOSTILE: 1}},
                hosts=(HOSTILE,),
                data_hash="d",
                configurations=1,
                counts=(HOSTILE,),
                refused=0,
                parent=None,
            )
        )
    assert SHOWN in call("models", "list").output
    assert call("models", "show", "555555").output.count(SHOWN) >= 5


def test_a_page_holds_them_as_text():
    fill(name=HOSTILE, engine=HOSTILE)
    call("report", "-o", "page.html")
    page = Path("page.html").read_text()
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page


def test_the_console_of_the_commands_is_that_console():
    assert isinstance(console, PlainConsole)


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize("text", ["=1+1", "+SUM(A1)", "-cmd", "@x", "\t=1", "\r=1", "＝1", "'x", "-1e", "--1", "-inf"])
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+2", "-.5e-3", "v_S", "1=1", "", -1.5, 3, None, True])
def test_numbers_and_plain_text_stay(value):
    assert cell(value) == value


def test_a_csv_file_is_read_back():
    error = '=HYPERLINK("http://x","a")\r\n,"'
    fill(name="-v_S+W_Mo", engine="@SUM(1)", error=error)
    call("export", "costs.csv", "--name", "-v_S+W_Mo")
    rows = list(csv.DictReader(StringIO(Path("costs.csv").read_bytes().decode(), newline="")))
    assert {row["name"] for row in rows} == {"'-v_S+W_Mo"}
    assert {row["engine"] for row in rows} == {"'@SUM(1)"}
    assert {row["error"] for row in rows} == {f"'{error}"}
    frame = pd.read_csv("costs.csv")
    assert (frame["energy [eV]"] == -100.0).all()


# ------------------------------------------------------------------ paths

NAMES = [
    *("../../x", "/etc/passwd", "a\0b", "a\nb", ".", "..", "", "~", "%2E", "%", "x" * 5000, "x" * 5001, "é" * 400),
    *("CON", "con.txt", "NUL", "com1", "LPT9.x", "x.", "x ", "a\\b", "C:\\x", "a:b", "-rf", "+x", ".hidden", "\ud800"),
    *("a/b", "a%2Fb", "*?", "MoS2", "v_S+W_Mo", "Ca(OH)2", "%43ON"),
]


def test_names_of_files_are_safe_and_differ():
    found = [file_name(name) for name in NAMES]
    assert len(set(found)) == len(NAMES)
    for name in found:
        assert 0 < len(name) <= 200
        assert Path(name).name == name
        assert name[0] not in ".-+ "
        assert name[-1] not in ". "
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-+()%~")
        assert name.split(".")[0].upper() not in {"CON", "NUL", "COM1", "LPT9"}


@pytest.mark.parametrize("name", ["MoS2_27_55555555_0a1b2c3d", "v_S+W_Mo", "Ca(OH)2", "sevennet-1a2b3c4d"])
def test_common_names_stay(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", [name for name in NAMES if name != "\ud800"])
def test_nothing_is_written_outside_of_an_exported_folder(tmp_path, name):
    one = record()
    ids = {"settings_hash": name, "id": name, "configuration_id": name}
    host = one.host.model_copy(update={"formula": name, "hash": name})
    with open_store("records.jsonl") as records:
        records.put(one.model_copy(update={**ids, "host": host}))
    before = set(tmp_path.rglob("*"))
    (tmp_path / "below").mkdir()
    call("export", "below/set")
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "below"}
    assert all((tmp_path / "below" / "set") in (path, *path.parents) for path in new)
    assert len(list((tmp_path / "below" / "set").glob("*.cif"))) == 1
    (entry,) = (tmp_path / "below" / "set").rglob("*_relaxed.cif")
    listed = {text for path in entry.parents[1].glob("*.csv") for text in path.read_text().split()[1:]}
    assert listed == {entry.name.removesuffix("_relaxed.cif")}


@pytest.mark.parametrize("other", [{"settings_hash": SETTINGS[:8] + "/../x"}, {"formula": "MOS2"}, {"formula": "mos2"}])
def test_sets_whose_names_clash_stay_apart(tmp_path, other):
    first = record()
    host = first.host.model_copy(update={"formula": other.get("formula", "MoS2")})
    second = first.model_copy(
        update={"id": "2" * 32, "host": host, "settings_hash": other.get("settings_hash", SETTINGS)}
    )
    with open_store("records.jsonl") as records:
        records.put(first, second.model_copy(update={"configuration_id": "2" * 32}))
    call("export", "set")
    folders = [path.name.casefold() for path in (tmp_path / "set").iterdir() if path.is_dir()]
    assert len(set(folders)) == len(folders) == 2
    assert all(len(list(path.glob("CIF/*"))) == 2 for path in (tmp_path / "set").iterdir() if path.is_dir())


def test_weights_of_a_store_stay_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(tmp_path / "cache"))
    assert _place("../../x").parent == tmp_path / "cache" / "models"
    assert _place("a" * 64).name == f"{'a' * 64}.safetensors"


def test_hostile_records_go_to_every_format():
    fill(name=HOSTILE + "\n=1", engine="12")
    for name in ("relaxed.extxyz", "relaxed.db", "entries.json"):
        call("export", name)
    frames = Path("relaxed.extxyz").read_text().splitlines()
    assert len(frames) == 2 * (26 + 2)
    json.loads(Path("entries.json").read_text())
    row = next(ase.db.connect("relaxed.db").select())
    assert "engine" not in row.key_value_pairs
    assert row.data["engine"] == "12"


def test_the_schema_takes_any_text():
    assert DefectRecord.model_validate(record().model_dump() | {"name": HOSTILE}).name == HOSTILE
