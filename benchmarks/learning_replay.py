"""Strategies of active learning against random choice: 2DMD's training split replayed as an oracle.

    python benchmarks/learning_replay.py run FOLDER --data DATA [--strategy diverse --seed 0]
    python benchmarks/learning_replay.py table FOLDER [--figure docs/figures/replay.svg]

The first goes on where it stopped, by strategy and seed.

A small network learns the low-density defects of MoS2 from scratch. Each round a strategy chooses which structures of
the pool (800 of the training split) to ask DFT for; the network goes on training on all that were chosen, and its error
is measured on 150 structures of the validation split that nothing else sees. Strategies see what the product would
see: predictions, their calibrated uncertainty (calibrated on 40 other validation structures) and fingerprints.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from definet_flows.model.data.archive import PairSet, read_archive
from definet_flows.model.inference.predict import displacements
from definet_flows.model.inference.uncertainty import Calibration, Sample, defect_motion
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.model.training.train import TrainConfig, read_weights, shrink_heads, train
from definet_flows.schemas import PRISTINE, VACANCY, Configuration, Edit, FloatArray
from definet_flows.workflows.learning.acquisition import ACQUISITIONS, StepModel, acquisition
from definet_flows.workflows.learning.active.pool import make_pool

SET = "low_density_defects/MoS2"
POOL, TEST, CALIBRATION = 800, 150, 40
FIRST, BATCH, ROUNDS = 40, 40, 5
RECIPE = TrainConfig(
    network=NetworkConfig(hidden=32, layers=3, gaussians=20, radial_extent=6.0, cutoff=4.5),
    epochs=16,
    batch=4,
    learning_rate=2e-3,
    warmup=20,
    ema=0.98,
)


@dataclass(frozen=True, eq=False)
class Oracle:
    """2DMD's answers, and which of them are for what."""

    pairs: PairSet
    configurations: tuple[Configuration, ...]
    pool: np.ndarray
    test: np.ndarray
    calibration: np.ndarray


def oracle(data: Path, seed: int) -> Oracle:
    """Return the set; pools differ by seed, what is tested on does not."""
    (pairs,) = read_archive(data, (SET,))
    held = np.random.default_rng(0).permutation(pairs.split("val"))
    pool = np.random.default_rng(seed).permutation(pairs.split("train"))[:POOL]
    configurations = tuple(configuration(pairs, int(k)) for k in pool)
    return Oracle(pairs, configurations, pool, held[:TEST], held[TEST : TEST + CALIBRATION])


def configuration(pairs: PairSet, entry: int) -> Configuration:
    """Return one entry as an edit list."""
    edits = []
    for site in np.flatnonzero(pairs.markers[entry] != PRISTINE):
        marker, old = int(pairs.markers[entry, site]), pairs.host.numbers[site]
        new = None if marker == VACANCY else int(pairs.numbers[entry, site])
        edits.append(Edit(site=int(site), marker=marker, old=old, new=new))
    return Configuration(edits=tuple(edits))


def predicted(network: DefiNet, pairs: PairSet, entries: np.ndarray) -> FloatArray:
    """Return the network's displacements, Å, [n, n_sites, 3]."""
    return displacements(network, pairs.host, pairs.numbers[entries], pairs.markers[entries])


def errors(network: DefiNet, pairs: PairSet, entries: np.ndarray) -> FloatArray:
    """Return the mean |component| error of each entry over its atoms, Å, [n]."""
    atoms = (pairs.markers[entries] != VACANCY)[..., None]
    wrong = np.abs(predicted(network, pairs, entries) - pairs.relaxed[entries]) * atoms
    found: FloatArray = wrong.sum((1, 2)) / (3 * atoms.sum((1, 2)))
    return found


def learned(network: DefiNet, given: Oracle, chosen: list[int], seed: int) -> DefiNet:
    """Return the network after training on the chosen members of the pool; a fifth chooses the epoch."""
    splits = np.full(len(given.pairs.ids), "", dtype=object)
    entries = given.pool[chosen]
    splits[entries] = "train"
    splits[entries[::5]] = "val"
    recipe = RECIPE.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        best = train(recipe, [replace(given.pairs, splits=tuple(splits))], Path(folder), network=network)
        return read_weights(best, RECIPE.network)


def choose(strategy: str, network: DefiNet, given: Oracle, chosen: list[int], count: int, seed: int) -> list[int]:
    """Return the next members of the pool."""
    pairs = given.pairs
    pristine = displacements(
        network, pairs.host, np.array(pairs.host.numbers)[None], np.zeros((1, pairs.host.n_sites), dtype=int)
    )[0]

    def motion(entries: np.ndarray) -> FloatArray:
        return defect_motion(predicted(network, pairs, entries), pristine, pairs.markers[entries])

    held = given.calibration
    sample = Sample(motion(held), pairs.markers[held], errors(network, pairs, held))
    calibration = Calibration.fit({"held": sample})
    left = sorted(set(range(len(given.pool))) - set(chosen))
    entries = given.pool[left]
    expected = calibration.estimate(motion(entries), pairs.markers[entries])
    pool = make_pool(
        pairs.host,
        [given.configurations[k] for k in left],
        [SimpleNamespace(uncertainty=float(one)) for one in expected],
        StepModel(),
        known=[given.configurations[k] for k in chosen],
    )
    return [left[k] for k in acquisition(strategy).select(pool, count, np.random.default_rng((seed, len(chosen))))]


