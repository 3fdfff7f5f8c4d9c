"""`definet ingest`: finished VASP relaxations become records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.foreign import one_line


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(help="Tree of finished VASP relaxations: vasprun.xml or OUTCAR.")],
    host: Annotated[str, typer.Option(help="File of the pristine cell that all of them are defects of, or its name.")],
    supercell: Annotated[
        tuple[str, str, str], typer.Option(metavar="A B C", help="Repetitions, if the file holds the unit cell.")
    ] = ("1", "1", "1"),
    dimensionality: options.Dimensionality = None,
    store: options.Store = None,
) -> None:
    """Read finished VASP relaxations in FOLDER, all attempts counted; steps, energies (eV) and sites become records."""
    from definet_flows.hosts import make_host
    from definet_flows.stores import open_store
    from definet_flows.workflows.recovery.ingest import ingest as read

    found = read(make_host(host, options.parse_supercell(supercell), dimensionality=dimensionality), folder)
    with open_store(store) as records:
        records.put(*found.records.values())
        place = records.location
    for record in found.records.values():
        steps = record.ledger.ionic_steps if record.ledger else 0
        text = f"{one_line(record.name)} charge {record.configuration.charge:+d}: {record.status}, {steps} ionic steps"
        console.print(f"{text}, settings {record.settings_hash[:8]}", highlight=False)
        for note in record.ledger.notes if record.ledger else ():
            console.print(f"  {one_line(note)}", style="dim", highlight=False, soft_wrap=True)
    for directory, reason in found.left_out.items():
        console.print(f"left out: {one_line(directory)}: {one_line(reason)}", style="dim", soft_wrap=True)
    console.print(f"{len(found.records)} records in {place}", highlight=False, soft_wrap=True)
