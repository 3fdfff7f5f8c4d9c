"""Trainings that re-measure claims of the paper: which networks, on which pairs, and how their errors are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from definet_flows.atomic import write_whole
from definet_flows.model.inference.predict import displacements
from definet_flows.model.training.evaluate import fit_baselines
from definet_flows.model.training.metrics import Metrics, score, site_distances, summarize
from definet_flows.model.training.recipes import read_recipe
from definet_flows.model.training.train import TrainConfig, shrink_heads, train
from definet_flows.schemas import PRISTINE
from standins.network_variants import Variant, VariantNetwork

if TYPE_CHECKING:
    from pathlib import Path

    from definet_flows.model.data.archive import PairSet
    from definet_flows.schemas import Host

HIGH = tuple(f"high_density_defects/{name}" for name in ("MoS2_500", "WSe2_500"))
SPIN = tuple(f"high_density_defects/{name}_spin_500" for name in ("hBN", "GaSe", "InSe", "BP"))
LOW = tuple(f"low_density_defects/{name}" for name in ("MoS2", "WSe2"))
_APART = 6.0
"""Å: defects nearer than this make a short pair, others a long one."""

Chosen = Callable[["PairSet", int], bool]
"""Whether a training entry is learned."""


def every(pairs: PairSet, entry: int) -> bool:
    """Choose all entries."""
    del pairs, entry
    return True


PUBLISHED = Variant()
ABLATIONS = {
    "published form": PUBLISHED,
    "no markers": Variant(markers="nowhere"),
    "vanilla": Variant(markers="nodes", updates=False),
    "vanilla + DAMP": Variant(updates=False),
    "no global node": Variant(global_node=False),
    "no vector activation": Variant(activation=False),
}
"""Suppl. 7 and 8; vanilla + DAMP + DACU is the published form."""


@dataclass(frozen=True)
class Run:
    """A network to be trained.

    Attributes
    ----------
    name
        What the table calls it.
    learned, measured
        Sets that it is trained on, and sets whose validation split measures it.
    chosen
        Which of their training entries are learned.
    measured_on
        Which validation entries measure it.
    """

    name: str
    learned: tuple[str, ...]
    measured: tuple[str, ...]
    variant: Variant = PUBLISHED
    chosen: Chosen = every
    measured_on: Chosen = every
    seed: int = 0


def share(part: float) -> Chosen:
    """Return the choice of a share of each set's training entries, always the first of the same random order."""

    def chosen(pairs: PairSet, entry: int) -> bool:
        training = pairs.split("train")
        order = np.random.default_rng(0).permutation(training)
        return entry in set(order[: round(part * len(order))].tolist())

    return chosen


def nearest(host: Host, markers: np.ndarray) -> float:
    """Return the distance of the two nearest defects, Å; infinite for a single defect."""
    sites = np.flatnonzero(markers != PRISTINE)
    first, second = np.triu_indices(len(sites), 1)
    return float(site_distances(host)[sites[first], sites[second]].min(initial=np.inf))


def pairs_apart(*, short: bool) -> Chosen:
    """Return the choice of entries by the distance of their nearest defects; single defects are in neither."""

    def chosen(pairs: PairSet, entry: int) -> bool:
        apart = nearest(pairs.host, pairs.markers[entry])
        return bool(np.isfinite(apart)) and (apart < _APART) is short

    return chosen


def runs(claim: str) -> list[Run]:
    """Return the runs of a claim, in the order in which they are trained."""
    every_set = (*HIGH, *SPIN, *LOW)
    if claim == "twin":
        return [Run(name, every_set, every_set, ABLATIONS[name]) for name in ("published form", "no markers")]
    if claim == "ablations":
        return [Run(name, HIGH, HIGH, v, seed=seed) for seed in (0, 1) for name, v in ABLATIONS.items()]
    if claim == "data-size":
        return [Run(f"{part:.0%}", LOW, LOW, chosen=share(part)) for part in (0.1, 0.3, 0.5, 1.0)]
    short, long = pairs_apart(short=True), pairs_apart(short=False)
    return [
        Run("high to low density", HIGH, LOW),
        Run("low to high density", LOW, HIGH),
        Run("low to low density", LOW, LOW),
        Run("high to high density", HIGH, HIGH),
        Run("short to long pairs", LOW, LOW, chosen=short, measured_on=long),
        Run("long to long pairs", LOW, LOW, chosen=long, measured_on=long),
        Run("long to short pairs", LOW, LOW, chosen=long, measured_on=short),
        Run("short to short pairs", LOW, LOW, chosen=short, measured_on=short),
    ]


