"""Tests and benchmarks stand apart: what both need lies in standins, and benchmarks are commands that start."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = sorted([*(ROOT / "benchmarks").glob("*.py"), ROOT / "tests" / "cluster" / "run_slurm.py"])
TESTS = {"tests", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
BENCHMARKS = {"benchmarks", *(path.stem for path in (ROOT / "benchmarks").rglob("*.py"))}


def imports(source: str) -> set[str]:
    """Return the first part of each module that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def offenders(folder: str, forbidden: set[str]) -> dict[str, list[str]]:
    """Return what each module of a folder imports of what it must not."""
    found = {
        path.relative_to(ROOT).as_posix(): sorted(imports(path.read_text(encoding="utf-8")) & forbidden)
        for path in (ROOT / folder).rglob("*.py")
    }
    return {path: names for path, names in found.items() if names}


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
    assert offenders(folder, forbidden) == {}


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
