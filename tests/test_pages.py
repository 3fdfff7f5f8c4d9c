"""The code of README and of the site: it runs and prints what is shown, or says why it does not run.

`DEFINET_WRITE_PAGES=1 pytest tests/test_pages.py` puts what is printed into the pages, but for blocks that hold `...`.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import jobflow
import pytest
import yaml
from jobflow.settings import JobflowSettings
from page_blocks import SHOWN, Block, agrees, blocks, rewrite, with_output
from page_files import old_runs
from page_runs import Page, unknown

pytest_plugins = ["mongo_server", "queue_helpers"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


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


NOT_RUN = {
    ("CONTRIBUTING", "bash"): "the checks of the repository itself",
    ("docs/active-learning", "bash"): "hundreds of relaxations; tutorials/learning runs a small pool",
    ("docs/cluster-admin", "bash"): "sets up a server as root",
    ("docs/cluster-user", "bash"): "needs a batch system; tutorials/queue runs a campaign on a server",
    ("docs/notes/starts-potential", "bash"): "a measurement of an hour",
    ("docs/notes/starts-steps", "bash"): "a measurement of hours",
    ("docs/prediction", "bash"): "files of a reader; tutorials/other-packages runs the same commands",
    ("docs/prediction", "python"): "structures of a reader; tutorials/layer makes some",
    ("docs/records", "bash"): "a store of a reader; the tutorials run the same commands",
    ("docs/records", "python"): "a store of a reader; tutorials/querying runs the same functions",
    ("docs/starts", "bash"): "relaxations of 72 atoms; tutorials/bulk-host runs a small cell",
    ("docs/tutorials/own-engine", "python"): "tests/test_site.py runs it",
}
"""Blocks of a language that do not run on a page, with the reason; their commands and options must exist all the same.

A single block has its reason in a comment before it: `<!-- not run: REASON -->`. A block after `<!-- needs PACKAGE -->`
runs where the package is installed.
"""

CONTINUES = {
    "docs/tutorials/querying": "docs/tutorials/bulk-host",
    "docs/tutorials/other-packages": "docs/tutorials/layer",
    "docs/larger-cell": "docs/tutorials/bulk-host",
    "docs/reading-a-record": "docs/tutorials/bulk-host",
    "docs/publishing": "docs/tutorials/bulk-host",
}
"""A page that goes on with the files of another page."""

ON_A_QUEUE = "docs/tutorials/queue"
"""The page whose folder names a database, a queue and a job store on a server."""

PREPARED = {"docs/tutorials/old-vasp-runs": old_runs}
"""What writes the files that a page begins with."""

FOLDERS: dict[str, Path] = {}


def running(page: str) -> list[tuple[Block, Block | None]]:
    wanted = [one for one in with_output(EVERY[page]) if (page, one[0].language) not in NOT_RUN]
    runs = [(block, shown) for block, shown in wanted if block.reason is None]
    return [(block, shown) for block, shown in runs if block.needs is None or find_spec(block.needs)]


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


RUN = sorted((page for page in EVERY if running(page)), key=lambda page: page in CONTINUES)


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
        elided = [(shown, text) for shown, text in outputs if "..." in shown.text.splitlines()]
        rewrite(ROOT / f"{page}.md", [one for one in outputs if one not in elided])
        outputs = elided
    wrong = [
        f"{page}.md:{shown.span[0] + 1} shows\n{shown.text}\nand this is printed\n{printed}"
        for shown, printed in outputs
        if not agrees(shown.text, printed)
    ]
    assert not wrong, "\n".join(wrong)


def test_reasons_are_of_blocks_that_exist() -> None:
    there = {(page, block.language) for page, found in EVERY.items() for block in found}
    assert set(NOT_RUN) <= there
    commented = sum(block.reason is not None for found in EVERY.values() for block in found)
    lines = [line for page in EVERY for line in (ROOT / f"{page}.md").read_text(encoding="utf-8").splitlines()]
    written = sum(line.lstrip().startswith("<!-- not run: ") for line in lines)
    assert commented == written, "a reason stands right before its block"


def test_settings_and_data_parse() -> None:
    read = {"yaml": yaml.safe_load, "json": json.loads}
    shown = [block for found in EVERY.values() for block in found if block.language in read]
    assert len(shown) > 2
    assert all(read[block.language](block.text) for block in shown)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("21 steps", "21 steps\n", True),
        ("21 steps", "22 steps", True),  # another processor
        ("21 steps", "31 steps", False),
        ("21 steps", "21 pairs", False),
        ("~48.1% saved", "-100.0% saved", True),  # core-hours beside other work
        ("48.1% saved", "-48.1% saved", False),
        ("2026-11-29", "2026-11-29", True),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("a\n...\nz", "a\nb\nc", False),
        ("...\nz", "z", True),
        ("a", "a\nb", False),
    ],
)
def test_what_counts_as_the_same_output(*, shown: str, printed: str, same: bool) -> None:
    assert agrees(shown, printed) is same


def test_unknown_options_and_commands_are_found() -> None:
    assert unknown("definet run GaN.cif --supercel 2 2 1 --defect v_N") == ["--supercel"]
    assert unknown("definet runn GaN.cif") == ["runn"]
    assert unknown("definet models lst") == ["lst"]
    assert unknown("definet records build --folder RUN") == []
