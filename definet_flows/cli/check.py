"""`definet check`: what a campaign would do, and what would fail, before anything is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.recipe import read_recipe

_FAILED = 1
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]look[/]", "fail": "[bold red]fails[/]"}


@app.command()
def check(
    host: options.Host,
    supercell: options.Supercell = None,
    min_image: options.MinImage = None,
    vacuum: options.Vacuum = None,
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
    engine: Annotated[str, typer.Option(help="vasp, sevennet or chgnet.")] = "vasp",
    control_fraction: Annotated[
        float, typer.Option(help="Share of configurations relaxed from the unrelaxed start too, 0 to 1.")
    ] = 0.1,
    model: options.Model = "definet-2dmd",
    relax_host: Annotated[
        bool, typer.Option("--relax-host/--no-relax-host", help="Relax the pristine supercell first.")
    ] = True,
    allow_unseen_host: Annotated[
        bool, typer.Option("--allow-unseen-host", help="Accept predictions for a host the weights never saw.")
    ] = False,
    placement: Annotated[
        Path | None,
        typer.Option(help="YAML: which worker runs which kind of job.  \\[default: categories gpu, cpu, light]"),
    ] = None,
    store: options.Store = None,
) -> None:
    """Tell what `definet run` with the same options would do on this machine; exit code 1 if something would fail."""
    from definet_flows.workflows import DEFAULT_SUPERCELL, DefectFlowMaker
    from definet_flows.workflows.placement import read_placement
    from definet_flows.workflows.preflight import preflight

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
        default=DEFAULT_SUPERCELL,
    )
    maker = DefectFlowMaker(
        defects=recipe,
        vacuum=vacuum,
        engine=engine,
        control_fraction=control_fraction,
        model=model,
        relax_host=relax_host,
        store=store,
        allow_unseen_host=allow_unseen_host,
    )
    lines = preflight(maker, host, read_placement(placement))
    table = Table(show_header=False, box=None, pad_edge=False)
    for line in lines:
        table.add_row(_MARKS[line.level], line.subject, line.text)
    console.print(table, highlight=False)
    failing = sum(line.level == "fail" for line in lines)
    if failing:
        console.print(f"{failing} of {len(lines)} would fail")
        raise typer.Exit(_FAILED)
