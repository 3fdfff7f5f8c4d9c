"""`definet export`: records for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.records.filters import EngineName, HostName, Name, PreRelaxer, Weights, Where, read_filter

_FORMATS = {".csv": "csv", ".xyz": "extxyz", ".extxyz": "extxyz", ".db": "ase", ".json": "entries", "": "cif"}


@app.command()
def export(
    output: Annotated[
        Path,
        typer.Argument(
            help=".csv: a table of costs; .extxyz: relaxed structures; .db: a database of ASE; .json: DefectEntry "
            "objects (pymatgen-analysis-defects, doped's names); a folder: CIF files in the layout of the 2DMD archive."
        ),
    ],
    store: options.Store = None,
    host: HostName = None,
    name: Name = None,
    engine: EngineName = None,
    weights: Weights = None,
    prerelaxer: PreRelaxer = None,
    where: Where = options.NONE,
) -> None:
    """Write records to a file or a new folder, whole or not at all: lengths in Å, energies in eV, times in s and h.

    Structures are those of finished relaxations; CIF folders and entries hold the lowest end of each configuration.
    """
    from definet_flows.errors import InputError
    from definet_flows.stores import explain_nothing, open_store
    from definet_flows.stores.analysis.gates import joined_rows
    from definet_flows.stores.export import tables

    asked = read_filter(host, name, engine, weights, prerelaxer, where)
    form = _FORMATS.get(output.suffix.lower())
    if form is None:
        msg = f"{output}: name a file that ends in {', '.join(filter(None, _FORMATS))}, or a folder without an ending"
        raise InputError(msg)
    options.check_writable(output)
    with open_store(store, read_only=True) as records:
        chosen = asked.within(records)
        if not joined_rows(records, chosen)[0]:
            raise InputError(explain_nothing(records, chosen))
        if form == "cif":
            from definet_flows.stores.export.layout import write_cif_folder

            written = write_cif_folder(records, output, chosen)
            counts = f"{written.structures} configurations, {written.left_out} records left out"
            console.print(f"{output}: {counts} (charged, with inserted atoms, or not converged)", highlight=False)
            return
        if form == "entries":
            from definet_flows.stores.export.entries import write_entries as write
        else:
            write = {"csv": tables.write_csv, "extxyz": tables.write_extxyz, "ase": tables.write_ase_db}[form]
        console.print(f"{output}: {write(records, output, chosen)} records", highlight=False, soft_wrap=True)
