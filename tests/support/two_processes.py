"""Train on two processes, as on two devices; each writes what its weights add up to into the folder of argument 1."""

import sys
from pathlib import Path

import lightning
from torch.utils.data import DataLoader
from training_run import pairs, recipe

from definet_flows.model.data.batches import HostSampler, PairBatches
from definet_flows.model.training.train import SEVERAL_DEVICES, Training

if __name__ == "__main__":
    sets = [pairs()]
    module = Training(recipe(1), sets)
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy=SEVERAL_DEVICES, use_distributed_sampler=False, **silent
    )
    shared = {"batch": 2, "per_epoch": 8, "seed": 0, "rank": trainer.global_rank, "world": trainer.world_size}
    trainer.fit(module, DataLoader(PairBatches(sets), sampler=HostSampler(sets, "train", **shared), batch_size=None))
    total = sum(float(p.detach().double().sum()) for p in module.network.parameters())
    (Path(sys.argv[1]) / str(trainer.global_rank)).write_text(f"{trainer.global_step} {total!r}")
