"""`definet ingest`: finished relaxations become records."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from definet_flows.schemas import DefectRecord
    from definet_flows.workflows.recovery.ingest_record import Ingested

_FRAMES = (".extxyz", ".xyz")


@app.command()
def ingest(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE",
            help="Tree of finished VASP relaxations (vasprun.xml or OUTCAR), or an .extxyz file of unrelaxed frames "
            "with an array relaxed_positions.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Host of all the relaxations: a file of any of its cells, or its name.")],
    supercell: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="A B C",
            callback=options.three_values,
            help="Repetitions of the cell in the file.  \\[default: from the cell of each run or frame]",
        ),
    ] = None,
    dimensionality: options.Dimensionality = None,
    store: options.Store = None,
) -> None:
    """Read finished relaxations, of VASP or of others; steps, energies (eV) and sites (Å) become records."""
    from definet_flows.stores import open_store

    repetitions = None if supercell is None else options.parse_supercell(supercell)
    if source.suffix.lower() in _FRAMES and not source.is_dir():
        from definet_flows.workflows.recovery.ingest_pairs import ingest_frames, write_frames

        frames = ingest_frames(source, host, repetitions, dimensionality=dimensionality)
        with open_store(store) as records:
            kept = write_frames(records, frames)
            place = records.location
        _tell_frames(frames, kept)
        found: Ingested = frames
    else:
        from definet_flows.hosts import load_structure
        from definet_flows.structures.match import HostFinder
        from definet_flows.workflows.recovery.ingest import ingest as read
        from definet_flows.workflows.recovery.ingest_record import write_with_hosts

        unit = load_structure(host)
        finder = HostFinder([unit], repetitions, given=True, dimensionality=dimensionality, own_origin=True)
        found = read(finder, source)
        with open_store(store) as records:
            write_with_hosts(records, found, found.records.values())
            place = records.location
        _tell(found)
    bulk = f" and {len(found.pristine)} pristine hosts" if found.pristine else ""
    console.print(f"{len(found.records)} records{bulk} in {place}", highlight=False, soft_wrap=True)


def _tell(found: Ingested) -> None:
    """Print a line for each relaxation, and its notes."""
    for record in found.records.values():
        console.print(_line(record), highlight=False)
        for note in record.ledger.notes if record.ledger else ():
            console.print(f"  {one_line(note)}", style="dim", highlight=False, soft_wrap=True)
    _tell_left_out(found)


def _line(record: DefectRecord, where: str = "") -> str:
    from definet_flows.schemas import signed

    steps = None if record.ledger is None else record.ledger.ionic_steps
    count = "0" if record.ledger is None else "unknown" if steps is None else str(steps)
    text = f"{one_line(record.name)} charge {signed(record.configuration.charge)}{where}: {record.status}"
    return f"{text}, {count} ionic steps, settings {record.settings_hash[:8]}"


def _tell_left_out(found: Ingested) -> None:
    for bulk in found.pristine.values():
        text = f"pristine host {found.hosts[bulk.host.hash].label}: {bulk.ledger.energy:.6f} eV"
        console.print(f"{text}, settings {bulk.settings_hash[:8]}", highlight=False)
    for place, reason in found.left_out.items():
        console.print(f"left out: {one_line(place)}: {one_line(reason)}", style="dim", soft_wrap=True)


def _tell_frames(found: Ingested, kept: dict[str, str]) -> None:
    """Print a line for each frame, each different note once, and a summary."""
    notes: Counter[str] = Counter()
    for record in found.records.values():
        frame = Path(record.provenance.directory or "").name
        line = _line(record, f" in {found.hosts[record.host.hash].label}")
        reason = f"; {kept[record.id]}" if record.id in kept else ""
        console.print(one_line(f"{frame}: {line}{reason}"), highlight=False, soft_wrap=True)
        notes.update(record.ledger.notes if record.ledger else ())
    _tell_left_out(found)
    for note, count in notes.items():
        console.print(f"{count} records: {one_line(note)}", style="dim", highlight=False, soft_wrap=True)
    console.print(_summary(found, kept))
    console.print(f"{len(found.left_out)} frames left out", highlight=False)


def _summary(found: Ingested, kept: dict[str, str]) -> Table:
    """Return how many records each supercell and functional gives."""
    from rich import box
    from rich.table import Table

    table = Table("supercell", "functional", "settings", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("records", "new", "steps known"):
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str], list[DefectRecord]] = defaultdict(list)
    for record in found.records.values():
        groups[record.host.hash, record.settings_hash].append(record)
    for (cell, settings), group in groups.items():
        new = sum(record.id not in kept for record in group)
        known = sum(record.ledger is not None and record.ledger.ionic_steps is not None for record in group)
        names = (found.hosts[cell].label, one_line(group[0].engine), settings[:8])
        table.add_row(*map(Text, names), *map(str, (len(group), new, known)))
    return table
