"""What starts learn from the first 20, 50 and 100 records of GaN: errors and ionic steps on pairs that are held out.

    python benchmarks/curve.py run FOLDER             # goes on where it stopped
    python benchmarks/curve.py table FOLDER --write   # into benchmarks/data and docs/notes/learning-curve.md
    python benchmarks/curve.py commit FOLDER          # the records into benchmarks/data
    python benchmarks/curve.py restore FOLDER         # and back: `run` goes on from them on another machine

The engine is SevenNet-0 at fixed cell, the host that of `starts_steps.py`. FOLDER holds the record store `GaN.sqlite`,
a store for each number of records, and the networks. A copy of the `GaN.sqlite` of `starts_steps.py` saves what it has.
`table` takes a number of records that FOLDER has no store of from benchmarks/data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.starts_steps import store_of
from benchmarks.support.curve_cases import HOST, cases, labels
from benchmarks.support.curve_starts import measured, proposals_of, propose, relax_from
from standins.dft_page import put
from standins.dft_records import commit, restore
from standins.learning_curve import DATA, LABELS, PAGE, read, tables, write

RECORDS = (20, 50, 100)


def run(folder: Path, seconds: float, counts: tuple[int, ...], relaxed_from: tuple[int, ...]) -> None:
    """Relax, train, propose and relax from the proposals, one number of records after the other."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    learned, held_out = cases()
    for count in counts:
        labels(folder, learned, count)
        labels(folder, held_out, len(held_out.ids))
        keys = propose(folder, learned, held_out, count, seconds)
        if count in relaxed_from:
            relax_from(folder, held_out, count, keys)


def table(folder: Path, *, into_page: bool) -> None:
    """Print what is measured so far."""
    _, held_out = cases()
    here = [count for count in RECORDS if proposals_of(folder, count).exists()]
    if not here:
        raise SystemExit(f"{folder} holds no proposals: give `run` this folder first")
    earlier = [one for one in read(DATA) if one.records not in here]
    found = [*earlier, *(one for count in here for one in measured(folder, held_out, count))]
    found.sort(key=lambda one: one.records)
    print(tables(found), end="")
    if into_page:
        write(DATA, found)
        put(tables(found), PAGE, "table")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ("run", "table", "commit", "restore")}
    for one in parsers.values():
        one.add_argument("folder", type=Path)
    running, shown = parsers["run"], parsers["table"]
    running.add_argument("--seconds", type=float, default=200, help="of processor, of each training")
    running.add_argument("--records", type=int, nargs="+", choices=RECORDS, default=RECORDS, help="learn from so many")
    running.add_argument(
        "--steps",
        type=int,
        nargs="*",
        choices=RECORDS,
        default=[20, 100],
        help="numbers of records whose starts are relaxed",
    )
    shown.add_argument("--write", action="store_true", help="into benchmarks/data and the page")
    given = parser.parse_args()
    store = str(store_of(given.folder, HOST))
    if given.command == "run":
        run(given.folder, given.seconds, tuple(given.records), tuple(given.steps))
    elif given.command == "commit":
        print(f"{commit(store, LABELS)} documents in {LABELS}")
    elif given.command == "restore":
        given.folder.mkdir(parents=True, exist_ok=True)
        print(f"{restore(store, LABELS)} documents were new")
    else:
        table(given.folder, into_page=given.write)


if __name__ == "__main__":
    main()
