"""`definet run` and `definet quickstart`: the main job on this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from definet_flows.atomic import write_whole
from definet_flows.cli import options
from definet_flows.cli.app import app, console, errors
from definet_flows.cli.campaign.engine import write_campaign_inputs
from definet_flows.cli.campaign.options import CampaignOptions, campaign_command
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from definet_flows.stores import StartsRow
    from definet_flows.workflows import DefectFlowMaker

_FAILED = 1
_LONGEST = 60  # characters of a reason in the table
_MATCHED = "definet-sevennet-mos2"
"""Shipped model that learned the quickstart's engine, from configurations that the quickstart does not use."""


@app.command()
@campaign_command
def run(
    campaign: CampaignOptions,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the jobs.  \\[default: a new folder in the data folder]")
    ] = None,
    json_file: options.Json = None,
    write_inputs: options.WriteInputs = None,
) -> None:
    """Enumerate the defects of HOST, pre-relax, relax and record them on this machine.

    Relaxations stop at 0.01 eV/Å. Records of the record store are reused: the same command goes on where it stopped.
    """
    options.check_writable(json_file)
    if write_inputs is not None:
        write_campaign_inputs(campaign.maker(), campaign.host, write_inputs)
        return
    _end(_relax(campaign.maker(), campaign.host, folder), json_file)


