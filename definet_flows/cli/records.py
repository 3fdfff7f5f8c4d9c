"""`definet savings`: what is asked of a record store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from definet_flows.cli import options
from definet_flows.cli.app import app, console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from definet_flows.stores import Savings


@app.command()
def savings(
    store: options.Store = None,
    host: Annotated[str | None, typer.Option(help="Only this host, by reduced formula such as MoS2.")] = None,
    name: Annotated[str | None, typer.Option(help="Only these defects, such as v_S+W_Mo.")] = None,
    engine: Annotated[str | None, typer.Option(help="Only this engine, such as vasp.")] = None,
    by: Annotated[
        str | None, typer.Option(help="One row for each host, name, n_defects, n_sites, weights or engine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell what pre-relaxation saved: pairs in the same minimum, and beside them everything else.

    Steps are force evaluations, restarts included; energies are in eV, times in core-hours.
    """
    import json
    from typing import get_args

    from definet_flows.errors import InputError
    from definet_flows.stores import Filter, open_store, savings_by
    from definet_flows.stores import savings as compute
    from definet_flows.stores.savings import GroupBy

    if by is not None and by not in get_args(GroupBy):
        msg = f"--by {by}: one of {', '.join(get_args(GroupBy))}"
        raise InputError(msg)
    where = Filter(host=host, name=name, engine=engine)
    with open_store(store, read_only=True) as records:
        total = compute(records, where)
        groups = savings_by(records, by, where) if by else {}  # type: ignore[arg-type]  # checked above
    if as_json:
        result = {"saving": total.saving, "total": total.model_dump(mode="json")}
        if by:
            result["by"] = {str(key): group.model_dump(mode="json") for key, group in groups.items()}
        typer.echo(json.dumps(result, indent=2))
        return
    if by:
        console.print(_groups(by, groups))
    console.print(_total(total))
    console.print(total.message, highlight=False)


def _total(total: Savings) -> Table:
    """One line for each figure; what is not in the headline stands beside it."""
    table = Table("all of it", "", show_header=False)
    for label, value in (
        ("ionic steps saved, pairs in the same minimum", _percent(total.saving)),
        ("95 % interval (bootstrap over pairs)", _interval(total)),
        ("most that could be saved: the optimiser's floor in every arm", _percent(total.ceiling)),
        ("electronic steps saved", _percent(total.electronic.saving)),
        ("core-hours saved", _percent(total.core_hours.saving)),
        ("pairs in the same minimum", total.same_minimum),
        ("pairs whose predicted end is lower: better minimum", total.better_minimum),
        ("pairs in other minima", total.other_minimum),
        ("pairs with an unconverged arm", total.unconverged),
        ("pairs whose arms were not given the same", total.not_comparable),
        ("configurations gated out: relaxed from unrelaxed", total.gated),
        ("relaxations failed", total.failed),
        ("relaxations not finished", total.running),
        ("campaign: gated-out counted as no saving", _percent(total.campaign)),
        ("net of controls, host relaxation and failures", _percent(total.spending.net)),
    ):
        table.add_row(label, str(value))
    return table


def _groups(by: str, groups: Mapping[str | int, Savings]) -> Table:
    table = Table(by, header_style="bold")
    for heading in ("saved", "95 %", "same", "better", "other", "unconv.", "gated", "failed"):
        table.add_column(heading, justify="right")
    for key, group in groups.items():
        counts = (group.same_minimum, group.better_minimum, group.other_minimum, group.unconverged)
        cells = (*counts, group.gated, group.failed)
        table.add_row(str(key), _percent(group.saving), _interval(group), *(str(n) for n in cells))
    return table


def _interval(group: Savings) -> str:
    interval = group.ionic.interval
    return "-" if interval is None else f"{interval[0]:.0%} to {interval[1]:.0%}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
