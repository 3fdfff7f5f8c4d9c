"""Networks of the learning curve: one that starts from the unrelaxed positions, one that goes on from fields."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pymatgen.core import Lattice as Cell
from pymatgen.util.coord import pbc_shortest_vectors

from benchmarks.support.timed_training import Batch, Pace, fit, mean_error
from definet_flows.model.data.batches import Lattice, lattice_of
from definet_flows.model.inference.checkpoint import load_checkpoint, save_checkpoint
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.kernels import keep_freed_memory
from definet_flows.model.network.network import DefiNet
from definet_flows.model.training.finetune import fine_tune, framed
from definet_flows.model.training.train import TrainConfig, card_of
from definet_flows.schemas import PRISTINE, VACANCY, FloatArray
from definet_flows.starts.fields import FieldsPreRelaxer
from definet_flows.workflows.learning.label_sets import pair_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.model.data.archive import PairSet
    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.starts.proposals import Evidence
    from definet_flows.stores.learning.training_set import TrainingSet

RECIPE = TrainConfig(
    network=NetworkConfig(
        hidden=32,
        layers=4,
        gaussians=24,
        radial_extent=7.0,
        cutoff=5.0,
        max_neighbours=50,
        passes=2,
        inserted=True,
    ),
    batch=4,
    per_epoch=0,
    warmup=100,
    ema=0.99,
    noise=0.02,
    weight_decay=0.05,
    interpolated=0.5,
    recycled=0.35,
)
"""The shipped recipe `alone` for a network of half its width."""
_TRIED = (1, 2, 12)  # epochs of trainings that show how long an epoch takes; the first loads what all need
_HELD = 5  # of so many pairs, one chooses the epoch
_REACH = (2.0, 6.5)  # Å; where the displacements of a start end, as in benchmarks/charged.py
_SCATTER, _NOISE, _PART, _RECYCLED = 0.05, 0.005, 0.25, 0.25


# ------------------------------------------------------------------ from the unrelaxed positions


def train_network(training: TrainingSet, order: Sequence[str], seconds: float, folder: Path) -> Checkpoint:
    """Return a network that the package's own training made from scratch; a finished training is not repeated.

    Parameters
    ----------
    order
        The configuration_ids in the order of the campaign: of its pairs, every fifth chooses the epoch.
    seconds
        Of processor, about: they decide the number of epochs.
    """
    finished = folder / "model.safetensors"
    if finished.is_file():
        return load_checkpoint(finished)
    pairs = [entry.configuration_id for entry in training.entries if entry.n_defects > 1]
    chooses = set(sorted(pairs, key=order.index)[_HELD // 2 :: _HELD])
    entries = (replace(e, split="val" if e.configuration_id in chooses else "train") for e in training.entries)
    sets = pair_sets(replace(training, entries=tuple(entries)))
    with tempfile.TemporaryDirectory() as tried:
        _, few, more = (_train(sets, epochs, Path(tried) / str(epochs))[1] for epochs in _TRIED)
    epochs = max(1, round(seconds * (_TRIED[2] - _TRIED[1]) / (more - few)))
    trained, took = _train(sets, epochs, folder)
    print(f"{folder.name}: {epochs} epochs, {took:.0f} s of processor", flush=True)
    return trained


def _train(sets: Sequence[PairSet], epochs: int, folder: Path) -> tuple[Checkpoint, float]:
    """Return a trained network and the seconds of processor that it took."""
    begun = time.process_time()
    trained = fine_tune(None, sets, RECIPE.model_copy(update={"epochs": epochs}), folder, name=folder.name)
    return trained, time.process_time() - begun


# ------------------------------------------------------------------ from fields


@dataclass(frozen=True, eq=False)
class Starts:
    """Entries that share their rows, and where the training starts them.

    Attributes
    ----------
    moved
        Relaxed minus unrelaxed position, Å, [n, n_rows, 3].
    fields
        Proposal that the other records make for each entry, Å, [n_rows, 3]; None: there is none.
    away
        Distance of each row from the nearest defect, Å, [n, n_rows].
    """

    lattice: Lattice
    numbers: torch.Tensor
    markers: torch.Tensor
    moved: FloatArray
    fields: Sequence[FloatArray | None]
    away: FloatArray

    def drawn(self, k: int, rng: np.random.Generator) -> FloatArray:
        """Return a start of an entry, with noise, without its mean over the atoms, Å, [n_rows, 3]."""
        moved, field, atoms = self.moved[k], self.fields[k], self.markers[k].numpy() != VACANCY
        start = moved * (self.away[k] < rng.uniform(*_REACH))[:, None] if field is None else field
        start = start * rng.normal(1, _SCATTER)
        if rng.random() < _PART:
            start = start + rng.random() * (moved - start)
        start = start + _NOISE * rng.normal(size=start.shape)
        start[atoms] -= start[atoms].mean(0)
        start[~atoms] = 0
        return start


def starts_of(pairs: PairSet, config: NetworkConfig, fields: dict[str, FloatArray | None]) -> Starts:
    """Return a set of pairs with its starts; the pristine host starts at rest."""
    lattice = lattice_of(pairs.host, config, pairs.inserted)
    frac = np.linalg.solve(np.array(pairs.host.lattice).T, lattice.positions[0].numpy().T).T
    cell = Cell(pairs.host.lattice)
    away = [
        np.sqrt(np.min(pbc_shortest_vectors(cell, frac[row != PRISTINE], frac, return_d2=True)[1], axis=0))
        if (row != PRISTINE).any()
        else np.zeros(len(row))
        for row in pairs.markers
    ]
    return Starts(
        lattice.to(torch.device("cpu"), torch.float32).fused(),
        torch.as_tensor(pairs.numbers.astype(np.int64)),
        torch.as_tensor(pairs.markers.astype(np.int64)),
        pairs.relaxed.astype(np.float64),
        [fields.get(one) for one in pairs.ids],
        np.array(away),
    )


def fields_of_others(evidence: Sequence[Evidence], ids: Sequence[str]) -> dict[str, FloatArray | None]:
    """Return for each relaxation the field that all others propose, Å, by configuration_id; None: they have none."""
    found = {}
    for k, (item, one) in enumerate(zip(evidence, ids, strict=True)):
        fields = FieldsPreRelaxer([*evidence[:k], *evidence[k + 1 :]])
        found[one] = fields.propose(item.host, item.host.cartesian, [item.configuration])[0].displacements
    return found


def train_after_fields(
    training: TrainingSet, fields: dict[str, FloatArray | None], seconds: float, folder: Path
) -> Checkpoint:
    """Return a network that goes on from fields; a finished training is not repeated.

    A start is the field that the other records propose or, without one, the relaxed displacements cut off at some
    distance from the defects.

    Parameters
    ----------
    fields
        See `fields_of_others`.
    seconds
        Of processor.
    """
    finished = folder / "model.safetensors"
    if finished.is_file():
        return load_checkpoint(finished)
    folder.mkdir(parents=True, exist_ok=True)
    entries = tuple(replace(entry, split="train") for entry in training.entries)
    sets = [framed(None, pairs) for pairs in pair_sets(replace(training, entries=entries))]
    config = RECIPE.network.model_copy(update={"passes": 1})
    network = _fit(config, [starts_of(pairs, config, fields) for pairs in sets], seconds)
    card = card_of(folder.name, RECIPE.model_copy(update={"network": config}), sets)
    return save_checkpoint(finished, network, card)


def _fit(config: NetworkConfig, groups: Sequence[Starts], seconds: float) -> DefiNet:
    """Train for so many seconds of processor; return the averaged weights."""
    torch.manual_seed(RECIPE.seed)
    keep_freed_memory()
    rng = np.random.default_rng(RECIPE.seed)
    network = DefiNet(config)
    share = np.array([len(group.moved) for group in groups], dtype=float)

    def batch_loss() -> torch.Tensor:
        group = groups[rng.choice(len(groups), p=share / share.sum())]
        chosen = rng.choice(len(group.moved), min(RECIPE.batch, len(group.moved)), replace=False)
        return mean_error(network, _batch(group, chosen, rng), recycled=rng.random() < _RECYCLED)

    decay, clip, ema, heads = RECIPE.weight_decay, RECIPE.clip, RECIPE.ema, RECIPE.head_scale
    pace = Pace(seconds, RECIPE.learning_rate, RECIPE.warmup, decay, clip, ema, heads)
    averaged, steps = fit(network, pace, batch_loss)
    print(f"after fields: {steps} steps, {seconds:.0f} s of processor", flush=True)
    return averaged


def _batch(group: Starts, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
    """Return entries with a start each."""
    moved = torch.as_tensor(group.moved[chosen], dtype=torch.float32)
    start = torch.as_tensor(np.stack([group.drawn(k, rng) for k in chosen]), dtype=torch.float32)
    return Batch(group.lattice, group.numbers[chosen], group.markers[chosen], moved, start)
