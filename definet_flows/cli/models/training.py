"""`definet train` and `definet evaluate`: networks on pairs of unrelaxed and relaxed structures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from definet_flows.atomic import write_whole
from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.errors import InputError
from definet_flows.foreign import one_line

if TYPE_CHECKING:
    from definet_flows.model.data.archive import PairSet
    from definet_flows.model.inference.checkpoint import Card, Checkpoint
    from definet_flows.model.network.network import Network
    from definet_flows.model.training.train import TrainConfig
    from definet_flows.workflows.learning.frame_sets import FrameSets

_FRAMES = (".extxyz", ".xyz")

Data = Annotated[
    Path, typer.Option("--data", help="Folder in the layout of the 2DMD archive (doi:10.5281/zenodo.14027373).")
]
DataOrFrames = Annotated[
    Path,
    typer.Option(
        "--data",
        help="Folder in the layout of the 2DMD archive (doi:10.5281/zenodo.14027373), or an .extxyz file of unrelaxed "
        "frames with an array relaxed_positions, of one functional.",
    ),
]
NamedHost = Annotated[
    list[str],
    typer.Option(
        "--host",
        metavar="NAME=FILE",
        help="Unit cell of the frames whose host is NAME; again for each.  \\[with an .extxyz file only]",
    ),
]


@app.command()
def train(
    data: DataOrFrames,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for logs, checkpoints and the finished model.safetensors.")
    ],
    hosts: Annotated[
        list[str], typer.Option("--hosts", help="Only sets of this host, such as MoS2; again for each.")
    ] = options.NONE,
    host: NamedHost = options.NONE,
    config: Annotated[
        str, typer.Option("--config", help="Recipe: a YAML file, or shipped, refine, wide, longer, alone or paper.")
    ] = "shipped",
    name: Annotated[str, typer.Option(help="Registry id of the result.")] = "definet",
    start: Annotated[
        str | None, typer.Option(help="Continue from these weights and their network; named as --model elsewhere.")
    ] = None,
    store: options.Store = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last completed epoch in --output.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for all.")] = 0,
) -> None:
    """Train a network on the `train` splits of DATA, and keep the weights that are best on its `val` splits.

    From an .extxyz file the network learns charges and inserted atoms too. Errors are in Å. After an
    interruption the same command with --resume continues from the last completed epoch.
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
    parent = checkpoint_of(start, store) if start is not None else None
    if threads:
        torch.set_num_threads(threads)
    if host or data.suffix.lower() in _FRAMES:
        _train_frames(_frame_sets(data, host), recipe, output, name, parent)
        return
    sets = [s for s in read_archive(data) if not hosts or s.host.formula in hosts]
    strange = set(hosts) - {s.host.formula for s in sets}
    if strange:
        msg = f"--hosts {min(strange)}: no set of that host under {data}"
        raise InputError(msg)
    _tell(sets)
    if parent is not None:
        shape = parent.card.config.model_copy(update={"passes": recipe.network.passes})
        recipe = recipe.model_copy(update={"network": shape})
    network = parent.trainable(recipe.network) if parent is not None else None
    best = fit(recipe, sets, output, resume=resume, network=network)
    _finish(output / "model.safetensors", read_weights(best, recipe.network), card_of(name, recipe, sets), sets)


def _tell(sets: list[PairSet]) -> None:
    for pairs in sets:
        left_out = f", {len(pairs.malformed)} malformed left out" if pairs.malformed else ""
        console.print(f"{pairs.name}: {len(pairs.split('train'))} to learn from{left_out}", highlight=False)


def _frame_sets(data: Path, hosts: list[str]) -> FrameSets:
    """Read a file of frames, of the hosts that are named as NAME=FILE."""
    from definet_flows.workflows.learning.frame_sets import frame_sets

    if not hosts:
        raise InputError(f"--data {data}: name the unit cell of each host in it, such as --host GaN=GaN.cif")
    named: dict[str, str] = {}
    for host in hosts:
        name, unit = _named(host)
        if name in named:
            raise InputError(f"--host {host}: {name} is given twice")
        named[name] = unit
    if data.is_dir():
        raise InputError(f"--host is for an .extxyz file, and --data {data} is a folder: leave it out")
    found = frame_sets(data, named)
    for where, why in found.left_out.items():
        console.print(f"left out: {one_line(where)}: {one_line(why)}", highlight=False, soft_wrap=True, markup=False)
    _tell(found.sets)
    return found


def _named(host: str) -> tuple[str, str]:
    name, equals, unit = host.partition("=")
    if not (name and equals and unit):
        raise InputError(f"--host {host}: write NAME=FILE, where NAME is the frames' host, such as GaN=GaN.cif")
    return name, unit


def _train_frames(found: FrameSets, recipe: TrainConfig, output: Path, name: str, parent: Checkpoint | None) -> None:
    """Train on frames; their labels are relative to their own relaxed host, as those of records are."""
    from definet_flows.model.training.finetune import fine_tune, framed

    tuned = fine_tune(parent, found.sets, recipe, output, name=name, other_minima=found.other_minima)
    card = tuned.card.model_copy(update={"data": f"{tuned.card.data}; {found.functional}"})
    _finish(tuned.path, tuned.trainable(), card, [framed(parent, pairs) for pairs in found.sets])


@app.command()
def combine(
    weights: Annotated[
        list[str],
        typer.Argument(help="Models of the same cutoff, named as --model elsewhere; later training changes the first."),
    ],
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    name: Annotated[str, typer.Option(help="Registry id of the result.")] = "definet",
    store: options.Store = None,
) -> None:
    """Combine several models, trained separately, into a single model: it predicts the mean of their positions.

    A network that learned only some hosts of the first model (`train --hosts`) predicts only for these hosts.

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
    _finish(output, network, card, read_archive(data))


def _finish(path: Path, network: Network, card: Card, sets: list[PairSet]) -> None:
    """Write weights with the uncertainty and the errors of the validation split on their card, and show these."""
    from definet_flows.model.inference.checkpoint import save_checkpoint
    from definet_flows.model.training.evaluate import calibrate, evaluate_sets, table

    card = card.model_copy(update={"calibration": calibrate(network.eval(), sets)})
    evaluation = evaluate_sets(sets, "val", save_checkpoint(path, network, card))
    metrics = {n: {"mae": result.mae, "dummy": result.dummy or 0.0} for n, result in evaluation.sets.items()}
    save_checkpoint(path, network, card.model_copy(update={"metrics": metrics}))
    console.print(table(evaluation))
    console.print(f"weights: {path}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    data: DataOrFrames,
    host: NamedHost = options.NONE,
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
    from definet_flows.model.training.evaluate import draw, evaluate_sets, table
    from definet_flows.model.training.evaluate import evaluate as measure
    from definet_flows.model.training.finetune import framed
    from definet_flows.workflows.campaign.models import checkpoint_of

    for path in (json_file, figure):
        options.check_writable(path)
    checkpoint = checkpoint_of(model, store)
    if host or data.suffix.lower() in _FRAMES:
        read = [framed(checkpoint, pairs) for pairs in _frame_sets(data, host).sets]
        evaluation = evaluate_sets(read, split, checkpoint)
    else:
        evaluation = measure(data, split, checkpoint)
    console.print(table(evaluation))
    if json_file is not None:
        write_whole(json_file, evaluation.model_dump_json(indent=2) + "\n")
    if figure is not None:
        draw(evaluation, figure)