@app.command()
def quickstart(
    store: options.Store = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the jobs.  \\[default: a new folder in the data folder]")
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Run the whole chain on 4 x 4 MoS2 in minutes: 11 configurations, four starts, forces to 0.01 eV/Å.

    The engine is the potential SevenNet-0, whose weights come with the installation; nothing is downloaded. Relaxations
    start unrelaxed, from the weights that learned DFT, from weights retrained on this engine's own relaxations, and
    from the displacement fields of the other configurations.
    """
    from definet_flows.defects import Choices
    from definet_flows.workflows import DefectFlowMaker

    options.check_writable(json_file)
    # Neighbours up to S above S (3.13 Å): four singles and seven pairs.
    choices = Choices(defects=("v_S", "v_Mo", "W_Mo", "Se_S"), max_defects=2, max_distance=3.16)
    maker = DefectFlowMaker(
        name="quickstart", supercell=(4, 4, 1), defects=choices, engine="sevennet", control_fraction=1.0, store=store
    )
    _note(
        f"{maker.model} learned from DFT (PBE) relaxations of the 2DMD data set; the judge here is another engine, the "
        "potential SevenNet-0. This shows the mechanics, not a DFT saving."
    )
    first = _relax(maker, "MoS2", folder)
    _note(f"\n{_MATCHED} learned from SevenNet-0's relaxations of other configurations: the gain of retraining.")
    matched = _relax(replace(maker, model=_MATCHED), "MoS2", first.folder)
    _note(
        "\nfields: each pair starts from the sum of what its two single defects did to their surroundings; no training."
    )
    fields = _relax(replace(maker, prerelaxer="fields"), "MoS2", first.folder)
    table = Table("start", "steps unrelaxed", "from predicted", "saved", title="same minimum", title_justify="left")
    for name, row in ((first.model, first), (matched.model, matched), ("fields", fields)):
        unrelaxed, predicted = row.steps
        table.add_row(name, str(unrelaxed), str(predicted), f"{1 - predicted / unrelaxed:.0%}" if unrelaxed else "-")
    console.print(table)
    _end(first, json_file, {"matched": matched, "fields": fields})


def _note(text: str) -> None:
    console.print(text, style="dim", soft_wrap=True, highlight=False)


_WIDE = 100
"""Columns of a terminal from which on cells have space around them; a narrower one needs it for the verdicts."""


@dataclass(frozen=True)
class _Outcome:
    """Outcome of a campaign.

    Attributes
    ----------
    totals
        Output of the flow; None if it did not finish.
    reasons
        Reasons if it did not, a line for each job that failed.
    unfinished
        Relaxations that others have in hand or that have no end, a line for each holder.
    names
        Names of the pre-relaxers by key, where there are several; else None.
    unlearned
        What brings the network to a host that it has not learned; None if it has.
    """

    model: str
    rows: list[StartsRow]
    totals: dict[str, Any] | None
    store: str
    folder: Path
    reasons: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    names: dict[str, str] | None = None
    unlearned: str | None = None

    @property
    def finished(self) -> bool:
        ended = self.totals is not None and bool(self.rows) and not self.unfinished
        return ended and not any(row.failed for row in self.rows)

    @property
    def steps(self) -> tuple[int, int]:
        """Ionic steps of pairs in the same minimum, from unrelaxed and from predicted starts."""
        return _steps(self.rows)

    def start(self, row: StartsRow) -> str:
        """Return the name of the pre-relaxer of a row; empty if none was asked."""
        from definet_flows.stores.analysis.gates import named

        return "" if row.weights is None else named(row.weights, self.names or {})


def _steps(rows: Sequence[StartsRow]) -> tuple[int, int]:
    same = [row for row in rows if row.same_minimum]
    return sum(row.steps_unrelaxed or 0 for row in same), sum(row.steps_predicted or 0 for row in same)


def _relax(maker: DefectFlowMaker, host: str, folder: Path | None) -> _Outcome:
    """Run the flow under a progress bar, and print its table."""
    from definet_flows.hosts.cell import near_images
    from definet_flows.stores import Filter, open_store, starts_rows
    from definet_flows.stores.analysis.gates import prerelaxer_names
    from definet_flows.stores.locking import explain_running
    from definet_flows.workflows.campaign.local import new_folder, run_here
    from definet_flows.workflows.engines.base import require_executables, resolve_engine
    from definet_flows.workflows.learning.unlearned import what_brings_it
    from definet_flows.workflows.queue.progress import settled_in
    from definet_flows.workflows.recording.cases import settings_hash_of

    campaign, engine = maker.campaign(host), resolve_engine(maker.engine)
    require_executables(engine)
    folder = folder or new_folder()
    settings = settings_hash_of(engine, relaxed_host=maker.relax_host)
    with open_store(maker.store) as records:  # tried before anything runs
        place = records.location
        settled = settled_in(records, campaign.ids, campaign.controls, settings, campaign.keys)
    count = f"{len(campaign.ids)} configuration{'s' * (len(campaign.ids) != 1)}"
    console.print(f"{count} of {campaign.host.formula}, {campaign.host.n_sites} sites")
    if chosen := campaign.host.provenance.get("supercell"):
        console.print(f"supercell: {chosen}", soft_wrap=True, highlight=False)
    if near := near_images(campaign.host):
        errors.print(Text.assemble(("warning:", "yellow"), " ", near), soft_wrap=True)
    console.print(f"records: {place}\njobs:    {folder}", soft_wrap=True, highlight=False)
    with _Bar(len(campaign.ids) + len(campaign.controls), sum(settled.values())) as bar:
        totals = run_here(maker.assemble(campaign, settled), folder, bar.tell)
    where = Filter(
        configuration_ids=campaign.ids,
        settings_hash=settings,
        weights=campaign.sole_key,
    )
    with open_store(maker.store, read_only=True) as records:
        rows = starts_rows(records, where)
        every = records.record_rows(where.model_copy(update={"weights": None}))
        unfinished = explain_running(records, [row.id for row in every if row.status == "running"])
        names = prerelaxer_names(records) if campaign.sole_key is None else None
    unlearned = what_brings_it(campaign, str(where.settings_hash), maker.store)
    outcome = _Outcome(campaign.model, rows, totals, place, folder, bar.reasons, unfinished, names, unlearned)
    _print(outcome)
    return outcome


def _end(outcome: _Outcome, json_file: Path | None, others: Mapping[str, _Outcome] | None = None) -> None:
    """Write the JSON file, with further outcomes by name; exit with 1 if something failed."""
    further = dict(others or {})
    document = _document(outcome) | {name: _document(one) for name, one in further.items()}
    if json_file is not None:
        write_whole(json_file, json.dumps(document, indent=2) + "\n")
    if not all(one.finished for one in (outcome, *further.values())):
        raise typer.Exit(_FAILED)


class _Bar(Progress):
    """A bar over relaxations that names the job at work."""

    def __init__(self, total: int, done: int) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        super().__init__(*columns, TimeElapsedColumn(), console=console)
        self.relaxations = self.add_task("starting", total=total, completed=done)
        self.reasons: list[str] = []

    def tell(self, event: str, name: str) -> None:
        """Hear that a job has started, finished or failed."""
        if event == "Failed":
            self.reasons.append(name)
        elif event == "Starting":
            self.update(self.relaxations, description=name)
        elif name.startswith("record "):
            self.advance(self.relaxations)
        elif name.startswith("totals"):
            done = int(self.tasks[0].completed)
            self.update(self.relaxations, description="done", total=done or 1, completed=done or 1)


def _shown(outcome: _Outcome) -> list[StartsRow]:
    """Return the rows of the table: a refusal is left out where another pre-relaxer served, or `auto` tells it."""
    if outcome.names is None:
        return outcome.rows
    served = {row.configuration_id for row in outcome.rows if row.steps_predicted is not None}
    summed = {row.configuration_id for row in outcome.rows if row.weights == "auto"}
    return [
        row
        for row in outcome.rows
        if row.steps_predicted is not None
        or (row.configuration_id not in served and (row.weights == "auto" or row.configuration_id not in summed))
    ]


def _print(outcome: _Outcome) -> None:
    from definet_flows.schemas import signed

    table = Table("defects", header_style="bold", padding=(0, int(console.width >= _WIDE)))
    table.add_column("charge", justify="right")
    for heading in ("|F| eV/Å\nunrelaxed", "at start\npredicted", "steps\nunrelaxed", "from\npredicted"):
        table.add_column(heading, justify="right")
    if outcome.names is not None:
        table.add_column("start from")
    table.add_column("verdict")
    shown = _shown(outcome)
    for row in shown:
        verdict = row.verdict or ("failed" if row.failed else _refused(row))
        table.add_row(
            row.name,
            signed(row.charge),
            _number(row.start_force_unrelaxed, "{:.3f}"),
            _number(row.start_force_predicted, "{:.3f}"),
            _number(row.steps_unrelaxed, "{}"),
            _number(row.steps_predicted, "{}"),
            *([outcome.start(row)] if outcome.names is not None else []),
            verdict + (" (flagged)" if row.gate == "flagged" and row.verdict else ""),
        )
    console.print(table)
    if outcome.unlearned is not None and any(row.gate == "rejected" for row in shown):
        console.print(one_line(outcome.unlearned), soft_wrap=True, highlight=False, markup=False)
    totals = outcome.totals
    for line in outcome.unfinished:
        errors.print(Text.assemble(("not finished:", "bold red"), f" {one_line(line)}"), soft_wrap=True)
    if totals is None:
        why = "; ".join(outcome.reasons[:3]) or "see the jobs' folder"
        text = ("the flow did not finish", "bold red"), f": {one_line(why)}; the same command goes on from here"
        errors.print(Text.assemble(*text), soft_wrap=True)
        return
    for name in dict.fromkeys(map(outcome.start, outcome.rows)) if outcome.names is not None else ["predicted"]:
        rows = [row for row in outcome.rows if outcome.names is None or outcome.start(row) == name]
        unrelaxed, predicted = _steps(rows)
        if unrelaxed or outcome.names is None:
            counts = f"{unrelaxed} from unrelaxed, {predicted} from {name}"
            console.print(f"ionic steps, pairs in the same minimum: {counts}", highlight=False)
    console.print(totals["message"], highlight=False, soft_wrap=True, markup=False)
    if totals["relaxations_run"] == 0 and totals["relaxations_reused"] and not outcome.unfinished:
        console.print("everything was in the store already: nothing was computed again")


def _refused(row: StartsRow) -> str:
    """Return the gate's verdict with the first of its reasons; `definet explain` tells all of them."""
    from definet_flows.schemas.starts import NO_PRERELAXER

    first = row.reason.removeprefix(NO_PRERELAXER).split("; ")[0]
    first = first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
    return one_line(f"{row.gate}: {first}" if first else row.gate)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _document(outcome: _Outcome) -> dict[str, Any]:
    records = [
        {
            "name": row.name,
            "charge": row.charge,
            "configuration_id": row.configuration_id,
            "prerelaxer": outcome.start(row) or None,
            "steps_unrelaxed": row.steps_unrelaxed,
            "steps_predicted": row.steps_predicted,
            "converged": row.converged,
            "same_minimum": row.same_minimum,
            "verdict": row.verdict,
            "in_domain": row.in_domain,
        }
        for row in outcome.rows
    ]
    totals = outcome.totals or {}
    return {
        "weights": outcome.model,
        "saving": totals.get("saving"),
        "relaxations_run": totals.get("relaxations_run", 0),
        "relaxations_reused": totals.get("relaxations_reused", 0),
        "store": outcome.store,
        "records": records,
    }
