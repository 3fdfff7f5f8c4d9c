"""The measured tables and summary cells of the page Proofs (docs/proofs.md), from benchmarks/paper/results/.

python benchmarks/paper/page.py            print the tables
python benchmarks/paper/page.py --write    put tables and cells into the page
python benchmarks/paper/page.py --check    exit code 1 if the page says something else
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.support.paper_page import page
from benchmarks.support.paper_summary import cells
from definet_flows.atomic import write_whole

PAGE = Path(__file__).parents[2] / "docs" / "proofs.md"


def filled(text: str, blocks: dict[str, str]) -> str:
    """Return a page with the text of each block between `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{PAGE.name} has no {begin} ... {end}: put it where the block belongs")
        text = f"{before}{begin}{block}{end}{after}"
    return text


def main() -> None:
    """Print, write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    results, text = Path(__file__).parent / "results", PAGE.read_text(encoding="utf-8")
    tables, short = page(results), cells(results)
    whole = filled(text, {**short, "short": f"\n{short['short']}", "measured": f"\n{tables}"})
    if given.write:
        write_whole(PAGE, whole)
    elif given.check:
        sys.exit(text != whole)
    else:
        print(tables, end="")


if __name__ == "__main__":
    main()
