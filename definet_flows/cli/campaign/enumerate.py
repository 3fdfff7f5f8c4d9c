"""`definet enumerate`: all defect configurations of a host, counted or written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from definet_flows.cli import options
from definet_flows.cli.app import app, console, errors
from definet_flows.cli.campaign.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from definet_flows.defects import Recipe
    from definet_flows.schemas import Configuration, Host

_ID = 12  # characters that a table shows; `explain` takes the beginning of an id
_NAME = 12  # characters of a name in a line, however narrow the terminal
_UNBROKEN = ("id", "multiplicity", "charge")
_STEP = 100  # configurations between two updates of the progress line


@app.command("enumerate")
def enumerate_defects(
    host: options.Host,
    supercell: options.SupercellOption = None,
    min_image: options.MinImage = None,
    vacuum: options.Vacuum = None,
    symprec: options.Symprec = options.SYMPREC,
    dimensionality: options.Dimensionality = None,
    defect: options.Defect = options.NONE,
    min_defects: options.MinDefects = 1,
    max_defects: options.MaxDefects = None,
    max_on: options.MaxOn = options.NONE,
    max_kind: options.MaxKind = options.NONE,
    min_distance: options.MinDistance = None,
    max_distance: options.MaxDistance = None,
    charge: options.Charge = options.NONE,
    concentration: options.Concentration = options.NO_SHARES,
    per_concentration: options.PerConcentration = None,
    seed: options.Seed = 0,
    preset: options.Preset = None,
    count: Annotated[
        bool, typer.Option("--count", help="Print a table by class, and the number alone on the last line.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="FILE.jsonl (read back by definet), FILE.extxyz, or a new folder."),
    ] = None,
    structures: Annotated[str, typer.Option(help="Format of the structures in a folder: cif or poscar.")] = "cif",
    as_list: Annotated[
        bool, typer.Option("--list", help="Print a row for each configuration: name, id, sites, symmetry, charge.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the rows of --list to this file.")] = None,
) -> None:
    """List every symmetry-inequivalent defect configuration of HOST, exactly; or random ones by concentration.

    Without -o, --list or --csv the configurations are counted. Lengths are in Å, charges in elementary charges. The
    sites of an element that are not equivalent are numbered: v_O1, v_O2.
    """
    from definet_flows.defects.files import check_output, write_configurations
    from definet_flows.hosts import make_host

    if output is not None:
        check_output(output)
    options.check_writable(csv)
    recipe = read_recipe(
        host,
        supercell=supercell,
        min_image=min_image,
        defect=defect,
        min_defects=min_defects,
        max_defects=max_defects,
        max_on=max_on,
        max_kind=max_kind,
        min_distance=min_distance,
        max_distance=max_distance,
        charge=charge,
        concentration=concentration,
        per_concentration=per_concentration,
        seed=seed,
        preset=preset,
    )
    pristine = make_host(host, recipe.supercell, vacuum=vacuum, symprec=symprec, dimensionality=dimensionality)
    if output is not None:
        written = write_configurations(output, pristine, _progress(recipe.configurations(pristine)), structures)
        _tell_host(pristine)
        _tell(f"{written} configuration{'s' * (written != 1)} written to {output}")
    elif not count or csv is not None or as_list:
        _tell_host(pristine)
    if as_list or csv is not None:
        _list(pristine, recipe, csv, shown=as_list)
    if count or not (as_list or csv or output):
        table, total = _count(pristine, recipe)
        console.print(table)
        typer.echo(total)


def _list(host: Host, recipe: Recipe, path: Path | None, *, shown: bool) -> None:
    """Print the rows of the configurations, write them to a file, or both."""
    from definet_flows.defects.listing import COLUMNS, listed, write_csv

    rows = list(listed(host, _progress(recipe.configurations(host))))
    if path is not None:
        write_csv(path, rows)
        _tell(f"{len(rows)} configuration{'s' * (len(rows) != 1)} listed in {path}")
    if shown:
        table = Table(header_style="bold")
        for heading in COLUMNS:
            least = _NAME if heading == "name" else None
            table.add_column(heading, no_wrap=heading in _UNBROKEN, overflow="fold", min_width=least)
        for row in rows:
            name, identity, *rest = row.cells()
            table.add_row(name, identity[:_ID], *rest)
        console.print(table, highlight=False)


def _tell_host(host: Host) -> None:
    _tell(f"space group: {host.provenance['symmetry']}")
    if chosen := host.provenance.get("supercell"):
        _tell(f"supercell: {chosen}")


def _tell(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _count(host: Host, recipe: Recipe) -> tuple[Table, int]:
    """Return a table by class, random configurations by number of defects, and the number of configurations."""
    from definet_flows.defects import count_by_class

    table = Table(title=f"{host.formula}, {host.n_sites} sites", header_style="bold")
    if recipe.sampling is not None:
        sizes = Counter(len(configuration.edits) for configuration in _progress(recipe.configurations(host)))
        for heading in ("defects", "configurations"):
            table.add_column(heading, justify="right")
        for size, number in sorted(sizes.items()):
            table.add_row(str(size), str(number))
        return table, sizes.total()
    rows = count_by_class(host, recipe.choices)
    table.add_column("class", overflow="fold")
    for heading in ("defects", "configurations", "placements", "charges"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = (row.n_defects, row.configurations, row.placements)
        charges = " ".join(f"{charge:+d}" if charge else "0" for charge in row.charges)
        table.add_row(row.name, *(f"{number:,}" for number in numbers), charges)
    return table, sum(row.configurations * row.charge_states for row in rows)


def _progress(configurations: Iterable[Configuration]) -> Iterator[Configuration]:
    """Pass configurations on under a line that shows their number; it leaves no trace."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} configurations"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("", total=None)
        for number, configuration in enumerate(configurations, start=1):
            if number % _STEP == 0:
                progress.update(task, completed=number)
            yield configuration
