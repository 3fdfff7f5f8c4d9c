"""SecantusDB, a server that speaks MongoDB's protocol, in a process of its own.

SecantusDB (GPL-2.0) lives in a venv of its own and only ever runs as a process:
`python3.11 -m venv DIR && DIR/bin/pip install SecantusDB==0.7.0b3`, then `SECANTUS_BIN=DIR/bin/secantusd-py`, or let
DIR be `secantus-venv` in the user's cache folder of definet_flows.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maggma.stores import MongoStore
from platformdirs import user_cache_path
from pymongo import MongoClient
from pymongo.errors import PyMongoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "pa55word-that-must-not-leak"  # noqa: S105 - of a server that lives as long as the tests
DATABASE = "definet_test"
PATIENCE = 120.0
"""Seconds until a server that does not answer is an error."""


@dataclass(frozen=True)
class MongoServer:
    """How to reach a server; `writer` and `reader` are its users where it has users."""

    address: dict[str, Any]
    users: bool

    def spec(self, user: str = "writer", password: str = PASSWORD, collection: str = "") -> dict[str, Any]:
        """Return a MongoStore as it stands in the settings; a collection of its own unless a name is given."""
        login = {"username": user, "password": password} if self.users else {}
        options = {} if "uri" in self.address else {"mongoclient_kwargs": {"serverSelectionTimeoutMS": 2000}}
        return {
            "@module": "maggma.stores",
            "@class": "MongoStore",
            "database": DATABASE,
            "collection_name": collection or f"test_{uuid.uuid4().hex}",
            **self.address,
            **login,
            **options,
        }

    def store(self, **changes: Any) -> MongoStore:  # noqa: ANN401 - arguments of MongoStore
        """Return an unconnected store on a collection of its own."""
        spec = self.spec() | changes
        return MongoStore(**{key: value for key, value in spec.items() if not key.startswith("@")})


class Server:
    """SecantusDB on a port of its own; can be stopped and started again on the same files."""

    def __init__(self, folder: Path, port: int | None = None, *options: str) -> None:
        self.executable = find_executable() or sys.exit("SecantusDB is not here: see standins/server.py")
        self.folder, self.port, self.options = folder, port or free_port(), options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self.executable, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--storage-path", str(self.folder / "data"), "--log-level", "WARNING", *self.options]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        end = time.monotonic() + PATIENCE
        with MongoClient[dict[str, Any]]("127.0.0.1", self.port, serverSelectionTimeoutMS=500) as client:
            while True:
                try:
                    client.admin.command("ping")
                except PyMongoError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)
                else:
                    return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start a server for the block, and end it whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def with_users(folder: Path) -> Iterator[MongoServer]:
    """Run SecantusDB on a free port with authentication on, its files in `folder`."""
    with running(Server(folder)) as server, MongoClient[dict[str, Any]]("127.0.0.1", server.port) as client:
        for user, role in (("writer", "readWrite"), ("reader", "read")):
            client[DATABASE].command("createUser", user, pwd=PASSWORD, roles=[role])
    with running(Server(folder, server.port, "--auth")):
        yield MongoServer({"host": "127.0.0.1", "port": server.port}, users=True)


def find_executable() -> str | None:
    """Return the path of SecantusDB's server; None if it is not here."""
    conventional = user_cache_path("definet_flows") / "secantus-venv" / "bin" / "secantusd-py"
    given = os.environ.get("SECANTUS_BIN", str(conventional))
    return shutil.which(given)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