CLAIMS = ("twin", "ablations", "data-size", "transfer")


@dataclass(frozen=True)
class Budget:
    """What every run of a claim is given.

    Attributes
    ----------
    entries
        Entries of each set drawn an epoch, repeated where a set has fewer.
    """

    epochs: int
    entries: int

    def recipe(self, run: Run) -> TrainConfig:
        """Return the recipe: that of the shipped networks, F = 64, a single pass."""
        known: dict[str, Any] = {"seed": run.seed, "epochs": self.epochs, "per_epoch": self.entries}
        return read_recipe("shipped").model_copy(update=known)


def learned(pairs: PairSet, run: Run, budget: Budget) -> PairSet:
    """Return the set as a run learns it: entries not chosen are in no split; few entries are repeated to the budget."""
    splits = [
        split if split != "train" or run.chosen(pairs, entry) else "unused" for entry, split in enumerate(pairs.splits)
    ]
    kept = np.flatnonzero(np.array(splits) == "train")
    if not len(kept):
        raise ValueError(f"{pairs.name}: {run.name} learns nothing of it")
    more = np.resize(kept, max(0, budget.entries - len(kept)))
    rows = np.concatenate([np.arange(len(splits)), more])
    return replace(
        pairs,
        ids=tuple(pairs.ids[k] for k in rows),
        splits=(*splits, *["train"] * len(more)),
        numbers=pairs.numbers[rows],
        markers=pairs.markers[rows],
        unrelaxed=pairs.unrelaxed[rows],
        relaxed=pairs.relaxed[rows],
    )


def trained(run: Run, sets: Sequence[PairSet], folder: Path, budget: Budget) -> VariantNetwork:
    """Return the trained network of a run; one that was stopped goes on from its last epoch."""
    recipe = budget.recipe(run)
    torch.manual_seed(run.seed)
    network = VariantNetwork(recipe.network, run.variant)
    shrink_heads(network, recipe.head_scale)
    train(recipe, [learned(s, run, budget) for s in sets], folder, resume=True, network=network)
    # the last epoch's averaged weights: what chooses an epoch would be what measures it
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    return network.eval()


def errors(network: VariantNetwork, pairs: PairSet, run: Run) -> dict[str, Metrics]:
    """Return the metrics of a network and of the baselines on the validation entries that measure a run."""
    entries = np.array([e for e in pairs.split("val") if run.measured_on(pairs, int(e))])
    numbers, markers, truth = pairs.numbers[entries], pairs.markers[entries], pairs.relaxed[entries]
    predicted = {name: predictor(numbers, markers) for name, predictor in fit_baselines(pairs)}
    predicted["network"] = displacements(network, pairs.host, numbers, markers)
    return {name: summarize(score(pairs.host, markers, truth, moved)) for name, moved in predicted.items()}


def finished(results: Path) -> list[dict[str, Any]]:
    """Return the results of a claim that are there."""
    return json.loads(results.read_text(encoding="utf-8")) if results.is_file() else []


def carry_out(claim: str, sets: dict[str, PairSet], folder: Path, results: Path, budget: Budget) -> None:
    """Train what has no result yet, one run after the other; add each run's errors to the file of results."""
    for run in runs(claim):
        found = finished(results)
        key = {"run": run.name, "seed": run.seed, "epochs": budget.epochs, "entries": budget.entries}
        if any({k: row[k] for k in key} == key for row in found):
            continue
        began = time.process_time()
        place = folder / f"{claim}-{run.name.replace(' ', '-')}-{run.seed}-{budget.epochs}-{budget.entries}"
        network = trained(run, [sets[name] for name in run.learned], place, budget)
        row = {**key, "processor_s": round(time.process_time() - began), "sets": {}}
        for name in run.measured:
            metrics = errors(network, sets[name], run)
            row["sets"][name] = {
                kind: m.model_dump(mode="json", exclude={"by_pair_distance"}) for kind, m in metrics.items()
            }
        write_whole(results, json.dumps([*found, row], indent=1) + "\n")
