"""What pre-relaxation saves under real DFT: defects of h-BN, relaxed by GPAW (docs/notes/dft.md).

    python benchmarks/dft.py run --store hbn.sqlite        relax what is missing, in the order of the page
    python benchmarks/dft.py commit --store hbn.sqlite     take finished relaxations into the file of records
    python benchmarks/dft.py restore --store hbn.sqlite    put those of the file into a store: `run` goes on from them
    python benchmarks/dft.py table                         what the file of records says; into the pages with --write

A run that was killed goes on from its last positions. `commit` leaves out what belongs to a machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from standins.dft_campaign import DATA, README, commit, restore, run, table, totals, write_page


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ("run", "commit", "restore", "table")}
    for name, one in parsers.items():
        if name != "table":
            one.add_argument("--store", required=True, help="record store: a path that ends in .sqlite")
        if name != "run":
            one.add_argument("--data", type=Path, default=DATA, help="file of records")
    parsers["table"].add_argument(
        "--write", action="store_true", help="put them into docs/notes/dft.md and README.md"
    )
    parsers["run"].add_argument("--folder", type=Path, default=Path("hbn-jobs"), help="folder for the jobs")
    parsers["run"].add_argument("--engine", default="gpaw", help="another engine tries the command out")
    given = parser.parse_args()
    if given.command == "run":
        run(given.store, given.folder, given.engine)
    elif given.command == "commit":
        print(f"{commit(given.store, given.data)} documents in {given.data}")
    elif given.command == "restore":
        print(f"{restore(given.store, given.data)} documents were new")
    else:
        tables = table(given.data)
        print(tables, end="")
        if given.write:
            write_page(tables)
            write_page(totals(given.data), README, "dft")


if __name__ == "__main__":
    main()
