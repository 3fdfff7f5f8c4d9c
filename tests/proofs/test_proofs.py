"""The page Proofs says what the files of results say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[2] / "benchmarks" / "paper" / "page.py"


def test_the_page_shows_the_results_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(COMMAND), "--check"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(COMMAND), run_name="__main__")
    assert not end.value.code, "python benchmarks/paper/page.py --write"


def test_a_file_of_results_that_changed_makes_another_page(monkeypatch, tmp_path, capsys):
    place = tmp_path / "benchmarks" / "paper"
    (place / "results").mkdir(parents=True)
    (place / "page.py").write_text(COMMAND.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "proofs.md").write_text("<!-- measured -->\n<!-- /measured -->", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["page.py"])
    runpy.run_path(str(place / "page.py"), run_name="__main__")
    assert capsys.readouterr().out.count("Not measured yet") == 6
