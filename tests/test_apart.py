"""Tests and benchmarks stand apart: what both need lies in standins, and benchmarks are commands that start."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from sources import imports, imports_of

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(
    [
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "benchmarks" / "paper").glob("*.py"),
        ROOT / "tests" / "cluster" / "run_slurm.py",
    ]
)
TESTS = {"tests", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
BENCHMARKS = {"benchmarks", *(path.stem for path in (ROOT / "benchmarks").rglob("*.py"))}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("tests", BENCHMARKS),
        ("benchmarks", TESTS),
        ("standins", TESTS | BENCHMARKS | {"pytest"}),
        ("definet_flows", {"tests", "benchmarks", "standins"}),
    ],
)
def test_no_folder_imports_what_it_must_stand_apart_from(folder, forbidden):
    assert {
        path.relative_to(ROOT).as_posix(): names & forbidden
        for path, names in imports_of(ROOT / folder).items()
        if names & forbidden
    } == {}


def test_an_import_inside_a_function_counts():
    source = "def f():\n    from flow_helpers import CU\n    import benchmarks.support.eager as eager"
    assert imports(source) == {"flow_helpers", "benchmarks"}


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_each_command_says_how_it_is_called(path, monkeypatch, capsys):
    # in this process: what they import takes seconds, and most of it is here already
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # some set it if nobody has
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {path.name}")


def test_what_is_no_command_lies_in_a_folder_of_its_own():
    assert [path.name for path in COMMANDS if '__name__ == "__main__"' not in path.read_text(encoding="utf-8")] == []
