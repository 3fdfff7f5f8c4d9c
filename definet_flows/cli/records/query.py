"""`definet records` and `definet savings`: questions to a record store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.table import Table

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.records.filters import EngineName, HostName, Name, PreRelaxer, Weights, Where, read_filter
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from definet_flows.schemas import DefectRecord, RelaxedHost
    from definet_flows.stores import Counts, Quantity, Savings, Spending

By = Annotated[
    str | None,
    typer.Option(
        help="A row for each host, name (defect kinds), n_defects, charge, n_sites (size), prerelaxer, weights (model "
        "version) or engine."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

records_app = typer.Typer(help="Count relaxations; `records build` adds records that a dead job did not write.")
app.add_typer(records_app, name="records")


@records_app.callback(invoke_without_command=True)
def records(
    context: typer.Context,
    store: options.Store = None,
    host: HostName = None,
    name: Name = None,
    engine: EngineName = None,
    weights: Weights = None,
    prerelaxer: PreRelaxer = None,
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
    from definet_flows.report.names import names_of
    from definet_flows.report.summary import labelled
    from definet_flows.stores import counts, counts_by, explain_nothing, open_store
    from definet_flows.stores.analysis.figures import check_group

    asked = read_filter(host, name, engine, weights, prerelaxer, where)
    check_group(by or "host")
    with open_store(store, read_only=True) as found:
        chosen = asked.within(found)
        total = counts(found, chosen)
        if not total.relaxations:
            raise InputError(explain_nothing(found, chosen))
        groups = counts_by(found, by, chosen) if by else {}  # type: ignore[arg-type]  # checked above
        names = names_of(found)
    if as_json:
        _print_json({"total": total.model_dump()}, by, groups)
        return
    shown = {**labelled(by, groups, names), "all": total}
    console.print(_counts(shown, by or ""), _taken(shown, by or ""))


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
    """Make records of relaxations that are done but were never recorded, from the jobs' outputs."""
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
                console.print(f"{_title(document)}: {status}")
                made += status != "host"
                hosts += status == "host"
        for record in free_dead(found):
            console.print(f"{_title(record)}: failed, {one_line(str(record.error))}")
            made += 1
        why = "" if made or hosts else f": {nothing_made(sources)}"
    console.print(f"{made} records made in {place}{why}", highlight=False, soft_wrap=True)


