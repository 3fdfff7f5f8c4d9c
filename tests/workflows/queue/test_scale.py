"""A campaign of 200 configurations on a server with two workers: every record, small documents, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from standins.server import find_executable

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "scale.py"
pytestmark = [
    pytest.mark.mongo,
    pytest.mark.slow,
    pytest.mark.timeout(3 * 3600),
    pytest.mark.skipif("DEFINET_CLUSTER" not in os.environ, reason="takes minutes: `nox -s cluster` runs it"),
    pytest.mark.skipif(find_executable() is None, reason="no SecantusDB: set SECANTUS_BIN (see standins/server.py)"),
]


def test_two_hundred_configurations_are_all_recorded(tmp_path):
    subprocess.run([sys.executable, SCRIPT, tmp_path, "--sizes", "200"], check=True)
    cost = json.loads((tmp_path / "200" / "cost.json").read_text())
    assert (cost["configurations"], cost["recorded"], cost["failed"]) == (200, 200, 0)
    assert cost["largest_document"] < 2e6
    assert cost["memory"] < 2e9
