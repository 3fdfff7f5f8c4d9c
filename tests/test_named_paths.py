"""Paths under tests/ and benchmarks/ that the repository's own commands name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"\b(?:tests|benchmarks)/[\w/]+\.(?:py|md|toml)\b")


@pytest.mark.parametrize("page", ["noxfile.py", "CONTRIBUTING.md", "pyproject.toml", ".ci/run"])
def test_paths_named_by_commands_exist(page: str) -> None:
    named = set(NAMED.findall((ROOT / page).read_text(encoding="utf-8")))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
