"""`definet predict` and `definet prerelax`: DefiNet on files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from definet_flows.atomic import write_whole
from definet_flows.cli import options
from definet_flows.cli.app import app, console, errors
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from definet_flows.model.inference.checkpoint import Card
    from definet_flows.starts.proposals import PreRelaxer
    from definet_flows.structures.files import Tell

_FAILED = 1
_SHOWN = 20

_Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="File of the host's unit cell, or a shipped host: MoS2, WSe2, BN, GaSe, InSe, P.  "
        "\\[default: the host that fits, of those the weights learned]",
    ),
]
_Supercell = Annotated[
    tuple[str, str, str] | None,
    typer.Option(
        "--supercell",
        metavar="A B C",
        callback=options.three_values,
        help="Repetitions of the unit cell along a, b, c.  \\[default: from the cell's size]",
    ),
]
_PreRelaxer = Annotated[
    str,
    typer.Option(
        "--prerelaxer",
        help="What predicts: definet, fields (of the record store's relaxations of --host), potential:sevennet, "
        "potential:sevennet-l3i5, potential:chgnet, or a chain such as fields+potential:sevennet.",
    ),
]
_Settings = Annotated[
    str | None,
    typer.Option(help="fields: beginning of the settings hash whose relaxations count.  \\[default: the only one]"),
]
_Unseen = Annotated[
    bool,
    typer.Option(
        "--allow-unseen-host",
        help="Accept predictions for a host that the weights never saw; such starts may be worse than unrelaxed.",
    ),
]

_WriteRejected = Annotated[
    bool, typer.Option("--write-rejected", help="Also move the atoms of rejected predictions; else they stay.")
]


@app.command()
def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN...", help="CIF, POSCAR, extended XYZ or pymatgen JSON files, or folders of them."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for files of the same names and formats, or an .extxyz file."),
    ],
    host: _Host = None,
    supercell: _Supercell = None,
    dimensionality: options.Dimensionality = None,
    model: options.Model = "definet-2dmd",
    prerelaxer: _PreRelaxer = "definet",
    store: options.Store = None,
    settings: _Settings = None,
    allow_unseen_host: _Unseen = False,
    write_rejected: _WriteRejected = False,
) -> None:
    """Pre-relax defect structures: the same atoms in the same order and frame, where DefiNet expects them (Å).

    If the gate rejects a prediction, the structure is written unchanged. Verdict and reason stand beside each structure
    (extended XYZ, JSON) and, for every format, in OUT/predictions.json. Exit code 1 if some could not be predicted.
    """
    cell = options.parse_supercell(supercell) if supercell else None
    from definet_flows.model.network.kernels import keep_freed_memory
    from definet_flows.structures.files import predict_files
    from definet_flows.structures.match import finder_for

    keep_freed_memory()
    chosen, card = _chosen(prerelaxer, host, model, store, settings, allow_unseen_host=allow_unseen_host)
    finder = finder_for(card, host, cell, dimensionality)
    with _bar("files") as tell:
        entries = predict_files(chosen, inputs, out, finder, write_rejected=write_rejected, tell=tell)
    _hosts((entry.host, entry.inferred) for entry in entries)
    failed = [entry for entry in entries if entry.status == "failed"]
    verdicts = Counter(entry.verdict for entry in entries if entry.status == "predicted")
    counts = [f"{verdicts[verdict]} {verdict}" for verdict in ("accepted", "flagged", "rejected") if verdicts[verdict]]
    console.print(
        f"{len(entries) - len(failed)} predicted ({', '.join(counts)}), {len(failed)} failed", highlight=False
    )
    _list(f"{entry.source}[{entry.index}]: {entry.reason}" for entry in failed)
    as_they_came = [
        entry for entry in entries if entry.verdict == "rejected" and entry not in failed and not entry.moved
    ]
    if as_they_came:
        console.print(f"{len(as_they_came)} rejected and written as they came (--write-rejected moves them):")
        _list(f"{entry.source}[{entry.index}]: {entry.reason}" for entry in as_they_came)
    if failed:
        raise typer.Exit(_FAILED)


@app.command()
def prerelax(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Tree with a POSCAR for each calculation (doped, ShakeNBreak, pydefect)."),
    ],
    host: _Host = None,
    supercell: _Supercell = None,
    dimensionality: options.Dimensionality = None,
    model: options.Model = "definet-2dmd",
    prerelaxer: _PreRelaxer = "definet",
    store: options.Store = None,
    settings: _Settings = None,
    allow_unseen_host: _Unseen = False,
    write_rejected: _WriteRejected = False,
    json_file: options.Json = None,
) -> None:
    """Pre-relax every POSCAR below DIR in place; each original is kept beside it as POSCAR.unrelaxed.

    Atoms keep their order; comment, selective dynamics and velocities stay. Pre-relaxed files are left. The
    charge is taken from the folder's name (v_Cd_-1); charged defects stay unchanged if the network learned only
    neutral cells.
    """
    cell = options.parse_supercell(supercell) if supercell else None
    options.check_writable(json_file)
    from definet_flows.model.network.kernels import keep_freed_memory
    from definet_flows.structures.match import finder_for
    from definet_flows.structures.tree import prerelax_tree

    keep_freed_memory()
    chosen, card = _chosen(prerelaxer, host, model, store, settings, allow_unseen_host=allow_unseen_host)
    finder = finder_for(card, host, cell, dimensionality)
    with _bar("POSCARs") as tell:
        report = prerelax_tree(chosen, folder, finder, write_rejected=write_rejected, tell=tell)
    _hosts((file.host, file.inferred) for file in report)
    counts = Counter(file.action for file in report)
    console.print(
        f"{counts['moved']} moved, {counts['gated']} gated, {counts['left']} left as they were", highlight=False
    )
    _list(f"{file.action}: {file.path}: {file.reason}" for file in report if file.action != "moved")
    if json_file is not None:
        write_whole(json_file, json.dumps([file.model_dump(mode="json") for file in report], indent=1) + "\n")


def _chosen(
    name: str, host: str | None, model: str, store: str | None, settings: str | None, *, allow_unseen_host: bool
) -> tuple[PreRelaxer, Card | None]:
    """Return the pre-relaxer of a name, and the card of its network; None unless the network proposes alone."""
    from definet_flows.starts.by_name import outside_campaigns
    from definet_flows.workflows.campaign.models import checkpoint_of

    return outside_campaigns(
        name, host, lambda: checkpoint_of(model, store), store, settings, allow_unseen_host=allow_unseen_host
    )


def _hosts(found: Iterable[tuple[str | None, str]]) -> None:
    """Print the hosts, and their inferred properties."""
    for host, inferred in sorted({(host, inferred) for host, inferred in found if host}):
        console.print(f"host: {host}" + (f" ({inferred} inferred)" if inferred else ""), highlight=False)


def _list(lines: Iterable[str]) -> None:
    every = list(lines)
    for line in every[:_SHOWN]:
        console.print(one_line(line), soft_wrap=True)
    if len(every) > _SHOWN:
        console.print(f"... and {len(every) - _SHOWN} more: see the report")


@contextmanager
def _bar(title: str) -> Iterator[Tell]:
    """Give a function that reports progress; the bar appears with the first report."""
    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
