"""`definet probe-saddle`: whether symmetric ends are minima."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.campaign.engine import chosen_engine
from definet_flows.foreign import one_line


@app.command("probe-saddle")
def probe_saddle(
    store: options.Store = None,
    engine: Annotated[
        str, typer.Option(help="Engine that relaxed them: vasp, gpaw, sevennet, chgnet or vasp-dry-run.")
    ] = "vasp",
    incar: options.IncarTags = options.NONE,
    kpoints: options.KpointMesh = None,
    sample: Annotated[int, typer.Option(min=1, help="Symmetric ends to look at; a larger sample keeps them.")] = 10,
    rattle: Annotated[float, typer.Option(min=0.01, max=0.05, help="Displacement of every atom, Å.")] = 0.03,
    seed: Annotated[int, typer.Option(help="Seed of its directions.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the jobs.  \\[default: a new folder in the data folder]")
    ] = None,
) -> None:
    """Rattle a sample of symmetric ends and relax them again: minima come back, saddles end lower (by over 5 meV)."""
    from definet_flows.stores import open_store
    from definet_flows.workflows.campaign.local import new_folder, run_here
    from definet_flows.workflows.engines.base import require_executables, resolve_engine
    from definet_flows.workflows.recording.cases import settings_hash_of
    from definet_flows.workflows.recovery.probe import probe_flow, symmetric_ends

    chosen = chosen_engine(engine, incar, kpoints)
    resolved = resolve_engine(chosen)
    require_executables(resolved)
    hashes = {settings_hash_of(resolved, relaxed_host=flag) for flag in (True, False)}
    with open_store(store) as records:
        ids = symmetric_ends(records, hashes, sample)
    flow = probe_flow(ids, chosen, store, rattle=rattle, seed=seed)
    run_here(flow, folder or new_folder(), lambda event, job: console.print(f"{event} {one_line(job)}", style="dim"))
    with open_store(store, read_only=True) as records:
        for probe in sorted(records.probes(), key=lambda found: found.name):
            difference = "" if probe.energy_difference is None else f", {1000 * probe.energy_difference:+.1f} meV"
            moved = "" if probe.distance is None else f", {probe.distance:.3f} Å from where it was"
            console.print(f"{one_line(probe.name)}: {probe.verdict}{difference}{moved}")