def _title(document: DefectRecord | RelaxedHost) -> str:
    """Return defects, charge and start of a record, or the host's formula."""
    from definet_flows.schemas import DefectRecord, signed

    if not isinstance(document, DefectRecord):
        return one_line(document.host.formula)
    return f"{one_line(document.name)} {signed(document.configuration.charge)} {document.start}"


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
    weights: Weights = None,
    prerelaxer: PreRelaxer = None,
    where: Where = options.NONE,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Show the savings of pre-relaxation: pairs in the same minimum, and beside them everything else.

    Steps are force evaluations, restarts included; energies are in eV, times in core-hours.
    """
    from definet_flows.errors import InputError
    from definet_flows.report.names import names_of
    from definet_flows.report.summary import headlines, judges, labelled, wall_time
    from definet_flows.stores import explain_nothing, gather, open_store
    from definet_flows.stores.analysis.counts import count_rows
    from definet_flows.stores.analysis.figures import check_group

    asked = read_filter(host, name, engine, weights, prerelaxer, where)
    check_group(by or "host")
    with open_store(store, read_only=True) as found:
        chosen = asked.within(found)
        evidence, names = gather(found, chosen), names_of(found)
        if not evidence.rows:
            raise InputError(explain_nothing(found, chosen))
    total = evidence.total()
    groups = evidence.by(by) if by else {}  # type: ignore[arg-type]  # checked above
    if as_json:
        _print_json({"saving": total.saving, "total": total.model_dump(mode="json")}, by, groups)
        return
    if by:
        shown = labelled(by, groups, names)
        console.print(_saved(by, shown), _outcomes(by, shown))
        if by in ("prerelaxer", "weights"):
            console.print(_prerelaxing(by, shown))
    lines = headlines(evidence, names)
    console.print(_costs(total, several=len(lines) > 1), _apart(total))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    if not total.core_hours.pairs:
        console.print(wall_time(count_rows(evidence.rows)), highlight=False, soft_wrap=True)
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


def _counts(groups: Mapping[str, Counts], by: str) -> Table:
    """Return counts: a line for each group, the total last."""
    table = _table(by, *_COUNTS.values())
    for key, group in groups.items():
        table.add_row(key, *(str(getattr(group, field)) for field in _COUNTS))
    return table


def _taken(groups: Mapping[str, Counts], by: str) -> Table:
    """Return costs: a line for each group, the total last."""
    from definet_flows.report.summary import cores_in_words

    table = _table(by, "ionic steps", "median", "electronic", "core-hours", "wall s", "cores")
    for key, group in groups.items():
        unknown = f"\n+ {group.unknown_steps} unknown" if group.unknown_steps else ""
        steps = f"{group.ionic_steps}{unknown}", _number(group.median_ionic_steps)
        sums = (_sum(group, cost, form) for cost, form in _SUMS.items())
        table.add_row(key, *steps, *sums, cores_in_words(group.cores))
    return table


_SUMS: dict[Literal["electronic_steps", "core_hours", "wall_seconds"], str] = {
    "electronic_steps": "d",
    "core_hours": ".1f",
    "wall_seconds": ".0f",
}


def _sum(group: Counts, cost: Literal["electronic_steps", "core_hours", "wall_seconds"], form: str) -> str:
    """Return a sum, and below it of how many relaxations that ended it is, where some do not state it."""
    from definet_flows.stores.analysis.figures import sum_in_words

    return sum_in_words(getattr(group, cost), group.stated[cost], group.ended, form).replace(" (", "\n(")


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
    ("from unrelaxed starts", lambda quantity: _number(quantity.unrelaxed)),
    ("from predictions", lambda quantity: _number(quantity.predicted)),
    ("saved", lambda quantity: _percent(quantity.saving)),
    ("95 % interval", _interval),
    ("median, unrelaxed", lambda quantity: _number(quantity.median_unrelaxed)),
    ("median, predicted", lambda quantity: _number(quantity.median_predicted)),
    ("median saving of a pair", lambda quantity: _percent(quantity.median_saving)),
    ("campaign: gated count as 0", lambda quantity: _percent(quantity.campaign)),
)
_SPENT: tuple[tuple[str, Callable[[Spending], str]], ...] = (
    ("pre-relaxing", lambda spending: _cost(spending.prerelaxing)),
    ("spent, hosts and failures too", lambda spending: f"{spending.total:g}" if spending.stated else "-"),
    ("relaxations that state no cost", lambda spending: str(spending.unknown)),
    ("net of all that", lambda spending: _percent(spending.net)),
)


def _costs(total: Savings, *, several: bool) -> Table:
    """Return a column for each cost, over the pairs in the same minimum; the campaign's wall time beside it.

    `several`: the pairs are of more than one pre-relaxer.
    """
    name = "all starts together" if several else "pairs"
    table, costs = _table(name, "ionic steps", "electronic", "core-hours", "seconds"), _quantities(total)
    same = total.same_minimum
    counted = (f"{one.pairs}" if one.pairs == same else f"{one.pairs} of {same}" for one in costs)
    table.add_row("same minimum, cost known", *counted, "")
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


def _saved(by: str, groups: Mapping[str, Savings]) -> Table:
    """Return the saving of each group."""
    table = _table(by, "ionic\nsaved", "95 %", "median\nof pairs", "electronic\nsaved", "core-h\nsaved")
    for key, group in groups.items():
        shares = (group.ionic.median_saving, group.electronic.saving, group.core_hours.saving)
        table.add_row(key, _percent(group.saving), _interval(group.ionic), *map(_percent, shares))
    return table


def _prerelaxing(by: str, groups: Mapping[str, Savings]) -> Table:
    """Return what the proposals of each pre-relaxer cost, and what is saved net of that."""
    table = _table(by, "proposals", "seconds", "of", "core-hours", "of", "net,\nsteps", "net,\ncore-h", "net,\nseconds")
    for key, group in groups.items():
        made = group.proposals
        known = (
            *(_cost(made.seconds), str(made.count - made.without_seconds)),
            *(_cost(made.core_hours), str(made.count - made.without_core_hours)),
        )
        net = (group.ionic.spending.net, group.core_hours.spending.net, group.seconds.net)
        table.add_row(key, str(made.count), *known, *map(_percent, net))
    return table


def _outcomes(by: str, groups: Mapping[str, Savings]) -> Table:
    """Return the ends of the pairs of each group, and relaxations without a pair."""
    table = _table(by, "same", "better", "other", "unconv.", "not\ncomp.", "gated", "failed", "running")
    for key, group in groups.items():
        pairs = (group.same_minimum, group.better_minimum, group.other_minimum, group.unconverged, group.not_comparable)
        table.add_row(key, *(str(n) for n in (*pairs, group.gated, group.failed, group.running)))
    return table
