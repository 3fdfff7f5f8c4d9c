"""The README's commands are the ones that CI runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "last"), [("run", "definet quickstart"), ("tests", "pytest -n 2 --dist loadfile")])
def test_command_is_found(name: str, last: str) -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_command.py", name], capture_output=True, text=True, check=True
    )
    command = printed.stdout.strip()
    assert "\n" not in command
    assert command.endswith(last)
    assert "-c constraints.txt" in command


def test_it_is_short() -> None:
    """A reader decides on one screen or two; the rest is on pages of their own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_its_picture_is_small() -> None:
    assert (ROOT / "docs" / "figures" / "report.png").stat().st_size < 150_000


def test_ci_runs_it() -> None:
    assert ".ci/readme_command.py tests" in (ROOT / ".ci" / "run").read_text()
