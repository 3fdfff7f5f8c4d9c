"""`definet report` and `definet explain`: a page to send, and a configuration in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from definet_flows.cli import options
from definet_flows.cli.app import app, console, errors
from definet_flows.cli.records.filters import EngineName, HostName, Name, PreRelaxer, Weights, Where, read_filter
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from definet_flows.report.bonds import Bond
    from definet_flows.report.explain import ExplainedStart, Explanation
    from definet_flows.report.names import Asked

_FORMATS = ("png", "svg")
_SECONDS = 60.0  # between two pages of --watch
_BAR = 40  # columns of the terminal


@app.command()
def report(
    store: options.Store = None,
    host: HostName = None,
    name: Name = None,
    engine: EngineName = None,
    weights: Weights = None,
    prerelaxer: PreRelaxer = None,
    where: Where = options.NONE,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    figures: Annotated[Path | None, typer.Option(help="Folder for every figure as a separate file, too.")] = None,
    form: Annotated[str, typer.Option("--format", help="Format of --figures: png or svg.")] = "png",
    watch: Annotated[bool, typer.Option("--watch", help="Write the page again every minute, until Ctrl-C.")] = False,
) -> None:
    """Write a page on a store or a part of it: savings, figures, structures that can be turned, a table that filters.

    The page is a single HTML file that opens without a network; steps are force evaluations, lengths in Å, times in
    core-hours.
    """
    from definet_flows.errors import InputError

    options.check_writable(output)
    if form not in _FORMATS:
        msg = f"--format {form}: take {', '.join(_FORMATS)}"
        raise InputError(msg)
    if figures is not None and figures.exists() and not figures.is_dir():
        msg = f"--figures {figures} is a file: name a folder"
        raise InputError(msg)
    asked = read_filter(host, name, engine, weights, prerelaxer, where)
    _write(store, asked, output, figures, form)
    while watch:
        time.sleep(_SECONDS)
        try:
            _write(store, asked, output, figures, form)
        except InputError as error:  # a database that is away for a while does not end a watch of days
            errors.print(one_line(f"not renewed: {error}"), soft_wrap=True)


def _write(store: str | None, asked: Asked, output: Path, figures: Path | None, form: str) -> None:
    """Write the page, and the figures if a folder is named, from the records as they are now."""
    from definet_flows.report.page import write_page
    from definet_flows.report.reading import read_contents
    from definet_flows.report.summary import card_headlines
    from definet_flows.stores import open_store

    with open_store(store, read_only=True) as records:
        contents = read_contents(records, Path(records.location).name, asked.within(records))
    size = write_page(contents, output)
    for line in card_headlines(contents.cards, contents.total):
        _say(line)
    console.print(
        f"{output}: {size / 1e6:.1f} MB, opens without a network", highlight=False, markup=False, soft_wrap=True
    )
    if figures is not None:
        from definet_flows.report.figures.gallery import write_figures

        files = write_figures(contents, figures, form)  # type: ignore[arg-type]  # checked above
        _say(f"{figures}: {len(files)} figures")


@app.command()
def explain(
    identity: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Id of a configuration or a record, the first characters of an id, or a unique name.",
        ),
    ],
    store: options.Store = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it to this file, .png or .svg.")] = None,
) -> None:
    """Explain a configuration: its edits, bonds, prediction, both relaxations, and the verdict."""
    from definet_flows.errors import InputError
    from definet_flows.report.cases import find_cases, told_once
    from definet_flows.report.explain import PROPOSAL
    from definet_flows.report.explain import explain as tell
    from definet_flows.stores import open_store

    options.check_writable(figure)
    if figure is not None and figure.suffix.lstrip(".") not in _FORMATS:
        msg = f"--figure {figure}: name a file that ends in .png or .svg"
        raise InputError(msg)
    with open_store(store, read_only=True) as records:
        cases, proposals = told_once(find_cases(records, identity))
    if figure is not None and len(cases) > 1:
        some = ", ".join(case.shown.id[:12] for case in cases[:5])
        msg = (
            f"{identity!r} was relaxed with {len(cases)} settings or weights: --figure needs the id of a record: {some}"
        )
        raise InputError(msg)
    for case in cases:
        explanation = tell(case)
        _print(explanation, case.shown.configuration_id, [record.id for record in case.records])
        if figure is not None:
            _draw(explanation, figure)
    if proposals:
        console.print("other pre-relaxers that were asked", style="bold")
    for case in proposals:
        _words([part for part in tell(case).paragraphs if part[0] in PROPOSAL])


def _draw(explanation: Explanation, figure: Path) -> None:
    from definet_flows.errors import InputError
    from definet_flows.report.figures.drawing import write_overlay

    if explanation.drawing is None:
        msg = f"{explanation.title}: the record holds no structures to draw"
        raise InputError(msg)
    write_overlay(explanation.drawing, figure, figure.suffix.lstrip("."))  # type: ignore[arg-type]  # checked above
    _say(f"drawn to {figure}")


def _print(explanation: Explanation, configuration_id: str, record_ids: list[str]) -> None:
    console.print(one_line(explanation.title), style="bold")
    ids = f"configuration {configuration_id}, records {', '.join(record_id[:12] for record_id in record_ids)}"
    console.print(ids, style="dim", soft_wrap=True)
    _words(explanation.paragraphs)
    if explanation.bonds:
        console.print(_bonds(explanation.bonds))
    console.print(_starts(explanation.starts))
    console.print(_steps(explanation.starts))
    for start in explanation.starts:
        for note in start.notes:
            console.print(f"{start.start}: {one_line(note)}", soft_wrap=True)


def _words(paragraphs: Iterable[tuple[str, str]]) -> None:
    words = Table(show_header=False, box=None, pad_edge=False)
    for heading, text in paragraphs:
        words.add_row(Text(heading, style="bold"), text)
    console.print(words)


def _bonds(bonds: tuple[Bond, ...]) -> Table:
    table = Table("site", "neighbour", title=Text("bonds [Å]"), title_justify="left")
    for heading in ("unrelaxed", "predicted", "relaxed", "change"):
        table.add_column(heading, justify="right")
    for bond in bonds:
        change = None if bond.relaxed is None else bond.relaxed - bond.unrelaxed
        lengths = (bond.unrelaxed, bond.predicted, bond.relaxed)
        table.add_row(
            bond.defect, bond.neighbour, *(_number(length, ".3f") for length in lengths), _number(change, "+.3f")
        )
    return table


def _starts(starts: tuple[ExplainedStart, ...]) -> Table:
    table = Table("relaxation from the", title="relaxations", title_justify="left")
    for start in starts:
        table.add_column(f"{start.start} start" if start.start == "unrelaxed" else "prediction", justify="right")
    rows: dict[str, list[str]] = {
        "status": [start.status if start.status != "done" or start.converged else "not converged" for start in starts],
        "ionic steps": [_number(start.steps, "d") for start in starts],
        "electronic steps": [_number(start.electronic, "d") for start in starts],
        "core-hours": [_number(start.core_hours, ".3g") for start in starts],
        "largest force at the start [eV/Å]": [_number(start.start_force, ".3f") for start in starts],
        "largest force at the end [eV/Å]": [_number(start.end_force, ".4f") for start in starts],
        "energy of the cell [eV]": [_number(start.energy, ".4f") for start in starts],
        "point group, start → end": [start.point_groups for start in starts],
    }
    for heading, cells in rows.items():
        table.add_row(heading, *cells)
    return table


def _steps(starts: tuple[ExplainedStart, ...]) -> Table:
    """Bars as long as the steps of each start."""
    figure = Table(show_header=False, box=None, pad_edge=False, title="ionic steps", title_justify="left")
    most = max((start.steps or 0 for start in starts), default=0)
    colors = {"unrelaxed": "dark_orange3", "predicted": "deep_sky_blue3"}
    for start in starts:
        steps = start.steps or 0
        figure.add_row(
            start.start, Bar(most or 1, 0, steps, width=_BAR, color=colors[start.start]), _number(start.steps, "d")
        )
    return figure


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
