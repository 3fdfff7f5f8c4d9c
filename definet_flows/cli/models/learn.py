"""`definet learn`: active learning on a pool of configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from definet_flows.atomic import write_whole
from definet_flows.cli import options
from definet_flows.cli.app import DID_NOT_FINISH, app, console
from definet_flows.cli.campaign.options import CampaignOptions, campaign_command
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from definet_flows.schemas.learning import Round
    from definet_flows.workflows.campaign.contents import Campaign
    from definet_flows.workflows.learning.active.flow import ActiveLearningMaker

_FAILED = 1


@app.command()
@campaign_command
def learn(
    campaign: CampaignOptions,
    strategy: Annotated[
        str,
        typer.Option(
            help="Choice of a batch: random; uncertainty (the most uncertain); diverse (uncertain and unlike what "
            "is known); saving (most ionic steps saved per core-hour)."
        ),
    ] = "diverse",
    batch: Annotated[int, typer.Option(help="Configurations relaxed in a round.")] = 20,
    held_out: Annotated[
        int,
        typer.Option(
            help="Configurations that are relaxed first and never learned from; 8 at least.  A pool too small to hold "
            "8 out is cross-validated."
        ),
    ] = 12,
    budget: Annotated[int, typer.Option(help="Configurations to relax at most, those held out included.")] = 200,
    target: Annotated[
        float | None,
        typer.Option(help="Stop at this mean |component| error on held-out configurations, Å.  \\[default: none]"),
    ] = None,
    patience: Annotated[int, typer.Option(help="Stop after so many rounds without a gain of 2 %.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the jobs.  \\[default: a new folder in the data folder]")
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Relax the defects of HOST batch by batch, each batch chosen by what the network has still to learn.

    After each batch the network is retrained on everything in the store with the same settings, and measured on
    configurations it never learns from. The store holds the progress: after a stop or a kill the same command
    continues, also with a larger --budget.
    """
    from definet_flows.workflows.learning.active.flow import ActiveLearningMaker

    maker = ActiveLearningMaker(
        defects=campaign.maker(),
        strategy=strategy,
        batch=batch,
        held_out=held_out,
        budget=budget,
        target=target,
        patience=patience,
        seed=campaign.seed,
    )
    _run(maker, campaign.host, folder, json_file)


def _run(maker: ActiveLearningMaker, host: str, folder: Path | None, json_file: Path | None) -> None:
    """Run the flow, and print the rounds."""
    from definet_flows.stores import open_store
    from definet_flows.workflows.campaign.local import new_folder, run_here
    from definet_flows.workflows.engines.base import require_executables, resolve_engine
    from definet_flows.workflows.learning.active.state import holds_out

    options.check_writable(json_file)
    pool = maker.campaign(host)
    require_executables(resolve_engine(maker.defects.engine))
    folder = folder or new_folder()
    with open_store(maker.defects.store) as records:  # the lock is tried before anything runs
        place = records.location
    console.print(f"pool: {len(pool.ids)} configurations of {pool.host.formula}, {pool.host.n_sites} sites")
    if not holds_out(pool):
        console.print("too few to hold 8 out: models are judged by cross-validation over what is relaxed")
    console.print(f"records: {place}\njobs:    {folder}", soft_wrap=True, highlight=False)
    with console.status("starting") as status:
        last = run_here(
            maker.assemble(pool, host), folder, lambda event, name: status.update(Text(f"{event} {one_line(name)}"))
        )
    rounds = read_rounds(maker, pool)
    console.print(_table(rounds))
    if json_file is not None:
        write_whole(json_file, json.dumps([past.model_dump(mode="json") for past in rounds], indent=1) + "\n")
    if last is None or not rounds or rounds[-1].stop is None:
        console.print(DID_NOT_FINISH)
        raise typer.Exit(_FAILED)
    console.print(rounds[-1].stop, highlight=False)
    console.print(f"the network of the last round is {rounds[-1].weights.name}; see `definet models show`")


def read_rounds(maker: ActiveLearningMaker, pool: Campaign) -> list[Round]:
    """Return the rounds of a pool, oldest first."""
    from definet_flows.schemas.learning import Round
    from definet_flows.stores import open_store
    from definet_flows.workflows.learning.active.state import learning_id

    learning = learning_id(pool, maker.settings_hash, maker.strategy)
    with open_store(maker.defects.store, read_only=True) as records:
        return sorted(records.find(Round, {"learning": learning}), key=lambda past: past.number)


def _table(rounds: list[Round]) -> Table:
    table = Table("round", "network", title="held-out error by relaxations spent", title_justify="left")
    for heading in ("relaxed", "ionic steps", "core-hours", "held out", "error mÅ", "chosen"):
        table.add_column(heading, justify="right")
    for past in rounds:
        hours = "-" if past.core_hours is None else f"{past.core_hours:.2f}"
        error = "-" if past.error is None else f"{1000 * past.error:.2f}"
        counts = (str(past.relaxed), str(past.ionic_steps), hours, str(past.held_out), error, str(len(past.chosen)))
        table.add_row(str(past.number), past.weights.name, *counts)
    return table
