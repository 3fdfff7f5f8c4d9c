"""`definet enumerate`: all defect configurations of a host, counted or written."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from definet_flows.cli import options
from definet_flows.cli.app import app, console, errors
from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from definet_flows.defects import Choices, Recipe
    from definet_flows.schemas import Configuration, Host

_NONE: list[str] = []
_STEP = 100  # configurations between two updates of the progress line


@app.command("enumerate")
def enumerate_defects(
    host: options.Host,
    supercell: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--supercell", metavar="A B C", help="Repetitions of the unit cell; whole numbers."),
    ] = None,
    min_image: Annotated[
        float | None, typer.Option(help="Instead of --supercell: smallest supercell with images this far apart, Å.")
    ] = None,
    vacuum: Annotated[
        float | None, typer.Option(help="Layers: set the gap to the periodic image, Å.  [default: as in the file]")
    ] = None,
    defect: options.Defect = _NONE,
    max_defects: options.MaxDefects = None,
    max_on: options.MaxOn = _NONE,
    max_kind: Annotated[
        list[str], typer.Option("--max-kind", help="Most defects of one kind, as v_S=2; again for each.")
    ] = _NONE,
    min_distance: options.MinDistance = None,
    max_distance: options.MaxDistance = None,
    charge: Annotated[
        list[str],
        typer.Option(
            "--charge",
            help="Net charge in e, again for each; or per kind, as v_S=0,+1,+2; or guess, from oxidation states."
            "  [default: 0]",
        ),
    ] = _NONE,
    concentration: Annotated[
        list[float] | None,
        typer.Option("--concentration", help="Random configurations with this share of defective sites, 0 to 1."),
    ] = None,
    per_concentration: Annotated[int, typer.Option(min=1, help="Configurations for each --concentration.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the random configurations; the same on every machine.")] = 0,
    preset: Annotated[
        str | None,
        typer.Option(help="Recipe of a published data set, for its hosts: 2dmd-low or 2dmd-high; brings all choices."),
    ] = None,
    count: Annotated[
        bool, typer.Option("--count", help="Print a table by class, and the number alone on the last line.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="FILE.jsonl (read back by definet), FILE.extxyz, or a new folder."),
    ] = None,
    structures: Annotated[str, typer.Option(help="Format of the structures in a folder: cif or poscar.")] = "cif",
) -> None:
    """List every symmetry-inequivalent defect configuration of HOST, exactly; or random ones by concentration.

    Without -o the configurations are counted. Lengths are in Å, charges in elementary charges.
    """
    from definet_flows.defects import Choices
    from definet_flows.defects.files import check_output, write_configurations

    if output is not None:
        check_output(output)
    limits = {
        "defects": tuple(defect),
        "max_defects": max_defects,
        "max_on": options.parse_limits(max_on, "--max-on"),
        "max_per_kind": options.parse_limits(max_kind, "--max-kind"),
        "min_distance": min_distance,
        "max_distance": max_distance,
    }
    charges = options.parse_charges(charge)
    cell = _cell(supercell, min_image)
    if preset is not None:
        recipe = _preset(preset, host, limits, concentration)
        cell, concentration, per_concentration = cell or recipe.supercell, list(recipe.concentrations), 100
        choices = Choices(**{**recipe.choices.model_dump(), "charges": charges})
    else:
        choices = _choices(limits, charges, concentration)
    plan = _Plan(_host(host, cell, vacuum), choices, tuple(concentration or ()), per_concentration, seed)
    if output is not None:
        written = write_configurations(output, plan.host, _progress(plan.configurations()), structures)
        console.print(f"{written} configurations written to {output}", highlight=False, soft_wrap=True, markup=False)
    if count or output is None:
        table, total = plan.count()
        console.print(table)
        typer.echo(total)


@dataclass(frozen=True)
class _Plan:
    """What is to be enumerated; concentrations: random configurations instead of all."""

    host: Host
    choices: Choices
    concentrations: tuple[float, ...]
    per_concentration: int
    seed: int

    def configurations(self) -> Iterator[Configuration]:
        from definet_flows.defects import enumerate_configurations, sample_concentration

        if not self.concentrations:
            return enumerate_configurations(self.host, self.choices)
        return sample_concentration(self.host, self.choices, self.concentrations, self.per_concentration, self.seed)

    def count(self) -> tuple[Table, int]:
        """Return a table by class, random configurations by number of defects, and the number of configurations."""
        from definet_flows.defects import count_by_class

        table = Table(title=f"{self.host.formula}, {self.host.n_sites} sites", header_style="bold")
        if self.concentrations:
            sizes = Counter(len(configuration.edits) for configuration in _progress(self.configurations()))
            for heading in ("defects", "configurations"):
                table.add_column(heading, justify="right")
            for size, number in sorted(sizes.items()):
                table.add_row(str(size), str(number))
            return table, sizes.total()
        rows = count_by_class(self.host, self.choices)
        table.add_column("class", overflow="fold")
        for heading in ("defects", "configurations", "placements", "charge states"):
            table.add_column(heading, justify="right")
        for row in rows:
            numbers = (row.n_defects, row.configurations, row.placements, row.charge_states)
            table.add_row(row.name, *(f"{number:,}" for number in numbers))
        return table, sum(row.configurations * row.charge_states for row in rows)


def _cell(supercell: tuple[str, str, str] | None, min_image: float | None) -> tuple[int, int, int] | float | None:
    if supercell is not None and min_image is not None:
        msg = f"--supercell {' '.join(supercell)} and --min-image {min_image:g}: give one of them"
        raise InputError(msg)
    return min_image if supercell is None else options.parse_supercell(supercell)


def _preset(preset: str, host: str, limits: dict[str, Any], concentration: list[float] | None) -> Recipe:
    from definet_flows.defects import preset as recipe_of
    from definet_flows.hosts import load_structure

    if concentration or any(value not in (None, (), {}) for value in limits.values()):
        msg = f"--preset {preset} brings its own defects, limits and concentrations; drop yours"
        raise InputError(msg)
    return recipe_of(preset, load_structure(host).reduced_formula)


def _choices(limits: dict[str, Any], charges: object, concentration: list[float] | None) -> Choices:
    from definet_flows.defects import Choices

    if not limits["defects"]:
        msg = "no defects: give at least one, such as --defect v_S, or a --preset"
        raise InputError(msg)
    if concentration and limits["max_defects"] is not None:
        msg = f"--max-defects {limits['max_defects']}: the concentrations say how many defects there are; drop it"
        raise InputError(msg)
    return Choices(**limits, charges=charges)


def _host(host: str, cell: tuple[int, int, int] | float | None, vacuum: float | None) -> Host:
    """Return the supercell; warnings about it are one line each."""
    from definet_flows.hosts import make_host

    if cell is None:
        msg = "no supercell: give --supercell, such as --supercell 8 8 1, or --min-image in Å"
        raise InputError(msg)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        made = make_host(host, cell, vacuum=vacuum)
    for warning in told:
        errors.print(f"[yellow]warning:[/] {escape(str(warning.message))}", soft_wrap=True, highlight=False)
    return made


def _progress(configurations: Iterable[Configuration]) -> Iterator[Configuration]:
    """Pass configurations on under a line that tells how many there were; it leaves no trace."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} configurations"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("", total=None)
        for number, configuration in enumerate(configurations, start=1):
            if number % _STEP == 0:
                progress.update(task, completed=number)
            yield configuration
