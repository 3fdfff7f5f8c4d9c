"""The documentation site: each page has its place, each public name its entry, each quoted message is in the code."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import definet_flows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = {"_api/messages"}  # written by the build


def pages() -> set[str]:
    """Every page that is in the repository, without its ending."""
    found = {path.relative_to(DOCS) for path in DOCS.rglob("*.md")}
    return {path.with_suffix("").as_posix() for path in found if path.parts[0] not in {"_api", "_build"}}


def toctrees(page: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]


def templates() -> list[str]:
    found = runpy.run_path(str(DOCS / "messages.py"))["messages"]()
    return [text for texts in found.values() for text in texts]


def test_every_page_is_in_a_toctree_once():
    listed = [name for page in pages() for name in toctrees(page)]
    assert sorted(listed) == sorted((pages() - {"index"}) | MADE)


def test_every_public_name_is_in_the_reference_once():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$|^\.\. py:data:: definet_flows\.(\w+)$|^`(__version__)`", text, flags=re.MULTILINE)
    assert sorted("".join(names) for names in listed) == definet_flows.__all__


QUOTED = re.findall(r"^\| `(.*?)` \| ", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_messages_that_are_quoted_are_in_the_code():
    known = templates()
    assert len(QUOTED) > 50
    assert [quote for quote in QUOTED if not any(quote in text for text in known)] == []


def test_the_list_of_messages_is_complete():
    """Nearly every place that raises is read; a few messages come from other libraries or are composed elsewhere."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "definet_flows").rglob("*.py"))
    raised = len(re.findall(r"\b(?:InputError|BusyError|BadDocumentError)\(", text))
    assert len(templates()) > 0.95 * raised


@pytest.mark.slow
def test_the_tutorial_of_an_own_engine_runs_and_prints_what_it_shows(tmp_path):
    text = (DOCS / "tutorials" / "own-engine.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    (tmp_path / "own_engine.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "own_engine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(shown)


def test_the_citation_names_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == definet_flows.__version__
    assert citation["license"] == "BSD-3-Clause"
