"""The training of a challenger, and of its likes on the folds of few labels; a finished training is not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from definet_flows.foreign import file_name
from definet_flows.schemas import content_hash
from definet_flows.settings import load_settings
from definet_flows.stores.learning.folds import folded, with_validation
from definet_flows.workflows.learning.label_sets import pair_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.model.training.train import TrainConfig
    from definet_flows.stores.learning.training_set import TrainingSet
    from definet_flows.workflows.learning.judging import Judging


def train_challenger(
    training: TrainingSet, judging: Judging, parent: Checkpoint | None, changes: Mapping[str, Any]
) -> Checkpoint:
    """Return the challenger; what is held out is never learned from, also under cross-validation.

    Parameters
    ----------
    training
        The labels.
    judging
        What it may claim, and how it is judged.
    parent
        Where training starts; None: from scratch.
    changes
        Fields of the recipe that differ from the usual recipe.
    """
    training = with_validation(training)
    name = _registry_id(training, parent, _recipe(training, parent, changes))
    checkpoint = _fit(training, judging, parent, changes, name, _folder(name))
    if not judging.folds:
        return checkpoint
    return _with_remark(checkpoint, f"{judging.folds}-fold cross-validation over {len(training.entries)} ends")


def train_on_folds(
    training: TrainingSet, judging: Judging, parent: Checkpoint | None, changes: Mapping[str, Any], name: str
) -> Iterator[tuple[Checkpoint, TrainingSet]]:
    """Yield, fold by fold, a network that never saw the fold, and the training set that holds the fold out.

    Parameters
    ----------
    name
        Of the challenger, whose likes these are.
    """
    for k, part in enumerate(folded(training)):
        yield _fit(part, judging, parent, changes, f"{name}-fold-{k}", _folder(name) / f"fold-{k}"), part


def _fit(
    training: TrainingSet,
    judging: Judging,
    parent: Checkpoint | None,
    changes: Mapping[str, Any],
    name: str,
    folder: Path,
) -> Checkpoint:
    """Return a network; a finished training is not repeated, a killed training goes on."""
    from definet_flows.model.inference.checkpoint import load_checkpoint  # noqa: PLC0415 - torch
    from definet_flows.model.training.finetune import fine_tune  # noqa: PLC0415

    finished = folder / "model.safetensors"
    if finished.is_file():
        return load_checkpoint(finished)
    recipe = _recipe(training, parent, changes)
    return fine_tune(
        parent,
        pair_sets(training),
        recipe,
        folder,
        name=name,
        claims=judging.claims,
        other_minima=training.other_minima,
    )


def _with_remark(checkpoint: Checkpoint, judged: str) -> Checkpoint:
    """Return the checkpoint, how it is judged on its card."""
    from definet_flows.model.inference.checkpoint import save_checkpoint  # noqa: PLC0415 - torch

    if judged in checkpoint.card.data:
        return checkpoint
    card = checkpoint.card.model_copy(update={"data": f"{checkpoint.card.data}; judged by {judged}"})
    return save_checkpoint(checkpoint.path, checkpoint.network, card)


def _folder(name: str) -> Path:
    return load_settings().data_dir / "retraining" / file_name(name)


def _registry_id(training: TrainingSet, parent: Checkpoint | None, recipe: TrainConfig) -> str:
    """Return a name that the same training has again: engine, and hash of data, parent and recipe."""
    sha256 = parent.sha256 if parent else None
    digest = content_hash("model", training.data_hash, sha256, recipe.model_dump(mode="json"))
    return f"{training.engine}-{digest[:8]}"


def _recipe(training: TrainingSet, parent: Checkpoint | None, changes: Mapping[str, Any]) -> TrainConfig:
    from definet_flows.model.training.finetune import fine_tuning, replayed_hosts  # noqa: PLC0415 - torch
    from definet_flows.model.training.recipes import read_recipe  # noqa: PLC0415

    if parent is None:
        start = read_recipe("shipped")
    else:
        replayed = replayed_hosts(parent, (entries[0].host for entries in training.by_host().values()))
        start = fine_tuning(len(training.of_split("train")), len(replayed))
    return type(start).model_validate({**start.model_dump(), **changes})
