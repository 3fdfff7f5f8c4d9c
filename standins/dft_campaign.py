"""The campaign of h-BN under GPAW: its configurations, the run, and its records in a file (docs/notes/dft.md)."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definet_flows.atomic import write_whole
from definet_flows.defects import Choices, enumerate_configurations
from definet_flows.hosts import make_host, to_structure
from definet_flows.schemas import (
    Configuration,
    DefectRecord,
    Document,
    Host,
    KnownPreRelaxer,
    Pair,
    Prediction,
    RelaxedHost,
    Supercell,
    dump,
    joined_name,
)
from definet_flows.stores import Records, open_store
from definet_flows.stores.versions import parse
from standins.dft_table import markdown, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]

PAGE = _ROOT / "docs" / "notes" / "dft.md"
"""The page that shows the tables, between two marks."""

README = _ROOT / "README.md"
"""It shows the totals, between two marks named `dft`."""

DATA = _ROOT / "benchmarks" / "data" / "hbn-gpaw.jsonl.gz"
"""Documents of the campaign, each a line of JSON, in the order of kind and id."""

HOST, SUPERCELL, VACUUM = "BN", (4, 4, 1), 15.0
_KINDS: dict[str, type[Document]] = {
    "host": RelaxedHost,
    "pair": Pair,
    "prediction": Prediction,
    "prerelaxer": KnownPreRelaxer,
    "record": DefectRecord,
    "supercell": Supercell,
}
_PLACE = re.compile(r"\S+:/[^\s:]+")  # machine:/folder
OF_MACHINE = dict.fromkeys(("hostname", "directory", "job_uuid", "owner", "pid", "session"))
"""What a document says of the machine and the process that made it; nothing of it is committed."""


# ------------------------------------------------------------------ what is relaxed


@dataclass(frozen=True)
class Case:
    """A configuration in words: its defects and, of a pair, whether they are as near or as far as they can be."""

    defects: tuple[str, ...]
    place: str = ""

    @property
    def name(self) -> str:
        """Name such as `v_N`, or `v_N+C_B near`."""
        return f"{joined_name(self.defects)} {self.place}".strip()


CASES = (
    Case(("C_B",)),
    Case(("C_N",)),
    Case(("v_N",)),
    Case(("v_B",)),
    Case(("C_B", "C_N"), "near"),
    Case(("v_N", "C_B"), "near"),
    Case(("v_B", "C_N"), "near"),
    Case(("C_B", "C_N"), "far"),
    Case(("v_B", "v_N"), "near"),
    Case(("v_N", "C_B"), "far"),
    Case(("v_B", "C_N"), "far"),
    Case(("v_N", "v_N"), "near"),
)
"""Twelve configurations, in the order in which they are relaxed."""

WAYS = ("definet", "potential:sevennet", "fields")
"""The pre-relaxers whose starts are relaxed beside the unrelaxed one; fields have none for the first single defects."""


@cache
def host() -> Host:
    """Return the bulk supercell."""
    return make_host(HOST, SUPERCELL, vacuum=VACUUM)


def choices(case: Case) -> Choices:
    """Return the choices that allow a case's defects, all of them, at any distance."""
    counts = {name: case.defects.count(name) for name in case.defects}
    return Choices(defects=tuple(counts), max_per_kind=counts, min_defects=len(case.defects))


@cache
def configuration(case: Case) -> tuple[Configuration, float | None]:
    """Return the configuration of a case, and the distance of its defects, Å; None for a single defect."""
    found = list(enumerate_configurations(host(), choices(case)))
    if not case.place:
        (only,) = found
        return only, None
    cell = to_structure(host())
    apart = [cell.get_distance(*(edit.site for edit in one.edits)) for one in found]
    which = min if case.place == "near" else max
    chosen = which(range(len(found)), key=apart.__getitem__)
    return found[chosen], apart[chosen]


def run(store: str, folder: Path, engine: str) -> None:
    """Relax each case from every start; what the store has is not computed again."""
    from definet_flows.workflows import DefectFlowMaker  # noqa: PLC0415 - loads torch, which `commit` does not need
    from definet_flows.workflows.campaign.local import run_here  # noqa: PLC0415

    for case in CASES:
        maker = DefectFlowMaker(
            supercell=SUPERCELL,
            vacuum=VACUUM,
            defects=choices(case),
            engine=engine,
            control_fraction=1.0,
            prerelaxer=WAYS,
            store=store,
        )
        campaign = replace(maker.campaign(HOST), configurations=(configuration(case)[0],))
        _say(case.name)
        totals = run_here(maker.assemble(campaign), folder, lambda event, name: _say(f"  {event} {name}"))
        _say(f"  {totals['message'] if totals else 'did not finish: run this command again'}")


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)  # noqa: T201 - a command shows its progress


# ------------------------------------------------------------------ what is kept


def commit(store: str, data: Path) -> int:
    """Write the finished relaxations of a store, and all that belongs to them, beside what a file holds.

    The same documents give the same bytes.

    Returns
    -------
    int
        How many documents the file holds then.
    """
    with open_store(store, read_only=True) as records:
        mine = {one["id"]: one for one in map(_portable, finished(records))}
    kept = {one["id"]: one for one in read(data)} | mine
    lines = [json.dumps(one, sort_keys=True) for one in sorted(kept.values(), key=lambda one: (one["kind"], one["id"]))]
    data.parent.mkdir(parents=True, exist_ok=True)
    with data.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
    return len(kept)


def finished(records: Records) -> Iterator[Document]:
    """Yield the documents of a store that a later run can build on."""
    for kind in _KINDS.values():
        criteria = {"status": "done"} if kind is DefectRecord else {}
        yield from records.find(kind, criteria)


def _portable(document: Document) -> dict[str, Any]:
    """Return a document without what belongs to the machine that made it: names, folders, processes."""
    raw = dump(document)
    if "provenance" in raw:
        raw["provenance"] |= OF_MACHINE
    if ledger := raw.get("ledger"):
        ledger["notes"] = [_PLACE.sub("a folder", note) for note in ledger["notes"]]
        for attempt in ledger["attempts"]:
            attempt["directory"] = None
    return raw


def read(data: Path) -> list[dict[str, Any]]:
    """Return the documents in a file; none if there is no file."""
    if not data.is_file():
        return []
    with gzip.open(data, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def restore(store: str, data: Path) -> int:
    """Put the documents of a file into a store, unless it has them; return how many were new."""
    with open_store(store) as records:
        known = {one.id for kind in _KINDS.values() for one in records.find(kind)}
        new = [parse(one, _KINDS[one["kind"]]) for one in read(data) if one["id"] not in known]
        records.put(*new)
    return len(new)


@contextmanager
def opened(data: Path) -> Iterator[Records]:
    """Open the documents of a file as a store."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "records.sqlite")
        restore(store, data)
        with open_store(store, read_only=True) as records:
            yield records


def table(data: Path) -> str:
    """Return the tables of a file of records, in Markdown."""
    with opened(data) as records:
        return markdown(records, _cases())


def totals(data: Path) -> str:
    """Return the totals of a file of records, a row for each pre-relaxer."""
    with opened(data) as records:
        return summary(records, _cases())


def _cases() -> dict[str, tuple[str, float | None]]:
    """Return name and distance of the defects of each case by configuration_id."""
    cases = {case.name: configuration(case) for case in CASES}
    return {one.id_in(host().hash): (name, apart) for name, (one, apart) in cases.items()}


def write_page(tables: str, page: Path = PAGE, name: str = "table") -> None:
    """Put the tables into a page, between the marks of that name."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    write_whole(page, f"{before}{mark}{tables}{end}{after}")
