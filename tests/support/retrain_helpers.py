"""A store of relaxations on 4 x 4 MoS2 whose ends follow a simple rule, and small networks that can learn it.

As a program it retrains on a store until it is killed: python retrain_helpers.py STORE.
"""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from store_fixtures import SETTINGS, note, site_map

from definet_flows.defects import Choices, enumerate_configurations, nodes
from definet_flows.hosts import make_host
from definet_flows.schemas import (
    VACANCY,
    Configuration,
    DefectRecord,
    FloatArray,
    Host,
    HostNote,
    Ledger,
    SiteMap,
)
from definet_flows.settings import load_settings
from definet_flows.stores import open_store
from definet_flows.workflows.learning.retrain import RetrainConfig, retrain

NETWORK = {"hidden": 16, "layers": 2, "gaussians": 8, "radial_extent": 4.0, "cutoff": 3.0}
RECIPE = {"network": NETWORK, "epochs": 8, "batch": 4, "learning_rate": 5e-3, "warmup": 5, "ema": 0.9}
SMALL = RetrainConfig(min_new=20, from_scratch=True, recipe=RECIPE)


@cache
def host() -> Host:
    return make_host("MoS2", (4, 4, 1))


@cache
def configurations() -> tuple[Configuration, ...]:
    """57 of them: 43 to learn from, 4 to choose the epoch by, 10 held out."""
    choices = Choices(defects=("v_S", "v_Mo", "W_Mo", "Se_S"), max_defects=2)
    return tuple(enumerate_configurations(host(), choices))


def field(configuration: Configuration) -> FloatArray:
    """Vacancies pull their neighbours in by 0.2 Å, foreign atoms push them away by 0.1 Å."""
    moved = np.zeros((host().n_sites, 3))
    cell, frac = np.array(host().lattice), np.array(host().frac_coords)
    for edit in configuration.edits:
        to = frac[edit.site] - frac
        to = (to - np.rint(to)) @ cell
        length = np.linalg.norm(to, axis=1)
        near = (length > 0) & (length < 2.6)
        moved[near] += (0.2 if edit.marker == VACANCY else -0.1) * to[near] / length[near, None]
    moved[nodes(host(), configuration)[1] == VACANCY] = 0
    return moved


def record(
    configuration: Configuration,
    moved: FloatArray | None = None,
    *,
    start: str = "unrelaxed",
    weights: str = "a" * 64,
    steps: int = 20,
    settings: str = SETTINGS,
) -> DefectRecord:
    """A converged relaxation that ended where `field` says, or `moved`."""
    identity = configuration.id_in(host().hash)
    sites: SiteMap = site_map(host(), configuration, field(configuration) if moved is None else moved)
    return DefectRecord(
        id=DefectRecord.identity(identity, settings, start, weights),
        configuration_id=identity,
        settings_hash=settings,
        engine="sevennet",
        start=start,
        status="done",
        host=HostNote.of(host()),
        name=configuration.name,
        n_defects=len(configuration.edits),
        configuration=configuration,
        sites=sites,
        prediction=note(weights=weights) if start == "predicted" else None,
        ledger=Ledger(ionic_steps=steps, converged=True, force_criterion=0.01, energy=-100.0),
    )


def fill(store: str, count: int | None = None) -> None:
    with open_store(store) as records:
        records.put(*(record(one) for one in configurations()[:count]))


def new_cache(folder: Path) -> Path:
    """A cache folder without models, but with the kernels that were compiled before."""
    cache = folder / "cache"
    cache.mkdir()
    for kernels in load_settings().cache_dir.glob("kernels-*"):
        shutil.copy(kernels, cache)
    return cache


if __name__ == "__main__":
    torch.set_num_threads(1)
    retrain(sys.argv[1], SETTINGS, SMALL)
