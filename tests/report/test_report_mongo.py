"""The report of a store on a server: read by a user who may not write, refused in one line where it cannot be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from report_store import fill, identity
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.stores import Records

if TYPE_CHECKING:
    from pathlib import Path

    from standins.server import MongoServer

pytest_plugins = ["mongo_server"]
pytestmark = pytest.mark.mongo
runner = CliRunner()
SECRET = "s3cret"  # noqa: S105 - of nobody


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_server: MongoServer) -> None:
    """Name the stores `filled`, `locked` (wrong password) and `away` (no server) in the settings."""
    writer = mongo_server.spec()
    with Records(mongo_server.store(**{k: v for k, v in writer.items() if not k.startswith("@")})) as records:
        fill(records)
    reader = writer | ({"username": "reader"} if mongo_server.users else {})
    away = {
        "@module": "maggma.stores",
        "@class": "MongoURIStore",
        "uri": f"mongodb://me:{SECRET}@127.0.0.1:1/db",
        "collection_name": "c",
        "mongoclient_kwargs": {"serverSelectionTimeoutMS": 200},
    }
    stores = {"filled": reader, "locked": writer | {"password": SECRET}, "away": away}
    (tmp_path / "settings.yaml").write_text(json.dumps({"record_stores": stores}))  # JSON is YAML
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "settings.yaml"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("settings")
def test_a_reader_gets_page_and_explanation(tmp_path: Path, mongo_server: MongoServer) -> None:
    result = runner.invoke(app, ["report", "--store", "filled"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text()
    assert '<p class="number" id="saving">90.0 %</p>' in page
    assert mongo_server.spec().get("password", SECRET) not in page
    told = runner.invoke(app, ["explain", identity("better")[:6], "--store", "filled"])
    assert told.exit_code == 0, told.output
    assert "better minimum" in told.output


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("store", ["locked", "away"])
@pytest.mark.parametrize("command", [("report",), ("explain", "0000")])
def test_a_server_that_cannot_be_read_is_one_line(
    tmp_path: Path, mongo_server: MongoServer, store: str, command: tuple[str, ...]
) -> None:
    if store == "locked" and not mongo_server.users:
        pytest.skip("this server has no users")
    before = sorted(tmp_path.iterdir())
    result = runner.invoke(app, [*command, "--store", store])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert SECRET not in result.output
    assert sorted(tmp_path.iterdir()) == before
