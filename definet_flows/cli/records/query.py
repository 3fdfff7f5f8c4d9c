"""`definet records` and `definet savings`: questions to a record store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from definet_flows.stores import Counts, Filter, Quantity, Savings, Spending

HostName = Annotated[str | None, typer.Option("--host", help="Only this host, by reduced formula such as MoS2.")]
Name = Annotated[str | None, typer.Option("--name", help="Only these defects, such as v_S+W_Mo.")]
EngineName = Annotated[str | None, typer.Option("--engine", help="Only this engine, such as vasp.")]
Where = Annotated[
    list[str],
    typer.Option(
        help="Only these, as FIELD=VALUE, again for each: n_defects=2, n_sites=192, weights=(sha256), settings_hash=..."
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        help="A row for each host, name (defect kinds), n_defects, n_sites (size), prerelaxer, weights (its key: model "
        "version) or engine."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

records_app = typer.Typer(help="Count relaxations; `records build` adds records that a dead job did not write.")
app.add_typer(records_app, name="records")


def read_filter(host: str | None, name: str | None, engine: str | None, where: list[str]) -> Filter:
    """Return the filter of the options.

    Raises
    ------
    InputError
        If there is no such field, or a value is of the wrong type.
    """
    from definet_flows.errors import InputError
    from definet_flows.stores import Filter

    given = {key: value for key, value in (("host", host), ("name", name), ("engine", engine)) if value is not None}
    for item in where:
        field, equals, value = item.partition("=")
        if not equals or field in given:
            msg = f"--where {item}: write each field once, as n_defects=2"
            raise InputError(msg)
        given[field] = value
    return Filter.parse(given)


@records_app.callback(invoke_without_command=True)
def records(
    context: typer.Context,
    store: options.Store = None,
    host: HostName = None,
    name: Name = None,
    engine: EngineName = None,
    where: Where = options.NONE,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Count relaxations: by start, status and gate, with their cost (force evaluations, core-hours).

    Structures are not read. `definet export` writes the records themselves.
    """
    if context.invoked_subcommand is not None:
        return
    from definet_flows.errors import InputError
    from definet_flows.stores import counts, counts_by, explain_nothing, open_store
    from definet_flows.stores.analysis.figures import check_group

    chosen = read_filter(host, name, engine, where)
    check_group(by or "host")
    with open_store(store, read_only=True) as found:
        total = counts(found, chosen)
        if not total.relaxations:
            raise InputError(explain_nothing(found, chosen))
        groups = counts_by(found, by, chosen) if by else {}  # type: ignore[arg-type]  # checked above
    if as_json:
        _print_json({"total": total.model_dump()}, by, groups)
        return
    groups = {**groups, "all": total}
    console.print(_counts(groups, by or ""), _taken(groups, by or ""))


@records_app.command()
def build(
    store: options.Store = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run (it holds jobs.sqlite).  \\[default: jobflow's own JobStore if it is configured, "
            "else every run in the data folder]"
        ),
    ] = None,
) -> None:
    """Make records of relaxations that are done but were never recorded, from the jobs' outputs; again does no harm."""
    from definet_flows.stores import open_store
    from definet_flows.workflows.recovery.rebuild import RecordBuilder, free_dead, job_stores, nothing_made

    sources = job_stores(folder)
    for source in sources:  # before the record store, which opening makes
        source.connect()
    made, hosts = 0, 0
    with open_store(store) as found:
        place = found.location
        for source in sources:
            for document in RecordBuilder(source, found).build():
                status = getattr(document, "status", "host")
                name = getattr(document, "name", document.host.formula)
                console.print(f"{one_line(name)} {getattr(document, 'start', '')}: {status}")
                made += status != "host"
                hosts += status == "host"
        for record in free_dead(found):
            console.print(f"{one_line(record.name)} {record.start}: failed, {one_line(str(record.error))}")
            made += 1
        why = "" if made or hosts else f": {nothing_made(sources)}"
    console.print(f"{made} records made in {place}{why}", highlight=False, soft_wrap=True)


@records_app.command()
def schema() -> None:
    """Print the JSON schema of a stored record; the units of every field are in it."""
    from definet_flows.stores.versions import record_schema

    typer.echo(json.dumps(record_schema(), indent=1, ensure_ascii=False))


@app.command()
def savings(
    store: options.Store = None,
    host: HostName = None,
    name: Name = None,
    engine: EngineName = None,
    where: Where = options.NONE,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Show the savings of pre-relaxation: pairs in the same minimum, and beside them everything else.

    Steps are force evaluations, restarts included; energies are in eV, times in core-hours.
    """
    from definet_flows.errors import InputError
    from definet_flows.report.summary import judges
    from definet_flows.stores import explain_nothing, gather, open_store
    from definet_flows.stores.analysis.figures import check_group

    chosen = read_filter(host, name, engine, where)
    check_group(by or "host")
    with open_store(store, read_only=True) as found:
        evidence = gather(found, chosen)
        if not evidence.rows:
            raise InputError(explain_nothing(found, chosen))
    total = evidence.total()
    groups = evidence.by(by) if by else {}  # type: ignore[arg-type]  # checked above
    if as_json:
        _print_json({"saving": total.saving, "total": total.model_dump(mode="json")}, by, groups)
        return
    if by:
        console.print(_saved(by, groups), _outcomes(by, groups))
    if by in ("prerelaxer", "weights"):
        console.print(_prerelaxing(by, groups))
    console.print(_costs(total), _apart(total))
    console.print(total.message, highlight=False)
    console.print(judges(sorted({row.engine for row in evidence.rows})), highlight=False)


def _print_json(result: dict[str, Any], by: str | None, groups: Mapping[str | int, Counts | Savings]) -> None:
    if by:
        result["by"] = {str(key): group.model_dump(mode="json") for key, group in groups.items()}
    typer.echo(json.dumps(result, indent=2))


def _table(first: str, *headings: str) -> Table:
    """Return a table of numbers, which are never cut: where there is no room the text of the first column folds."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold", min_width=12)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


