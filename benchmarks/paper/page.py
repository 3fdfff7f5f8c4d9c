"""The measured tables of the page Proofs (docs/proofs.md), from benchmarks/paper/results/.

python benchmarks/paper/page.py            print them
python benchmarks/paper/page.py --write    put them into the page
python benchmarks/paper/page.py --check    exit code 1 if the page says something else
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.support.paper_page import page
from definet_flows.atomic import write_whole

PAGE = Path(__file__).parents[2] / "docs" / "proofs.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->"


def main() -> None:
    """Print, write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    tables, text = page(Path(__file__).parent / "results"), PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    shown, _, after = rest.partition(END)
    if given.write:
        write_whole(PAGE, f"{before}{BEGIN}{tables}{END}{after}")
    elif given.check:
        sys.exit(shown != tables)
    else:
        print(tables, end="")


if __name__ == "__main__":
    main()
