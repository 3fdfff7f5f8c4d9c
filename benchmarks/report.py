"""Time and size of the report of a large store, and how long a browser needs to show it.

    python benchmarks/report.py [--records 5000] [--keep FOLDER]

Makes a journal of records with real geometry and made-up ends (two hosts, four sizes, two sets of weights, every
verdict, gated, failed and unfinished pairs), writes its page, and opens that in Chromium if there is one.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from definet_flows.defects import nodes, place, unrelaxed_positions
from definet_flows.hosts import make_host
from definet_flows.report.figures.deviations import defect_distances
from definet_flows.report.page import write_page
from definet_flows.report.reading import read_contents
from definet_flows.schemas import (
    VACANCY,
    Attempt,
    Configuration,
    DefectRecord,
    FloatArray,
    Gate,
    Host,
    HostNote,
    Ledger,
    Pair,
    PredictionNote,
    Provenance,
    SiteMap,
    Start,
    content_hash,
)
from definet_flows.stores import Records, SqliteStore, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

SETTINGS = "5" * 32
WEIGHTS = ("a1" * 32, "b2" * 32)
HOSTS: tuple[tuple[Literal["MoS2", "WSe2"], int, tuple[str, ...]], ...] = (
    ("MoS2", 8, ("v_S", "v_Mo", "W_Mo", "Se_S")),
    ("MoS2", 6, ("v_S", "W_Mo")),
    ("WSe2", 8, ("v_Se", "S_Se", "Mo_W")),
    ("WSe2", 5, ("v_Se", "v_W")),
)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def documents(count: int, seed: int = 0) -> Iterator[DefectRecord | Pair]:
    """Yield `count` records, both arms of most configurations, and the pairs of those that have both."""
    random = np.random.default_rng(seed)
    hosts = [(make_host(name, (size, size, 1)), kinds) for name, size, kinds in HOSTS]
    made = 0
    while made < count:
        host, kinds = hosts[int(random.choice(len(hosts), p=[0.6, 0.1, 0.2, 0.1]))]
        edits = _random_edits(host, kinds, random)
        for document in _case(host, edits, made, random):
            yield document
            made += isinstance(document, DefectRecord)


def _random_edits(host: Host, kinds: tuple[str, ...], random: np.random.Generator) -> Configuration:
    """Return one to four defects at random sites, none used twice."""
    free = list(range(host.n_sites))
    names = []
    for kind in random.choice(kinds, size=random.integers(1, 5)):
        number = {"S": 16, "Mo": 42, "Se": 34, "W": 74}[str(kind).split("_")[1]]
        site = int(random.choice([one for one in free if host.numbers[one] == number]))
        free.remove(site)
        names.append(f"{kind}@{site}")
    return place(host, names)


def _case(host: Host, edits: Configuration, k: int, random: np.random.Generator) -> Iterator[DefectRecord | Pair]:
    """Yield both arms and their pair, or what there is of a gated, failed or unfinished configuration."""
    fate = random.choice(["pair", "better", "other", "unconverged", "gated", "failed", "running"], p=_FATES)
    sites = _sites(host, edits, random)
    unrelaxed = _record(host, edits, k, "unrelaxed", sites, random)
    if fate == "gated":
        gate = Gate(verdict="rejected", reason="S 12 and Mo 40 are 1.52 Å apart, least 1.86 Å")
        yield unrelaxed.model_copy(update={"prediction": _note(k, gate)})
        return
    if fate in {"failed", "running"}:
        broken = {"status": fate, "error": "ZBRENT: fatal error <in bracketing> & more" if fate == "failed" else None}
        yield unrelaxed.model_copy(update={**broken, "ledger": None})
        return
    if fate != "pair":
        sites = sites.model_copy(update={"relaxed": _shaken(sites, random)})
    predicted = _record(host, edits, k, "predicted", sites, random)
    assert predicted.ledger is not None
    change: dict[str, dict[str, float]] = {
        "better": {"energy": -101.0},
        "other": {"energy": -99.5},
        "unconverged": {"converged": False},
    }
    ledger = predicted.ledger.model_copy(update=change.get(str(fate), {}))
    predicted = predicted.model_copy(update={"ledger": ledger})
    yield unrelaxed
    yield predicted
    yield judge(unrelaxed, predicted)


_FATES = (0.82, 0.03, 0.04, 0.02, 0.06, 0.02, 0.01)


def _sites(host: Host, edits: Configuration, random: np.random.Generator) -> SiteMap:
    """Return ends whose displacements fall off with the distance to the defects, and predictions that err likewise."""
    numbers, markers = nodes(host, edits)
    start = unrelaxed_positions(host, edits)
    fall = (
        np.exp(-defect_distances(np.array(host.lattice), start, markers) / 2.5)[:, None] * (markers != VACANCY)[:, None]
    )
    move = 0.25 * fall * random.normal(size=start.shape)
    error = (0.04 * fall + 0.004) * random.normal(size=start.shape) * (markers != VACANCY)[:, None]
    return SiteMap(
        numbers=tuple(numbers.tolist()),
        markers="".join(map(str, markers)),
        unrelaxed=start,
        predicted=start + move + error,
        relaxed=start + move,
        permutation=tuple(np.flatnonzero(markers != VACANCY).tolist()),
    )


def _shaken(sites: SiteMap, random: np.random.Generator) -> FloatArray:
    assert sites.relaxed is not None
    atoms = np.array([marker != str(VACANCY) for marker in sites.markers])[:, None]
    return sites.relaxed + 0.2 * atoms * random.normal(size=sites.relaxed.shape)


def _note(k: int, gate: Gate) -> PredictionNote:
    return PredictionNote(weights=WEIGHTS[k % 3 == 0], seconds=0.05, device="cpu", gate=gate, uncertainty=0.02)


def _record(
    host: Host, edits: Configuration, k: int, start: Start, sites: SiteMap, random: np.random.Generator
) -> DefectRecord:
    scale = len(edits.edits) * (30 if start == "unrelaxed" else 12)
    steps = max(2, int(random.normal(scale, 0.3 * scale)))
    note = _note(k, Gate(verdict="accepted" if k % 7 else "flagged", reason="" if k % 7 else "moves S 3 by 0.9 Å"))
    hours = steps * (host.n_sites / 100) ** 2 * 1.5
    done = _BEGIN + timedelta(days=60 * (note.weights == WEIGHTS[1]), minutes=k)
    return DefectRecord(
        id=DefectRecord.identity(f"{k:032x}", SETTINGS, start, note.weights),
        configuration_id=content_hash("benchmark", k),
        settings_hash=SETTINGS,
        engine="vasp",
        start=start,
        status="done",
        host=HostNote.of(host),
        name=edits.name,
        n_defects=len(edits.edits),
        configuration=edits,
        sites=sites,
        prediction=note if start == "predicted" else None,
        ledger=Ledger(
            ionic_steps=steps,
            electronic_steps=12 * steps,
            core_hours=hours,
            attempts=(Attempt(ionic_steps=steps, optimizer="conjugate gradient"),),
            optimizer="conjugate gradient",
            converged=True,
            force_criterion=0.01,
            max_force=0.008,
            energy=-100.0,
        ),
        provenance=Provenance(finished=done.isoformat()),
    )


def browse(page: Path) -> None:
    """Print how long Chromium takes: until the page is loaded, and until every figure is drawn."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        print("no chromium with chromedriver: the page is not opened")
        return
    from selenium import webdriver  # noqa: PLC0415 - not needed without a browser
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.set_script_timeout(600)
            browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
            begin = time.perf_counter()
            browser.get(page.absolute().as_uri())
            _tell(browser, "browser: page loaded, table filled", begin)
            browser.execute_async_script(_DRAW_ALL)
            _tell(browser, "browser: every figure drawn", begin)
        finally:
            browser.quit()


