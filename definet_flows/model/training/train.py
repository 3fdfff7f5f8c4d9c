"""Training of DefiNet on (unrelaxed, relaxed) pairs; Lightning runs the loop.

Loss, as in the paper (doi:10.1038/s41524-025-01728-w): mean over atoms of the Euclidean norm of the position error,
placeholders left out. What differs from the paper's recipe is in `TrainConfig` and documented there.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from pydantic import ConfigDict, Field, NonNegativeInt
from torch import Tensor, nn
from torch.utils.data import DataLoader

from definet_flows.errors import InputError
from definet_flows.model.data.archive import PairSet
from definet_flows.model.data.batches import Batch, HostSampler, Lattice, PairBatches, lattice_of
from definet_flows.model.inference.checkpoint import DATA_HASH, Card, Learned
from definet_flows.model.inference.device import chosen_device
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.kernels import keep_freed_memory
from definet_flows.model.network.layers import CoordinateUpdate
from definet_flows.model.network.network import DefiNet, restart
from definet_flows.model.training.parity import checked
from definet_flows.schemas import Frozen, content_hash

_TINY = 1e-8
_WHOLE = 10**9  # larger whole numbers are typing errors
_EXPECTED = (
    "(Checkpoint|Experiment logs) directory .* exists and is not empty",  # it is gone on with
    "The '.*_dataloader' does not have many workers",  # arrays in memory: a worker would only copy them
    "The number of training batches",  # small sets
    "The `srun` command is available",  # one process trains, wherever it was started
    ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
)
SEVERAL_DEVICES = "ddp_find_unused_parameters_true"
"""Lightning's strategy: the last layer's global nodes send no messages, hence have no gradient."""
_VALIDATED = 60  # entries of each set, the first ones of its list, that choose the epoch
_MOST_SKIPPED = 20  # non-finite steps in a row before training stops


class TrainConfig(Frozen):
    """A training recipe; the defaults are ours, `recipes/paper.yaml` is the paper's."""

    model_config = ConfigDict(allow_inf_nan=False)

    network: NetworkConfig = NetworkConfig()
    seed: int = Field(default=0, ge=0, lt=2**32)
    epochs: int = Field(
        default=60, ge=1, le=1_000_000, description="passes; the learning rate's schedule ends with the last"
    )
    batch: int = Field(default=8, ge=1, le=100_000, description="configurations of one host a step")
    per_epoch: int = Field(default=400, ge=0, le=_WHOLE, description="entries of a set drawn each epoch; 0 for all")
    drawn: dict[str, NonNegativeInt] = Field(default={}, description="the same for single sets, by set name")
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["cosine", "plateau"] = Field(
        default="cosine", description="cosine to zero, or the paper's x 0.8 after 5 epochs without gain"
    )
    warmup: int = Field(default=200, ge=0, le=_WHOLE, description="steps of linear warm-up")
    clip: float = Field(default=5.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights, which are kept")
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = False
    head_scale: float = Field(
        default=0.02, gt=0, description="factor on the initial output heads; 1 moves atoms by about 1 Å at the start"
    )
    noise: float = Field(default=0.0, ge=0, description="Å; Gaussian noise on the unrelaxed positions")
    interpolated: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of entries that start part of the way to their relaxed positions (arXiv:2106.07971)",
    )
    recycled: float = Field(
        default=0.0, ge=0, le=1, description="share of batches that start from the network's own prediction"
    )
    patience: int = Field(default=0, ge=0, le=_WHOLE, description="epochs without gain before stopping; 0: never")


def shrink_heads(network: DefiNet, scale: float) -> None:
    """Scale the initial output heads, so that training starts from 'nothing moves'."""
    with torch.no_grad():
        for layer in network.coord_update_layers:
            head = cast("CoordinateUpdate", layer)
            last = cast("nn.Linear", head.coord_mlp[2])
            for parameter in (head.lin_vec2coord.weight, last.weight, last.bias):
                parameter.mul_(scale)


