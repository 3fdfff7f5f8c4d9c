"""The page on the architecture says what the tree is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "definet_flows"
MOST, MOST_TESTS = 13, 16
FLAT = {"tests/support"}  # pytest's path has a single folder of helpers


def folders(top: Path) -> list[str]:
    """Folders below one that hold files of the repository, relative to it."""
    inside = (path for path in top.rglob("*") if path.is_dir() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(top).as_posix() for path in inside if any(file.is_file() for file in path.iterdir()))


def test_every_folder_is_on_the_page_and_the_reverse():
    named = re.findall(r"^\| `([\w/]+)` \| \S.* \|$", PAGE, flags=re.MULTILINE)
    assert len(named) == len(set(named))
    assert sorted(named) == folders(PACKAGE)


def test_the_layers_are_those_that_import_linter_holds():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one["type"] == "layers" and "containers" not in one)
    (shown,) = re.findall(r"<!-- layers -->\n```\n(.*?)```", PAGE, flags=re.DOTALL)
    assert shown.splitlines() == [layer.replace("definet_flows.", "") for layer in layers]
    rooms = {room for layer in layers for room in layer.replace("definet_flows.", "").split(" : ")}
    own = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "_lazy", "_moved"}
    assert rooms == own | {name for name in folders(PACKAGE) if "/" not in name}


def test_contributing_says_the_same_direction():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    (shown,) = re.findall(r"<!-- layers -->\n```\n(.*?)```", PAGE, flags=re.DOTALL)
    line = " > ".join(f"({layer})" if " : " in layer else layer for layer in shown.splitlines())
    assert line in text
    assert "docs/architecture.md" in text


@pytest.mark.parametrize(("top", "most"), [("definet_flows", MOST), ("tests", MOST_TESTS)])
def test_no_folder_is_crowded(top, most):
    every = {f"{top}/{name}": len(list((ROOT / top / name).glob("*.py"))) for name in [".", *folders(ROOT / top)]}
    assert {name: n for name, n in every.items() if n > most and name not in FLAT} == {}


def test_modules_that_the_page_names_are_there():
    for name in set(re.findall(r"`(\w+\.py)`", PAGE)):
        assert (PACKAGE / name).is_file(), name


def test_functions_on_the_way_of_a_host_are_there():
    way = PAGE.split("## The way of a host")[1]
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r"`([A-Za-z]\w+)`", way)) - {name for name in folders(PACKAGE) if "/" not in name}
    assert {
        name for name in named if not re.search(rf"^\s*(?:def|class) {name}\b", source, flags=re.MULTILINE)
    } == set()
