"""A MongoDB-compatible server for tests: MONGODB_URI, or SecantusDB started here with authentication on.

SecantusDB (GPL-2.0) lives in a venv of its own and is only ever run as a process:
`python3.11 -m venv DIR && DIR/bin/pip install SecantusDB==0.7.0b3`, then `SECANTUS_BIN=DIR/bin/secantusd-py`, or let
DIR be `secantus-venv` in the user's cache folder of definet_flows.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from maggma.stores import MongoStore
from platformdirs import user_cache_path
from pymongo import MongoClient
from pymongo.errors import PyMongoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "pa55word-that-must-not-leak"  # noqa: S105 - of a server that lives as long as the tests
_DATABASE = "definet_test"


@dataclass(frozen=True)
class MongoServer:
    """How to reach the server; `writer` and `reader` are its users where it has users."""

    address: dict[str, Any]
    users: bool

    def spec(self, user: str = "writer", password: str = PASSWORD, collection: str = "") -> dict[str, Any]:
        """Return a MongoStore as it stands in the settings; a collection of its own unless a name is given."""
        login = {"username": user, "password": password} if self.users else {}
        options = {} if "uri" in self.address else {"mongoclient_kwargs": {"serverSelectionTimeoutMS": 2000}}
        return {
            "@module": "maggma.stores",
            "@class": "MongoStore",
            "database": _DATABASE,
            "collection_name": collection or f"test_{uuid.uuid4().hex}",
            **self.address,
            **login,
            **options,
        }

    def store(self, **changes: Any) -> MongoStore:
        """Return an unconnected store on a collection of its own."""
        spec = self.spec() | changes
        return MongoStore(**{key: value for key, value in spec.items() if not key.startswith("@")})


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """Yield a running server, or skip and say what is missing."""
    if uri := os.environ.get("MONGODB_URI"):
        yield MongoServer({"uri": uri}, users=False)
        return
    executable = find_executable()
    if executable is None:
        pytest.skip("no MongoDB: set MONGODB_URI, or SECANTUS_BIN to a secantusd-py (see tests/mongo_server.py)")
    with started(executable, tmp_path_factory.mktemp("mongo")) as server:
        yield server


@contextmanager
def started(executable: str, folder: Path) -> Iterator[MongoServer]:
    """Run SecantusDB on a free port with authentication on, its files in `folder`."""
    port = _free_port()
    with _running(executable, port, folder), MongoClient("127.0.0.1", port) as client:
        _wait(client)
        for user, role in (("writer", "readWrite"), ("reader", "read")):
            client[_DATABASE].command("createUser", user, pwd=PASSWORD, roles=[role])
    login = {"username": "writer", "password": PASSWORD, "authSource": _DATABASE}
    with _running(executable, port, folder, "--auth"):
        with MongoClient("127.0.0.1", port, **login) as client:
            _wait(client)
        yield MongoServer({"host": "127.0.0.1", "port": port}, users=True)


def find_executable() -> str | None:
    """Return the path of SecantusDB's server; None if it is not here."""
    conventional = user_cache_path("definet_flows") / "secantus-venv" / "bin" / "secantusd-py"
    given = os.environ.get("SECANTUS_BIN", str(conventional))
    return shutil.which(given)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(executable: str, port: int, folder: Path, *options: str) -> Iterator[None]:
    command = [executable, "--host", "127.0.0.1", "--port", str(port), "--storage-path", str(folder / "data")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([*command, "--log-level", "WARNING", *options], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(client: MongoClient[dict[str, Any]], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            client.admin.command("ping")
        except PyMongoError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