def run(folder: Path, data: Path, strategies: list[str], seeds: list[int]) -> None:
    """Replay; one file of JSON lines for each strategy and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        given = oracle(data, seed)
        first = None
        for strategy in strategies:
            path = folder / f"replay-{strategy}-{seed}.jsonl"
            if path.exists() and len(path.read_text().splitlines()) == ROUNDS:
                continue
            lines = []
            torch.manual_seed(seed)
            chosen = np.random.default_rng(seed).permutation(POOL)[:FIRST].tolist()
            network = DefiNet(RECIPE.network)
            shrink_heads(network, RECIPE.head_scale)
            for k in range(ROUNDS):
                if k:
                    chosen += choose(strategy, network, given, chosen, BATCH, seed)
                if k == 0 and first is not None:
                    network.load_state_dict(first.state_dict())
                else:
                    network = learned(network, given, chosen, seed)
                if first is None:
                    first = DefiNet(RECIPE.network)
                    first.load_state_dict(network.state_dict())
                found = errors(network.eval().requires_grad_(requires_grad=False), given.pairs, given.test)
                network.requires_grad_(requires_grad=True)
                lines.append(
                    {"labels": len(chosen), "mae": float(found.mean()), "p95": float(np.percentile(found, 95))}
                )
                print(strategy, seed, lines[-1], flush=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))


Curves = dict[str, dict[int, FloatArray]]


def read(folder: Path) -> Curves:
    """Return the errors by strategy and labels, Å, an array for each seed that all strategies have."""
    found: dict[str, dict[int, list[dict[str, float]]]] = defaultdict(dict)
    for path in folder.glob("replay-*.jsonl"):
        _, strategy, seed = path.stem.split("-")
        found[strategy][int(seed)] = [json.loads(line) for line in path.read_text().splitlines()]
    seeds = sorted(set.intersection(*(set(runs) for runs in found.values())))
    curves: Curves = {}
    for strategy in (name for name in ACQUISITIONS if name in found):
        columns = zip(*(found[strategy][seed] for seed in seeds), strict=True)
        curves[strategy] = {int(one[0]["labels"]): np.array([line["mae"] for line in one]) for one in columns}
    return curves


def needed(curve: dict[int, FloatArray], goal: FloatArray) -> list[float | None]:
    """Return for each seed the labels at which a strategy's error falls to `goal`; None if it does not."""
    labels = np.array(sorted(curve), dtype=float)
    out: list[float | None] = []
    for k, one in enumerate(goal):
        falling = np.minimum.accumulate([curve[int(n)][k] for n in labels])
        reached = falling[-1] <= one
        out.append(float(np.interp(-np.log(one), -np.log(falling), labels)) if reached else None)
    return out


def show(curves: Curves, console: Console) -> None:
    """Print the errors, and the labels that each strategy needs for the last error of random."""
    labels = sorted(curves["random"])
    seeds = len(curves["random"][labels[0]])
    several = seeds > 1
    of = f"mean (sd) of {seeds} seeds" if several else "one seed"
    table = Table("strategy", title=f"mÅ on {TEST} held-out structures, {of}", title_justify="left")
    for n in labels:
        table.add_column(f"{n} labels", justify="right")
    table.add_column(f"labels for random's error at {labels[-1]}", justify="right")
    for strategy, curve in curves.items():
        spreads = [f" ({1000 * curve[n].std(ddof=1):.2f})" if several else "" for n in labels]
        cells = [f"{1000 * curve[n].mean():.2f}{spread}" for n, spread in zip(labels, spreads, strict=True)]
        wanted = needed(curve, curves["random"][labels[-1]])
        shares = ["never" if shown is None else f"{shown / labels[-1]:.0%}" for shown in wanted]
        table.add_row(strategy, *cells, ", ".join(shares))
    console.print(table)


def draw(curves: Curves, path: Path) -> None:
    """Write the learning curves, mean and range over seeds."""
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    panel = figure.subplots()
    for strategy, curve in curves.items():
        labels = sorted(curve)
        values = 1000 * np.array([curve[n] for n in labels])  # [labels, seeds]
        (line,) = panel.plot(labels, values.mean(1), "o-", markersize=4, label=strategy)
        panel.fill_between(labels, values.min(1), values.max(1), color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set(xlabel="structures that DFT relaxed", ylabel="error on held-out structures, mÅ", yscale="log")
    for which in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
        which("{x:g}")
    panel.legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Run what the command line asks for."""
    warnings.filterwarnings("ignore", category=UserWarning)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--data", type=Path, required=True)
    running.add_argument("--strategy", action="append", choices=list(ACQUISITIONS))
    running.add_argument("--seed", action="append", type=int)
    shown = commands.add_parser("table")
    shown.add_argument("folder", type=Path)
    shown.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.folder, arguments.data, arguments.strategy or list(ACQUISITIONS), arguments.seed or [0, 1, 2])
        return
    curves = read(arguments.folder)
    show(curves, Console(width=160))
    if arguments.figure is not None:
        draw(curves, arguments.figure)


if __name__ == "__main__":
    main()