def _tell(browser: Chrome, what: str, begin: float) -> None:
    """Print wall time, and the processor time of the page's main thread: on a busy machine they differ."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    busy = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
    print(f"{what:40s} {time.perf_counter() - begin:8.2f} s, processor {busy:.2f} s")


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1400,1000",
)
"""Of Chromium; WebGL in software"""

_DRAW_ALL = """
const done = arguments[0], boxes = [...document.querySelectorAll("[data-chart]")];
boxes.forEach((box) => box.scrollIntoView());
window.dispatchEvent(new Event("beforeprint"));
(function wait() { boxes.every((box) => box.dataset.drawn) ? done() : setTimeout(wait, 20); })();
"""


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took, wall and processor."""
    begin, busy = time.perf_counter(), time.process_time()
    yield
    print(f"{what:40s} {time.perf_counter() - begin:8.2f} s, processor {time.process_time() - busy:.2f} s")


def main() -> None:
    """Make the store, read it, write the page, open it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--keep", type=Path, help="folder for the store and the page; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        store, page = SqliteStore(str(folder / "records.sqlite")), folder / "report.html"
        with Records(store) as records:
            batch: list[DefectRecord | Pair] = []
            for document in documents(options.records):
                batch.append(document)
                if len(batch) == 100:  # noqa: PLR2004
                    records.put(*batch)
                    batch = []
            records.put(*batch)
        with timed(f"{options.records} records read"), Records(SqliteStore(store.path, read_only=True)) as records:
            contents = read_contents(records, "benchmark")
        with timed("page written"):
            size = write_page(contents, page)
        print(f"{'size of the page':40s} {size / 1e6:8.2f} MB")
        print(f"{'peak memory':40s} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MB")
        browse(page)


if __name__ == "__main__":
    main()
