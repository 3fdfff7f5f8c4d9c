"""The code of README and of the site: it runs and prints what is shown, or says why it does not run."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path

import jobflow
import pytest
from jobflow.settings import JobflowSettings
from page_blocks import SHOWN, Block, agrees, blocks, rewrite, with_output
from page_files import old_runs
from page_runs import Page, unknown

import definet_flows

pytest_plugins = ["mongo_server", "queue_helpers"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = ("bulk-host", "querying")
"""In the order in which they run; a page may go on in the folder of a page before it."""


def pages() -> list[Path]:
    made = {"_api", "_build"}
    found = [path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in made]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *found]


def name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


EVERY = {name(path): blocks(path) for path in pages()}


def console(block: Block) -> list[str]:
    """The commands of the package in a block, if the block shows no output."""
    if block.language == SHOWN:
        return []
    return [line for line in block.commands if line.startswith("definet ")]


COMMANDS = [(page, line) for page, found in EVERY.items() for block in found for line in console(block)]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda text: text[:60])
def test_commands_and_options_exist(page: str, line: str) -> None:
    assert unknown(line) == [], page


NOT_RUN: dict[str, str] = {}
"""Pages of which no block runs, each with the reason; their commands and options are compared with the package."""

CONTINUES = {
    "docs/tutorials/querying": "docs/tutorials/bulk-host",
    "docs/tutorials/other-packages": "docs/tutorials/layer",
}
"""A page that goes on with the files of another page."""

ON_A_QUEUE = "docs/tutorials/queue"
"""The page whose folder names a database, a queue and a job store on a server."""

PREPARED = {"docs/tutorials/old-vasp-runs": old_runs}
"""What writes the files that a page begins with."""

FOLDERS: dict[str, Path] = {}


def running(page: str) -> list[tuple[Block, Block | None]]:
    return [(block, shown) for block, shown in with_output(EVERY[page]) if block.reason is None]


@pytest.fixture
def folder(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The working folder of a page, with an empty data folder and no settings."""
    monkeypatch.setenv("COLUMNS", "110")
    if page == ON_A_QUEUE:
        where = request.getfixturevalue("queue").folder
        monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", JobflowSettings().JOB_STORE)  # read at import, of no queue
        return where
    where = FOLDERS.get(CONTINUES.get(page, ""), tmp_path)
    if page in CONTINUES and where == tmp_path:
        pytest.skip(f"goes on in the folder of {CONTINUES[page]}, which did not run")
    FOLDERS[page] = where
    monkeypatch.chdir(where)
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(where / "data"))
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(where / "none.yaml"))
    if page in PREPARED:
        PREPARED[page]()
    return where


RUN = sorted((page for page in EVERY if page not in NOT_RUN and running(page)), key=lambda page: page in CONTINUES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other libraries; a reader may see them
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", RUN)
def test_a_page_runs_and_prints_what_it_shows(page: str) -> None:
    session, outputs = Page(), []
    for block, shown in running(page):
        printed = session.run(block)
        if shown is not None:
            outputs.append((shown, printed))
    if os.environ.get("DEFINET_WRITE_PAGES"):
        rewrite(ROOT / f"{page}.md", [(shown, text) for shown, text in outputs if "..." not in shown.text.splitlines()])
        return
    for shown, printed in outputs:
        assert agrees(shown.text, printed), f"{page}:{shown.span[0] + 1} shows\n{shown.text}\nand this is printed\n{printed}"
