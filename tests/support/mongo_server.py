"""A MongoDB-compatible server for tests: MONGODB_URI, or SecantusDB started here with authentication on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from standins.server import MongoServer, find_executable, with_users

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """Yield a running server, or skip and say what is missing."""
    if uri := os.environ.get("MONGODB_URI"):
        yield MongoServer({"uri": uri}, users=False)
        return
    if find_executable() is None:
        pytest.skip("no MongoDB: set MONGODB_URI, or SECANTUS_BIN to a secantusd-py (see standins/server.py)")
    with with_users(tmp_path_factory.mktemp("mongo")) as server:
        yield server
