"""`definet check`: the work of a campaign, and its faults, before anything is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.campaign.engine import write_campaign_inputs
from definet_flows.cli.campaign.options import CampaignOptions, campaign_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.workflows.campaign.preflight import CheckLine

_FAILED = 1
_MARKS = {"ok": Text("ok", "green"), "warn": Text("warns", "yellow"), "fail": Text("fails", "bold red")}


@app.command()
@campaign_command
def check(
    campaign: CampaignOptions, placement: options.Placement = None, write_inputs: options.WriteInputs = None
) -> None:
    """Show the work of `definet run` with the same options on this machine; exit code 1 if something would fail."""
    from definet_flows.workflows.campaign.preflight import preflight
    from definet_flows.workflows.queue.routing import read_placement

    if write_inputs is not None:
        write_campaign_inputs(campaign.maker(), campaign.host, write_inputs)
    lines = preflight(campaign.maker(), campaign.host, read_placement(placement), [placement] if placement else ())
    tell_lines(lines)
    failing = sum(line.level == "fail" for line in lines)
    if failing:
        console.print(f"{failing} of {len(lines)} lines would fail")
        raise typer.Exit(_FAILED)


def tell_lines(lines: Sequence[CheckLine]) -> None:
    """Print the lines of the check."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for line in lines:
        table.add_row(_MARKS[line.level], line.subject, line.text)
    console.print(table, highlight=False)