class Training(lightning.LightningModule):
    """The loop's view of a network and the lattices it trains on."""

    def __init__(self, config: TrainConfig, sets: list[PairSet], network: DefiNet | None = None) -> None:
        super().__init__()
        self.config = config
        self.names = [s.name for s in sets]
        if network is None:
            network = DefiNet(config.network)
            shrink_heads(network, config.head_scale)
        self.network = network
        self._sets = sets
        self._hosts = [lattice_of(s.host, config.network, s.inserted) for s in sets]
        self._lattices: list[Lattice] = []
        self.skipped, self.skipped_in_a_row = 0, 0
        self._batch: Batch | None = None
        self._errors: list[tuple[int, float]] = []

    def _lattice(self, index: int) -> Lattice:
        """Return a host's lattice, where the network is; at first use the compiled kernels are checked on each."""
        if not self._lattices:
            like = next(self.network.parameters())
            for pairs, host in zip(self._sets, self._hosts, strict=True):
                entry = (
                    torch.as_tensor(a[:1].astype(np.int64), device=like.device) for a in (pairs.numbers, pairs.markers)
                )
                self._lattices.append(checked(self.network, host.to(like.device, like.dtype), *entry))
        return self._lattices[index]

    def _starts(self, batch: Batch) -> Tensor:
        """Return where the entries of a training batch start, Å, [1 or B, N, 3]."""
        c, lattice = self.config, self._lattice(batch.set_index)
        # From seed and step alone, so that a resumed training sees the same.
        draw = torch.Generator().manual_seed(c.seed * 1_000_003 + self.global_step)
        start, like = lattice.positions, batch.target
        if c.noise > 0:
            start = start + c.noise * torch.randn(like.shape, generator=draw).to(like)
        if c.recycled > 0 and float(torch.rand((), generator=draw)) < c.recycled:
            with torch.no_grad():
                predicted = self.network.single_pass(batch.numbers, batch.markers, start, lattice.edges, batch.charges)
            return restart(predicted, batch.markers, start)
        if c.interpolated > 0:
            part, chosen = (torch.rand(len(like), 1, 1, generator=draw).to(like) for _ in range(2))
            start = start + part * (chosen < c.interpolated) * like * batch.atoms.unsqueeze(-1)
        return start

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Mean Euclidean error over the atoms of a batch, Å."""
        self._batch = batch
        lattice = self._lattice(batch.set_index)
        start = self._starts(batch)
        relaxed = self.network.single_pass(batch.numbers, batch.markers, start, lattice.edges, batch.charges)
        error = relaxed - lattice.positions - batch.target
        distance = (error.square().sum(-1) + _TINY).sqrt()[batch.atoms]
        loss = distance.mean()
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.indices))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect each structure's mean |component|, Å."""
        lattice = self._lattice(batch.set_index)
        relaxed = self.network(batch.numbers, batch.markers, lattice.positions, lattice.edges, batch.charges)
        error = (relaxed - lattice.positions - batch.target).abs().mean(-1)  # [B, N]
        mae = (error * batch.atoms).sum(1) / batch.atoms.sum(1)
        self._errors += [(batch.set_index, float(e)) for e in mae]

    def on_validation_epoch_end(self) -> None:
        """Log the mean error of each set and over the sets."""
        means = []
        for index, name in enumerate(self.names):
            values = [e for i, e in self._errors if i == index]
            if values:
                means.append(float(np.mean(values)))
                self.log(f"mae/{name}", means[-1])
        self.log("mae", float(np.mean(means)) if means else math.nan, prog_bar=True)
        # Chosen by the geometric mean: a set whose errors are thirty times smaller counts as much as any other.
        self.log("score", math.exp(np.mean(np.log(means))) if means else math.nan)
        self._errors = []

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Skip a step whose gradient is not finite, and stop where they repeat."""
        del optimizer
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        if torch.isfinite(norm):
            self.skipped_in_a_row = 0
            return
        self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
        for parameter in parameters:
            parameter.grad = None
        if self.skipped_in_a_row > _MOST_SKIPPED and self._batch is not None:
            name, entries = self.names[self._batch.set_index], self._batch.indices.tolist()
            many = f"{self.skipped_in_a_row} non-finite steps in a row"
            raise FloatingPointError(f"{many}, the last on {name}, entries {entries}: lower the learning rate")

    def on_train_epoch_end(self) -> None:
        """Log how many steps were skipped so far."""
        self.log("skipped", float(self.skipped))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the recipe and the count beside the weights."""
        checkpoint["recipe"] = self.config.model_dump(mode="json")
        checkpoint["skipped"] = self.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = checkpoint["skipped"]

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union of eight shapes
        """AdamW with warm-up, then cosine to zero or the paper's plateau rule."""
        c = self.config
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay, amsgrad=c.amsgrad
        )
        if c.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.8, patience=5, min_lr=1e-8)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "score"}}
        total = int(self.trainer.estimated_stepping_batches)

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / max(1, c.warmup))
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))

        cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def read_weights(path: Path, config: NetworkConfig) -> DefiNet:
    """Return the network of one of the loop's own checkpoints, averaged weights, without unpickling objects."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    network = DefiNet(config)
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    return network


def card_of(name: str, config: TrainConfig, sets: list[PairSet]) -> Card:
    """Return the card of a model trained on these sets."""
    elements = {int(z) for pairs in sets for z in np.unique(pairs.numbers[pairs.split("train")])}
    return Card(
        name=name,
        config=config.network,
        hosts=tuple(dict.fromkeys(unit_cell(pairs.host) for pairs in sets)),
        elements=tuple(sorted(elements)),
        learned=learned_in(sets),
        data=f"train splits of {', '.join(pairs.name for pairs in sets)}; pairs of the 2DMD layout",
        data_hash=DATA_HASH + content_hash("data", *(pairs.data_hash for pairs in sets)),
        recipe=config.model_dump(mode="json", exclude={"network"}),
    )


def learned_in(sets: Iterable[PairSet]) -> tuple[Learned, ...]:
    """Return the kinds of defects in the train splits, by host and charge, counted."""
    found: Counter[tuple[str, str, int]] = Counter()
    for pairs in sets:
        entries = pairs.split("train")
        for row, charge in zip(entries, pairs.charges_of(entries).tolist(), strict=True):
            found.update((pairs.host.formula, kind, charge) for kind in set(pairs.kinds_of(row)))
    return tuple(Learned(host=h, kind=k, charge=q, n=n) for (h, k, q), n in sorted(found.items()))


def _readable(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read: a process may be killed while it writes `last.ckpt`.

    Raises
    ------
    InputError
        If there are checkpoints, but none can be read: to start again at epoch 0 would overwrite them.
    """
    found = [path for path in (folder / "last.ckpt", folder / "best.ckpt") if path.exists()]
    for path in found:
        try:
            torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        except Exception:  # noqa: BLE001, S112 - whatever a torn file makes of the reader
            continue
        if path != found[0]:
            warnings.warn(f"{found[0]} cannot be read: training goes on from {path.name}", UserWarning, stacklevel=2)
        return path
    if found:
        msg = f"--resume: {found[0]} cannot be read: remove {folder} to train from the start, or name another folder"
        raise InputError(msg)
    return None


