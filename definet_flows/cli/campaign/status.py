"""`definet status`: the progress of launched campaigns, once or as a live table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.errors import InputError
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from definet_flows.workflows.queue.status import Status
    from definet_flows.workflows.queue.watch import Watched

_SECONDS = 5.0
_FAST = 100.0
"""Configurations an hour from which on the rate has no decimals."""
_STATES = ("enumerated", "predicted", "waiting", "relaxing", "recorded", "failed")
_ID = 8  # characters


@app.command()
def status(
    store: options.Store = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every five seconds until all has ended.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: enumerated, predicted, waiting, relaxing, recorded, failed.")
    ] = False,
) -> None:
    """Show the progress of the launched campaigns, in configurations."""
    import json

    found = _statuses(store)
    if as_json:
        typer.echo(json.dumps([status.model_dump(mode="json") for status in found], indent=2))
        return
    if not watch:
        console.print(_drawn(found))
        return
    _watch(store)


def _watch(store: str | None) -> None:
    """Draw the campaigns again and again until all have ended; a store that cannot be reached now is asked again."""
    from definet_flows.stores import open_store
    from definet_flows.workflows.queue.watch import Watcher

    watcher = Watcher()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            try:
                with open_store(store, read_only=True) as records:
                    found = watcher.look(records)
            except InputError as error:
                live.console.print(Text(one_line(f"looked in vain: {error}"), style="yellow"), soft_wrap=True)
            else:
                live.update(watched(found), refresh=True)
                if all(campaign.ended for campaign in found):
                    return
            time.sleep(_SECONDS)


def _statuses(store: str | None) -> list[Status]:
    from definet_flows.stores import open_store
    from definet_flows.workflows.queue.status import statuses

    with open_store(store, read_only=True) as records:
        found = statuses(records)
        if not found:
            msg = f"no campaign was launched into record store {records.name!r}: definet launch, or name another store"
            raise InputError(msg)
    return found


def _drawn(found: list[Status]) -> RenderableType:
    return Group(
        *(part for status in found for part in (f"{status.name}, {status.queue}, {status.launched}", _counts(status)))
    )


def _counts(status: Status) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in (*_STATES, ""):
        table.add_column(name, justify="right")
    bar = ProgressBar(total=status.enumerated, completed=status.recorded + status.failed, width=40)
    table.add_row(*(str(getattr(status, name)) for name in _STATES), bar)
    return table


# ------------------------------------------------------------------ live


def watched(found: Sequence[Watched]) -> RenderableType:
    """Return the live table of each campaign: stages, rate and costs, last failures."""
    return Group(*(part for one in found for part in _campaign(one)))


def _campaign(one: Watched) -> list[RenderableType]:
    campaign, total = one.campaign, one.total
    bar = ProgressBar(total=total.enumerated, completed=total.recorded + total.failed, width=70)
    heading = Text(one_line(f"{campaign.name}, {campaign.queue}, {campaign.launched}"), style="bold")
    line = Table.grid()  # a bar alone ends no line
    line.add_row(bar)
    parts: list[RenderableType] = [heading, _stage_table(one), line, *map(Text, _figures(one))]
    if one.failures:
        parts += [Text("last failures", style="bold"), *map(_failure_line, _failure_texts(one))]
    return parts


def _stage_table(one: Watched) -> Table:
    table = Table("stage", box=None, pad_edge=False)
    for name in _STATES:
        table.add_column(name, justify="right")
    for stage in (*one.stages, one.total):
        table.add_row(stage.name, *(str(getattr(stage, name)) for name in _STATES))
    return table


def _figures(one: Watched) -> tuple[str, ...]:
    rate = "unknown: no times recorded"
    if one.rate is not None:
        rate = f"{one.rate:{',.0f' if one.rate >= _FAST else '.3g'}} configurations an hour"
    end = f"{one.end:%Y-%m-%d %H:%M} UTC" if one.end else "unknown"
    pairs = f"{one.pairs} pair{'s' * (one.pairs != 1)}"
    saved = f"{one.steps_saved} in {pairs}" if one.pairs else "-, no pair in the same minimum"
    hours = "unknown" if one.core_hours is None else f"{one.core_hours:.4g}"
    return (
        f"rate {rate}; {'all have ended' if one.ended else f'expected end {end}'}",
        f"ionic steps saved {saved}; core-hours spent {hours}",
    )


def _failure_texts(one: Watched) -> list[str]:
    from definet_flows.schemas import signed

    return [
        f"{failure.finished or 'no time'}  {failure.configuration_id[:_ID]}  {failure.name} {signed(failure.charge)}  "
        f"{failure.reason}"
        for failure in one.failures
    ]


def _failure_line(text: str) -> Text:
    return Text(one_line(text), no_wrap=True, overflow="ellipsis")
