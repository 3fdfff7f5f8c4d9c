"""Active learning on copper that EMT relaxes, as a program that is killed at a stage: active_run.py [STAGE]."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

import torch
from atomate2.ase.jobs import EmtRelaxMaker
from flow_helpers import CU, engine, write_weights

from definet_flows import DefectFlowMaker
from definet_flows.workflows.campaign.local import run_here
from definet_flows.workflows.learning import retrain
from definet_flows.workflows.learning.active import flow as active
from definet_flows.workflows.learning.active.flow import ActiveLearningMaker
from definet_flows.workflows.learning.retrain import RetrainConfig

NETWORK = {"hidden": 16, "layers": 2, "gaussians": 8, "radial_extent": 4.0, "cutoff": 3.0}
RECIPE = {"network": NETWORK, "epochs": 8, "batch": 4, "learning_rate": 5e-3, "warmup": 5, "ema": 0.9}
CONFIG = RetrainConfig(min_new=1, from_scratch=True, recipe=RECIPE)

STAGES = {
    "chosen": (active, "_round_jobs", 1),
    "relaxing": (EmtRelaxMaker, "run_ase", 9),
    "last relaxation": (EmtRelaxMaker, "run_ase", 19),
    "trained": (retrain, "register", 1),
    "registered": (retrain, "hold_trial", 1),
    "retrained": (active, "next_round", 2),
}
"""Where the process is killed: in the n-th call of a function, before it does anything."""


def pool(**changes):
    weights = Path("small.safetensors")
    if not weights.exists():
        write_weights(weights)
    fields = {
        "supercell": (2, 2, 2),
        "defects": ("v_Cu", "Ni_Cu"),
        "max_defects": 3,
        "engine": engine(),
        "control_fraction": 0,
        "model": str(weights),
        "store": "records.sqlite",
    }
    return DefectFlowMaker(**{**fields, **changes})


def maker(**changes):
    fields = {"strategy": "random", "batch": 6, "held_out": 8, "budget": 24, "patience": 9, "retraining": CONFIG}
    return ActiveLearningMaker(**{"defects": pool(), **fields, **changes})


def learn(one=None):
    one = one or maker()
    return run_here(one.assemble(one.campaign(CU), CU), Path("jobs").absolute(), lambda *_: None)


def die_at(stage):
    home, name, call = STAGES[stage]
    real, calls = getattr(home, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(home, name, counted)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    die_at(sys.argv[1])
    learn()