_COUNTS = {
    "configurations": "configs",
    "unrelaxed": "unrel.",
    "predicted": "pred.",
    "done": "done",
    "running": "run.",
    "failed": "failed",
    "unconverged": "unconv.",
    "gated": "gated",
}


def _counts(groups: Mapping[str | int, Counts], by: str) -> Table:
    """Return counts: a line for each group, the total last."""
    table = _table(by, *_COUNTS.values())
    for key, group in groups.items():
        table.add_row(_shown(key), *(str(getattr(group, field)) for field in _COUNTS))
    return table


def _taken(groups: Mapping[str | int, Counts], by: str) -> Table:
    """Return costs: a line for each group, the total last."""
    table = _table(by, "ionic steps", "median", "electronic", "core-hours")
    for key, group in groups.items():
        unknown = f" + {group.unknown_steps} unknown" if group.unknown_steps else ""
        steps = (f"{group.ionic_steps}{unknown}", _number(group.median_ionic_steps), f"{group.electronic_steps}")
        table.add_row(_shown(key), *steps, f"{group.core_hours:.0f}")
    return table


_WHOLE = 100  # seconds or hours, from which on no decimals are shown


def _interval(quantity: Quantity) -> str:
    if quantity.interval is None:
        return "too few" if quantity.pairs else "-"
    return f"{quantity.interval[0]:.1%} to {quantity.interval[1]:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _cost(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= _WHOLE else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


_COSTS: tuple[tuple[str, Callable[[Quantity], str]], ...] = (
    ("same minimum, cost known", lambda quantity: str(quantity.pairs)),
    ("from unrelaxed starts", lambda quantity: f"{quantity.unrelaxed:g}"),
    ("from predictions", lambda quantity: f"{quantity.predicted:g}"),
    ("saved", lambda quantity: _percent(quantity.saving)),
    ("95 % interval", _interval),
    ("median, unrelaxed", lambda quantity: _number(quantity.median_unrelaxed)),
    ("median, predicted", lambda quantity: _number(quantity.median_predicted)),
    ("median saving of a pair", lambda quantity: _percent(quantity.median_saving)),
    ("campaign: gated count as 0", lambda quantity: _percent(quantity.campaign)),
)
_SPENT: tuple[tuple[str, Callable[[Spending], str]], ...] = (
    ("pre-relaxing", lambda spending: _cost(spending.prerelaxing)),
    ("spent, hosts and failures too", lambda spending: f"{spending.total:g}"),
    ("relaxations that state no cost", lambda spending: str(spending.unknown)),
    ("net of all that", lambda spending: _percent(spending.net)),
)


def _costs(total: Savings) -> Table:
    """Return a column for each cost, over the pairs in the same minimum; the campaign's wall time beside it."""
    table, costs = _table("pairs", "ionic steps", "electronic", "core-hours", "seconds"), _quantities(total)
    for label, value in _COSTS:
        table.add_row(label, *map(value, costs), "")
    for label, spent in _SPENT:
        table.add_row(label, *(spent(quantity.spending) for quantity in costs), spent(total.seconds))
    table.add_row("most that could be saved", _percent(total.ceiling), "", "", "")
    return table


def _quantities(total: Savings) -> tuple[Quantity, Quantity, Quantity]:
    return total.ionic, total.electronic, total.core_hours


def _apart(total: Savings) -> Table:
    """Print, beside the headline, everything that it leaves out."""
    from definet_flows.report.summary import counts

    table = _table("beside it", "", "")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for line in counts(total):
        table.add_row(line.label, line.value, line.meaning)
    return table


def _saved(by: str, groups: Mapping[str | int, Savings]) -> Table:
    """Return the saving of each group."""
    table = _table(by, "ionic\nsaved", "95 %", "median\nof pairs", "electronic\nsaved", "core-h\nsaved")
    for key, group in groups.items():
        shares = (group.ionic.median_saving, group.electronic.saving, group.core_hours.saving)
        table.add_row(_shown(key), _percent(group.saving), _interval(group.ionic), *map(_percent, shares))
    return table


def _prerelaxing(by: str, groups: Mapping[str | int, Savings]) -> Table:
    """Return what the proposals of each pre-relaxer cost, and what is saved net of that."""
    table = _table(by, "proposals", "seconds", "of", "core-hours", "of", "net,\nsteps", "net,\ncore-h", "net,\nseconds")
    for key, group in groups.items():
        made = group.proposals
        known = (
            *(_cost(made.seconds), str(made.count - made.without_seconds)),
            *(_cost(made.core_hours), str(made.count - made.without_core_hours)),
        )
        net = (group.ionic.spending.net, group.core_hours.spending.net, group.seconds.net)
        table.add_row(_shown(key), str(made.count), *known, *map(_percent, net))
    return table


def _outcomes(by: str, groups: Mapping[str | int, Savings]) -> Table:
    """Return the ends of the pairs of each group, and relaxations without a pair."""
    table = _table(by, "same", "better", "other", "unconv.", "not\ncomp.", "gated", "failed", "running")
    for key, group in groups.items():
        pairs = (group.same_minimum, group.better_minimum, group.other_minimum, group.unconverged, group.not_comparable)
        table.add_row(_shown(key), *(str(n) for n in (*pairs, group.gated, group.failed, group.running)))
    return table


_HASH = 64  # characters of a sha256
_SHORT = 12  # of those, that a person reads


def _shown(key: str | int) -> str:
    text = str(key)
    return text[:_SHORT] if len(text) == _HASH else text
