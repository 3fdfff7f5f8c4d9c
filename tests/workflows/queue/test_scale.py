"""A campaign of 200 configurations on a server, a worker killed every minute: every record once, little memory."""

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
    choice = ["--way", "cleared", "--sizes", "200", "--minutes", "170"]
    subprocess.run([sys.executable, SCRIPT, tmp_path, *choice], check=True)
    place = tmp_path / "cleared" / "200"
    said = json.loads((place / "recorded.json").read_text())
    assert said == {"configurations": 200, "worked": 200, "recorded": 200, "failed": 0, "lost": 0, "surplus": 0}
    memory = [json.loads(path.read_text())["memory"] for path in place.glob("session_*.json")]
    assert max(size for one in memory for size in one.values()) < 1.5e9
    assert (place / "ended").exists()
