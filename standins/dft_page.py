"""What the records of a campaign look like on the pages: tables, totals, and the report as an example."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from definet_flows.atomic import write_whole
from standins.dft_records import opened
from standins.dft_table import markdown, summary

if TYPE_CHECKING:
    from standins.dft_campaign import Campaign

_ROOT = Path(__file__).parents[1]

PAGE = _ROOT / "docs" / "notes" / "dft.md"
"""The page that shows the tables of each campaign, between two marks of its name."""

README = _ROOT / "README.md"
"""It shows the totals of h-BN, between two marks named `dft`."""


def table(campaign: Campaign, data: Path) -> str:
    """Return the tables of a file of records, in Markdown."""
    with opened(data) as records:
        return markdown(records, campaign.names)


def totals(campaign: Campaign, data: Path) -> str:
    """Return how many configurations a file of records holds, and a row for each pre-relaxer that has pairs."""
    with opened(data) as records:
        return summary(records, campaign.names)


def write_report(data: Path, path: Path) -> int:
    """Write the report of a file of records; return its size, bytes."""
    from definet_flows.report.page import write_page  # noqa: PLC0415 - loads plotly
    from definet_flows.report.reading import read_contents  # noqa: PLC0415

    with opened(data) as records:
        return write_page(read_contents(records, data.name.partition(".")[0]), path)


def put(tables: str, page: Path, name: str) -> None:
    """Put tables into a page, between the marks of that name.

    Raises
    ------
    ValueError
        If the page has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        msg = f"{page} has no marks {begin.strip()} and {end}"
        raise ValueError(msg)
    before, after = text.partition(begin)[0], text.partition(end)[2]
    write_whole(page, f"{before}{begin}{tables}{end}{after}")
