"""`definet retrain` and `definet models`: networks that learn from the records, and which of them is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from definet_flows.atomic import write_whole
from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from definet_flows.schemas.models import Champion, HostTrial, Model, Trial
    from definet_flows.workflows.learning.retrain import Retrained

_FAILED = 1
_SHOWN = 20

models = typer.Typer(no_args_is_help=True, help="Weights trained on a store's records: list, show, promote, roll back.")
app.add_typer(models, name="models")

_Ref = Annotated[str, typer.Argument(metavar="MODEL", help="Registry id, or the beginning of the weights' sha256.")]
_Settings = Annotated[
    str | None,
    typer.Option("--settings", help="Settings hash or its beginning.  \\[default: all that the store has]"),
]


@app.command()
def retrain(
    store: options.Store = None,
    min_new: Annotated[
        int, typer.Option(min=1, help="Configurations relaxed since the last training below which nothing is done.")
    ] = 200,
    settings: _Settings = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train a new network instead of going on from the champion's.")
    ] = False,
    json_file: options.Json = None,
) -> None:
    """Train the champion on the relaxations since its training; the result is promoted only if it is better.

    For each settings hash (engine, functional, cutoff, ...) of the store: converged records only, errors in Å on
    configurations that were never learned from. Does nothing, and says so, if too little is new or if another
    retraining runs. After a kill the same command continues from the last completed epoch.
    """
    import json

    from definet_flows.workflows.learning.retrain import RetrainConfig, retrain_all

    options.check_writable(json_file)
    config = RetrainConfig(min_new=min_new, from_scratch=from_scratch)
    found = retrain_all(store, config, settings, tell=lambda text: _line(one_line(text)))
    for outcome in found:
        _tell(outcome)
    if json_file is not None:
        write_whole(json_file, json.dumps([outcome.model_dump(mode="json") for outcome in found], indent=1) + "\n")


def _tell(outcome: Retrained) -> None:
    for line in outcome.counts:
        console.print(f"  {line}", highlight=False)
    if outcome.refused:
        console.print(f"  {len(outcome.refused)} records not learned from:", highlight=False)
        for refusal in outcome.refused[:_SHOWN]:
            _line(f"    {refusal.record[:12]} {one_line(refusal.name)}: {one_line(refusal.reason)}")
        if len(outcome.refused) > _SHOWN:
            _line(f"    ... and {len(outcome.refused) - _SHOWN} more: see --json")
    for settings, n in outcome.other_settings.items():
        _line(f"  {n} records with other settings ({settings[:12]}) not used")
    _line(outcome.message)


@models.command("list")
def list_models(store: options.Store = None) -> None:
    """List the models of a store: state, settings, configurations learned from, mean errors on held-out ones in mÅ.

    The three errors are of the same configurations: no prediction (no atom moves), the champion of that day, the model.
    """
    from definet_flows.stores import open_store
    from definet_flows.stores.learning.registry import champion_document, state_of
    from definet_flows.stores.learning.registry import models as every

    with open_store(store, read_only=True) as records:
        found = every(records)
        documents = {outcome.settings_hash: champion_document(records, outcome.settings_hash) for outcome in found}
    if not found:
        console.print("no models yet: `definet retrain` trains the first model")
        return
    table = Table(header_style="bold")
    for heading in ("model", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("settings", "parent"):
        table.add_column(heading, overflow="fold")
    for heading in ("data", "no predic-\ntion mÅ", "champion\nmÅ", "this model\nmÅ"):
        table.add_column(heading, justify="right", overflow="fold")
    for model in found:
        state = state_of(model, documents[model.settings_hash])
        trial = model.trials[-1] if model.trials else None
        parent = "-" if model.parent is None else model.parent.name
        cells = (model.id, state, model.settings_hash[:12], parent, str(model.configurations))
        table.add_row(*cells, *(_errors(trial, who) for who in ("nothing", "champion", "challenger")))
    console.print(table)


def _errors(trial: Trial | None, who: str) -> str:
    return "-" if trial is None else "\n".join(f"{host.host} {1000 * getattr(host, who):.2f}" for host in trial.hosts)


@models.command()
def show(model: _Ref, store: options.Store = None) -> None:
    """Show everything about a model: data, recipe, trials, and its times as champion."""
    from definet_flows.stores import open_store
    from definet_flows.stores.learning.registry import champion_document, find_model, state_of

    with open_store(store, read_only=True) as records:
        found = find_model(records, model)
        document = champion_document(records, found.settings_hash)
    table = Table(show_header=False, title=found.id, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _facts(found, state_of(found, document)):
        table.add_row(label, value)
    console.print(table)
    _line(f"sha256 {found.sha256}")  # outside of the table, which would break it
    for trial in found.trials:
        _line(f"{trial.at} {'passed' if trial.passed else 'failed'} against {trial.champion.name}: {trial.reason}")
        for host in trial.hosts:
            _line(f"  {_compared(host)}")
    _history(document)


def _compared(host: HostTrial) -> str:
    """Return the mean errors of the model, of the champion and of no prediction on the same configurations."""
    errors = {"this model": host.challenger, "champion": host.champion, "no prediction": host.nothing}
    told = ", ".join(f"{who} {1000 * error:.2f} mÅ" for who, error in errors.items())
    return f"{host.host}, mean error over {host.n} held-out configurations: {told}"


def _facts(model: Model, state: str) -> list[tuple[str, str]]:
    parent = "none: from scratch" if model.parent is None else f"{model.parent.name} ({model.parent.sha256[:12]})"
    return [
        ("state", state),
        ("size", f"{model.size / 1e6:.1f} MB"),
        ("engine, settings", f"{model.engine}, {model.settings_hash}"),
        ("hosts", ", ".join(model.hosts)),
        ("parent", parent),
        ("data", f"{model.configurations} configurations, {model.refused} records refused, hash {model.data_hash}"),
        ("", "\n".join(model.counts)),
        ("recipe", ", ".join(f"{key} {value}" for key, value in model.recipe.items() if key != "network")),
        ("network", ", ".join(f"{key} {value}" for key, value in model.recipe.get("network", {}).items())),
        ("made", f"{model.provenance.finished}, {model.provenance.directory}"),
    ]


def _history(document: Champion | None) -> None:
    for tenure in () if document is None else document.history:
        name = "the weights of the package" if tenure.model is None else tenure.model.name
        _line(f"{tenure.at} {tenure.action}: {name}, {tenure.reason}")


@models.command("promote")
def promote_model(model: _Ref, store: options.Store = None) -> None:
    """Try a challenger again, on all records there are now, and make it champion if it is better.

    Steps of relaxations that started from its predictions count too. Exit code 1 if it stays a challenger.
    """
    from definet_flows.workflows.learning.retrain import try_again

    found, trial = try_again(store, model)
    _line(f"{found.id} {'is champion' if trial.passed else 'stays a challenger'}: {trial.reason}")
    if not trial.passed:
        raise typer.Exit(_FAILED)


@models.command("rollback")
def roll_back(settings: _Settings = None, store: options.Store = None) -> None:
    """Make the previous champion the champion again, at once; before the first champion the package's model is used."""
    from definet_flows.stores import open_store
    from definet_flows.stores.learning.registry import rollback, settings_with_champion

    with open_store(store, read_only=True) as records:  # a missing store is not made
        chosen = settings_with_champion(records, settings)
    with open_store(store) as records:
        changed = rollback(records, chosen)
    _history(changed)


def _line(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