def train(
    config: TrainConfig,
    sets: list[PairSet],
    folder: Path,
    *,
    resume: bool = False,
    network: DefiNet | None = None,
) -> Path:
    """Train a network; return the path of the best weights' Lightning checkpoint.

    Parameters
    ----------
    config
        The recipe.
    sets
        Pairs with their splits.
    folder
        Takes logs and checkpoints: `last.ckpt` of every epoch, `best.ckpt` by the geometric mean of the sets' errors.
    resume
        Go on from `last.ckpt`, or from `best.ckpt` with a warning where the first cannot be read.
    network
        Where to start; None: from scratch.

    Raises
    ------
    InputError
        If there are checkpoints to go on from, but none can be read.
    """
    strange = set(config.drawn) - {s.name for s in sets}
    if strange:
        msg = f"drawn: {min(strange)} is not a set of this training: take a copy of the recipe without it"
        raise InputError(msg)
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # not its hints for other products
    lightning.seed_everything(config.seed, verbose=False)
    module = Training(config, sets, network)
    data = PairBatches(sets)

    def loader(sampler: HostSampler) -> DataLoader[Batch]:
        return DataLoader(data, sampler=sampler, batch_size=None, pin_memory=torch.cuda.is_available())

    best = ModelCheckpoint(folder, filename="best", monitor="score", enable_version_counter=False)
    with warnings.catch_warnings():
        for expected in _EXPECTED:
            warnings.filterwarnings("ignore", message=expected)
        trainer = _trainer(config, folder, best)
        shared = {"batch": config.batch, "seed": config.seed, "rank": trainer.global_rank, "world": trainer.world_size}
        training = HostSampler(sets, "train", per_epoch=config.per_epoch, drawn=config.drawn, **shared)
        validation = HostSampler(sets, "val", batch=config.batch, per_epoch=_VALIDATED)
        resumed = _readable(folder) if resume else None
        trainer.fit(module, loader(training), loader(validation), ckpt_path=resumed, weights_only=True)
    return Path(best.best_model_path)


def _trainer(config: TrainConfig, folder: Path, best: ModelCheckpoint) -> lightning.Trainer:
    """Return Lightning's loop: every card, averaged weights, a checkpoint of each epoch beside the best."""
    cuda = chosen_device().type == "cuda"
    devices = torch.cuda.device_count() if cuda else 1
    every = ModelCheckpoint(folder, filename="last", enable_version_counter=False)  # without a monitor: the newest
    callbacks: list[lightning.Callback] = [best, every, EMAWeightAveraging(decay=config.ema)]
    if config.patience:
        callbacks.append(EarlyStopping("score", patience=config.patience))
    return lightning.Trainer(
        max_epochs=config.epochs,
        accelerator="auto" if cuda == torch.cuda.is_available() else "cpu",
        devices=devices,
        strategy=SEVERAL_DEVICES if devices > 1 else "auto",
        precision="bf16-mixed" if cuda else "32-true",
        use_distributed_sampler=False,
        gradient_clip_val=config.clip,
        callbacks=callbacks,
        logger=[CSVLogger(folder, name="log", version=0), TensorBoardLogger(folder, name="tensorboard", version=0)],
        log_every_n_steps=50,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
