"""What pre-relaxation saves under real DFT: defects of h-BN and of phosphorene, relaxed by GPAW (docs/notes/dft.md).

    python benchmarks/dft.py run --store hbn.sqlite        relax what is missing, in the order of the page
    python benchmarks/dft.py commit --store hbn.sqlite     take finished relaxations into the file of records
    python benchmarks/dft.py restore --store hbn.sqlite    put those of the file into a store: `run` goes on from them
    python benchmarks/dft.py table                         what the file of records says; into the pages with --write
    python benchmarks/dft.py report -o hbn.html            the report of the file of records

Each command takes `--campaign phosphorene`. A run that was killed goes on from its last positions. `commit` leaves out
what belongs to a machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from standins.dft_campaign import CAMPAIGNS, HBN, run
from standins.dft_page import PAGE, README, put, table, totals, write_report
from standins.dft_records import commit, restore


def main() -> None:
    """Run what the command line asks for."""
    given = _parser().parse_args()
    campaign = CAMPAIGNS[given.campaign]
    data = getattr(given, "data", None) or campaign.data
    if given.command == "run":
        run(campaign, given.store, given.folder or Path(f"{campaign.name}-jobs"), given.engine)
    elif given.command == "commit":
        print(f"{commit(given.store, data)} documents in {data}")
    elif given.command == "restore":
        print(f"{restore(given.store, data)} documents were new")
    elif given.command == "report":
        print(f"{write_report(data, given.output) / 1e6:.1f} MB in {given.output}")
    else:
        tables = table(campaign, data)
        print(tables, end="")
        if given.write:
            put(tables, PAGE, campaign.name)
            if campaign is HBN:
                put(totals(campaign, data), README, "dft")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ("run", "commit", "restore", "table", "report")}
    for name, one in parsers.items():
        one.add_argument("--campaign", choices=CAMPAIGNS, default=HBN.name)
        if name in {"run", "commit", "restore"}:
            one.add_argument("--store", required=True, help="record store: a path that ends in .sqlite")
        if name != "run":
            one.add_argument("--data", type=Path, help="file of records  [default: that of the campaign]")
    parsers["table"].add_argument("--write", action="store_true", help="put them into docs/notes/dft.md and README.md")
    parsers["report"].add_argument("--output", "-o", type=Path, required=True, help="the page")
    parsers["run"].add_argument("--folder", type=Path, help="folder for the jobs  [default: CAMPAIGN-jobs]")
    parsers["run"].add_argument("--engine", default="gpaw", help="another engine tries the command out")
    return parser


if __name__ == "__main__":
    main()
