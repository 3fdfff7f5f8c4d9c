"""`definet retry`: relaxations that stopped, from their last positions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.campaign.engine import chosen_engine
from definet_flows.errors import InputError
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from jobflow import Maker

    from definet_flows.stores import Filter, Records

_FAILED = 1


@app.command()
def retry(
    store: options.Store = None,
    engine: Annotated[
        str, typer.Option(help="Engine that relaxed them: vasp, gpaw, sevennet, chgnet or vasp-dry-run.")
    ] = "vasp",
    incar: options.IncarTags = options.NONE,
    kpoints: options.KpointMesh = None,
    host: Annotated[str | None, typer.Option(help="Only this host, by reduced formula such as MoS2.")] = None,
    name: Annotated[str | None, typer.Option(help="Only these defects, such as v_S+W_Mo.")] = None,
    unconverged: Annotated[
        bool, typer.Option("--unconverged", help="Also those that ended above the force criterion (0.01 eV/Å).")
    ] = False,
    killed: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder tree in which no job runs any more: also its records that are still marked running.",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the jobs.  \\[default: a new folder in the data folder]")
    ] = None,
    launchpad: Annotated[
        Path | None,
        typer.Option(help="my_launchpad.yaml: find and mend lost runs in FireWorks, and add the retries there."),
    ] = None,
    dead_after: Annotated[
        float, typer.Option(min=0, help="With --launchpad: seconds without a sign of life after which a run is lost.")
    ] = 14400.0,
    placement: options.Placement = None,
) -> None:
    """Continue failed relaxations from their last positions; their steps so far stay counted.

    With --launchpad lost runs are found too, and the retries go to the queue.
    """
    from definet_flows.stores import Filter, open_store
    from definet_flows.workflows.campaign.local import new_folder, run_here
    from definet_flows.workflows.engines.base import require_executables, resolve_engine
    from definet_flows.workflows.recovery.retry import collect_killed, nothing_to_retry, retry_flow, unfinished

    chosen = chosen_engine(engine, incar, kpoints)
    if launchpad is not None:
        where = Filter(host=host, name=name)
        _queue(launchpad, dead_after, placement, store, chosen, where, unconverged=unconverged)
        return
    resolved = resolve_engine(chosen)
    with open_store(store) as records:
        lost = collect_killed(records, killed) if killed else []
        ids = unfinished(records, chosen, Filter(host=host, name=name), unconverged=unconverged)
        if not ids:
            raise InputError(nothing_to_retry(records, engine))
    require_executables(resolved)
    console.print(f"{len(ids)} relaxation{'s' * (len(ids) != 1)} to go on with, {len(lost)} killed")
    flow = retry_flow(ids, chosen, store)
    run_here(flow, folder or new_folder(), lambda event, job: console.print(f"{event} {one_line(job)}", style="dim"))
    with open_store(store, read_only=True) as records:
        if _report(records, ids):
            raise typer.Exit(_FAILED)


def _queue(
    launchpad: Path,
    dead_after: float,
    placement: Path | None,
    store: str | None,
    engine: str | Maker,
    where: Filter,
    *,
    unconverged: bool,
) -> None:
    """Repair the queue, then add the failed relaxations."""
    from jobflow import SETTINGS

    from definet_flows.cli.campaign.launch import open_launchpad
    from definet_flows.stores import open_store
    from definet_flows.workflows.queue.fireworks_repair import add_retries, mend
    from definet_flows.workflows.queue.routing import read_placement
    from definet_flows.workflows.recovery.retry import retry_flow, unfinished

    queue, placed = open_launchpad(launchpad), read_placement(placement)
    mended = mend(queue, SETTINGS.JOB_STORE, dead_after)
    counts = f"{mended.rerun} lost or failed jobs run again, {mended.kept} had stored their output"
    counts = f"{counts}, {mended.given_up} were lost too often and count as failed"
    console.print(f"{counts}, {mended.dropped} half-written jobs dropped", highlight=False)
    if mended.silences:
        console.print(_still_running(mended.silences, dead_after), highlight=False, soft_wrap=True)
    with open_store(store) as records:
        ids = unfinished(records, engine, where, unconverged=unconverged)
    if ids:
        first = add_retries(queue, retry_flow(ids, engine, store), placed)
        console.print(
            f"{len(ids)} relaxation{'s' * (len(ids) != 1)} to go on with: added FireWorks workflow with the id {first}",
            highlight=False,
        )


def _still_running(silences: tuple[float, ...], dead_after: float) -> str:
    """Say that jobs without a sign of life may be lost all the same; a worker gives one each hour."""
    jobs = f"{len(silences)} job{'s' * (len(silences) != 1)} still count{'s' * (len(silences) == 1)} as running"
    longest = f"the last sign of life of a worker is {_minutes(silences[0])} old"
    return (
        f"{jobs}: {longest}, and a run counts as lost after {_minutes(dead_after)} (--dead-after; signs come each hour)"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"


def _report(records: Records, ids: list[str]) -> int:
    """Print how each ended; return how many failed again."""
    failed = 0
    for record in (records.record(record_id) for record_id in ids):
        if record is None:
            continue
        failed += record.status == "failed"
        steps = record.ledger.ionic_steps if record.ledger else 0
        console.print(f"{one_line(record.name)} {record.start}: {record.status}, {steps} ionic steps in all")
        if record.error:
            console.print(f"  {one_line(record.error)}")
    return failed
