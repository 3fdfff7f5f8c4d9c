"""`definet train` and `definet evaluate`: networks on pairs of unrelaxed and relaxed structures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from definet_flows.atomic import write_whole
from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.errors import InputError

if TYPE_CHECKING:
    from definet_flows.model.data.archive import PairSet
    from definet_flows.model.inference.checkpoint import Card
    from definet_flows.model.network.network import Network

Data = Annotated[
    Path, typer.Option("--data", help="Folder in the layout of the 2DMD archive (doi:10.5281/zenodo.14027373).")
]


@app.command()
def train(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for logs, checkpoints and the finished model.safetensors.")
    ],
    hosts: Annotated[
        list[str], typer.Option("--hosts", help="Only sets of this host, such as MoS2; again for each.")
    ] = [],  # noqa: B006 - typer's way to say "all"
    config: Annotated[
        str, typer.Option("--config", help="Recipe: a YAML file, or shipped, refine, wide, longer, alone or paper.")
    ] = "shipped",
    name: Annotated[str, typer.Option(help="Registry id of the result.")] = "definet",
    start: Annotated[
        str | None, typer.Option(help="Go on from these weights, with their network: named as --model elsewhere.")
    ] = None,
    store: options.Store = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last completed epoch in --output.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for all.")] = 0,
) -> None:
    """Train a network on the `train` splits of DATA, keep the weights best on its `val` splits.

    Errors are in Å. Interrupted or killed, the same command with --resume goes on from the last completed epoch.
    """
    import torch

    from definet_flows.model.data.archive import read_archive
    from definet_flows.model.training.recipes import read_recipe
    from definet_flows.model.training.train import card_of, read_weights
    from definet_flows.model.training.train import train as fit
    from definet_flows.workflows.campaign.models import checkpoint_of

    recipe = read_recipe(config)
    if (output / "last.ckpt").exists() and not resume:
        msg = f"{output} holds a training already: give --resume to go on with it, or another --output"
        raise InputError(msg)
    sets = [s for s in read_archive(data) if not hosts or s.host.formula in hosts]
    strange = set(hosts) - {s.host.formula for s in sets}
    if strange:
        msg = f"--hosts {min(strange)}: no set of that host under {data}"
        raise InputError(msg)
    for pairs in sets:
        left_out = f", {len(pairs.malformed)} malformed left out" if pairs.malformed else ""
        console.print(f"{pairs.name}: {len(pairs.split('train'))} to learn from{left_out}", highlight=False)
    if threads:
        torch.set_num_threads(threads)
    parent = checkpoint_of(start, store) if start is not None else None
    if parent is not None:
        shape = parent.card.config.model_copy(update={"passes": recipe.network.passes})
        recipe = recipe.model_copy(update={"network": shape})
    network = parent.trainable(recipe.network) if parent is not None else None
    best = fit(recipe, sets, output, resume=resume, network=network)
    _finish(output / "model.safetensors", read_weights(best, recipe.network), card_of(name, recipe, sets), data, sets)


@app.command()
def combine(
    weights: Annotated[
        list[str],
        typer.Argument(help="Models of the same cutoff, as --model elsewhere; later training goes on from the first."),
    ],
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    name: Annotated[str, typer.Option(help="Registry id of the result.")] = "definet",
    store: options.Store = None,
) -> None:
    """Combine several models, trained separately, into a single model: it predicts the mean of their positions.

    A network that was trained on some hosts of the first model only (`train --hosts`) predicts for these hosts alone.

    Its uncertainty and the errors on its card (Å) are those on the `val` splits of DATA.
    """
    from definet_flows.model.data.archive import read_archive
    from definet_flows.model.inference.checkpoint import combine as mean_of
    from definet_flows.workflows.campaign.models import checkpoint_of

    if output.suffix != ".safetensors":
        raise InputError(f"--output {output}: give a name that ends in .safetensors")
    options.check_writable(output)
    checkpoints = [checkpoint_of(ref, store) for ref in weights]
    network = mean_of(checkpoints)
    recipes = {f"{checkpoint.name} {checkpoint.sha256[:12]}": checkpoint.card.recipe for checkpoint in checkpoints}
    card = checkpoints[0].card.model_copy(update={"name": name, "recipe": {"mean of": recipes}})
    _finish(output, network, card, data, read_archive(data))


def _finish(path: Path, network: Network, card: Card, data: Path, sets: list[PairSet]) -> None:
    """Write weights with the uncertainty and the errors of the validation split on their card, and show these."""
    from definet_flows.model.inference.checkpoint import save_checkpoint
    from definet_flows.model.training.evaluate import calibrate, table
    from definet_flows.model.training.evaluate import evaluate as measure

    card = card.model_copy(update={"calibration": calibrate(network.eval(), sets)})
    evaluation = measure(data, "val", save_checkpoint(path, network, card), tuple(s.name for s in sets))
    metrics = {n: {"mae": result.mae, "dummy": result.dummy or 0.0} for n, result in evaluation.sets.items()}
    save_checkpoint(path, network, card.model_copy(update={"metrics": metrics}))
    console.print(table(evaluation))
    console.print(f"weights: {path}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    data: Data,
    split: Annotated[
        str, typer.Option(help="train, val or test: the entries in each set's list of that name.")
    ] = "val",
    model: options.Model = "definet-2dmd",
    store: options.Store = None,
    json_file: options.Json = None,
    figure: Annotated[Path | None, typer.Option(help="Write a PNG of the errors near defects to this file.")] = None,
) -> None:
    """Measure a model on a split of every set in DATA, beside the baselines.

    Errors in Å: mean over structures of the mean |component|, and within 3 to 6 Å of a defect. Dummy: nothing moves.
    D.-host: the host's own motion. Additive: the sum of single-defect fields, fitted on the train split.
    """
    from definet_flows.model.training.evaluate import draw, table
    from definet_flows.model.training.evaluate import evaluate as measure
    from definet_flows.workflows.campaign.models import checkpoint_of

    for path in (json_file, figure):
        options.check_writable(path)
    evaluation = measure(data, split, checkpoint_of(model, store))
    console.print(table(evaluation))
    if json_file is not None:
        write_whole(json_file, evaluation.model_dump_json(indent=2) + "\n")
    if figure is not None:
        draw(evaluation, figure)
