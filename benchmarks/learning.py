"""What retraining saves: a network meets an engine, or a host, that it was not trained on.

    python benchmarks/learning.py labels FOLDER MoS2 --most 460           relax with SevenNet-0
    python benchmarks/learning.py retrain FOLDER MoS2 --records 100 200 400 --seeds 0 1 2
    python benchmarks/learning.py steps FOLDER MoS2                       relax the held-out ones from all predictions
    python benchmarks/learning.py table FOLDER MoS2 --figure docs/figures/learning-MoS2.svg

and the same with WS2, a host that the shipped network never saw. Every command goes on where it stopped. In FOLDER are
two record stores, `MoS2.jsonl` (what is learned) and `MoS2.steps.jsonl` (what is measured), and the networks.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jobflow import Flow, Job, JobOrder
from rich.console import Console

from benchmarks.support.learning_report import draw, show
from definet_flows.defects import Choices, enumerate_configurations, preset
from definet_flows.hosts import load_structure, make_host
from definet_flows.model.inference.checkpoint import Checkpoint, load_checkpoint
from definet_flows.model.inference.domain import knows_host
from definet_flows.model.training.finetune import fine_tune, fine_tuning
from definet_flows.schemas import Configuration, Host, RelaxedHost
from definet_flows.stores import Filter, Records, open_store
from definet_flows.stores.learning.splits import Motifs
from definet_flows.workflows.campaign.jobs import predict_batch, prepare_host, relax_configuration
from definet_flows.workflows.campaign.local import run_here
from definet_flows.workflows.learning.label_sets import pair_sets, read_training_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

ENGINE = "sevennet"
SHIPPED = "definet-2dmd"
HELD_OUT = 60
"""Held-out configurations, those of the split `test`."""

_CHUNK = 10  # relaxations between two progress lines


# ------------------------------------------------------------------ what is relaxed


@dataclass(frozen=True)
class Task:
    """All configurations of one small supercell, in an order that hashing drew once."""

    name: str
    host: Host
    configurations: tuple[Configuration, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The configuration_ids."""
        return tuple(one.id_in(self.host.hash) for one in self.configurations)


def unit_cell(name: str) -> Structure:
    """Return a shipped host, or WS2 in MoS2's cell (their PBE lattice constants differ by 0.001 Å)."""
    if name != "WS2":
        return load_structure(name)
    structure = load_structure("MoS2")
    structure.replace_species({"Mo": "W"})
    return structure


def task(name: str) -> Task:
    """Return at most one defect on the metal and two on the chalcogen in a 4 x 4 supercell, shuffled by hash."""
    host = make_host(unit_cell(name), (4, 4, 1))
    if name == "WS2":
        choices = Choices(defects=("v_W", "Mo_W", "v_S", "Se_S"), max_on={"W": 1, "S": 2})
    else:
        choices = preset("2dmd-low", name).choices
    found = sorted(enumerate_configurations(host, choices), key=lambda one: one.id_in(host.hash))
    return Task(name, host, tuple(found))


def quickstart_ids() -> frozenset[str]:
    """Return the configurations of `definet quickstart`, which no matched weights may have learned."""
    host = make_host("MoS2", (4, 4, 1))
    choices = Choices(defects=("v_S", "v_Mo", "W_Mo", "Se_S"), max_defects=2, max_distance=3.16)
    return frozenset(one.id_in(host.hash) for one in enumerate_configurations(host, choices))


def order(chosen: Task) -> list[Configuration]:
    """Return what is relaxed, in the order of the task: `HELD_OUT` configurations that test, and all to learn from."""
    motifs, skipped = Motifs(chosen.host), quickstart_ids()
    known = [one for one, i in zip(chosen.configurations, chosen.ids, strict=True) if i not in skipped]
    left_out = {id(one) for one in [one for one in known if motifs.split(one) == "test"][HELD_OUT:]}
    return [one for one in known if id(one) not in left_out]


def labels(folder: Path, name: str, most: int, model: str | None) -> None:
    """Relax configurations of a task; what is stored is not run again.

    Held-out ones start unrelaxed, those to learn from too or, with `model`, from its predictions: the ends are the
    same, and cost less.
    """
    chosen, store = task(name), str(folder / f"{name}.jsonl")
    folder.mkdir(parents=True, exist_ok=True)
    with open_store(store) as records:
        done = {row.configuration_id for row in records.ledgers() if row.status == "done"}
    missing = [one for one in order(chosen)[:most] if one.id_in(chosen.host.hash) not in done]
    print(f"{name}: {len(chosen.ids)} configurations, {len(done)} labelled, {len(missing)} to do", flush=True)
    motifs = Motifs(chosen.host)
    for first in range(0, len(missing), _CHUNK):
        start, chunk = time.perf_counter(), missing[first : first + _CHUNK]
        for test in (True, False):
            part = [one for one in chunk if (motifs.split(one) == "test") == test]
            if part:
                relax(folder, chosen, part, store=store, model=None if test else model, control=False)
        seconds = (time.perf_counter() - start) / len(chunk)
        print(f"{first + len(chunk)} of {len(missing)}, {seconds:.1f} s each", flush=True)


def relax(
    folder: Path, chosen: Task, part: Sequence[Configuration], *, store: str, model: str | None, control: bool
) -> None:
    """Relax configurations with the package's own jobs, from a model's predictions if a model is given."""
    weights = load_checkpoint(model or SHIPPED).sha256
    prepared = prepare_host(chosen.host, ENGINE, store, relax=True)
    jobs: list[Flow | Job] = [prepared]
    predicted = None
    if model is not None:
        jobs.append(
            predict_batch(prepared.output, part, model=model, weights=weights, store=store, allow_unseen_host=True)
        )
        predicted = jobs[-1].output
    jobs += [
        relax_configuration(
            prepared.output,
            one,
            engine=ENGINE,
            weights=weights,
            store=store,
            control=control,
            predicted=predicted,
        )
        for one in part
    ]
    flow = Flow(jobs, output=jobs[-1].output, order=JobOrder.LINEAR)
    run_here(flow, folder / "jobs" / f"{chosen.name}-{time.time_ns()}", lambda *_: None)


# ------------------------------------------------------------------ what is learned


def retrain(folder: Path, name: str, count: int, seed: int) -> Path:
    """Fine-tune the shipped network on so many records, drawn by seed; return the weights."""
    place = folder / "models" / f"{name}-{count}-{seed}"
    finished = place / "model.safetensors"
    if finished.is_file():
        return finished
    with open_store(str(folder / f"{name}.jsonl"), read_only=True) as records:
        training = read_training_set(records, settings(records), (task(name).host,))
    usable = [entry for entry in training.entries if entry.split != "test"]
    if len(usable) < count:
        raise SystemExit(f"{count} records wanted, {len(usable)} are there: run `labels` on")
    drawn = np.random.default_rng(seed).permutation(len(usable))[:count]
    entries = tuple(usable[k] for k in sorted(drawn))
    config = fine_tuning(sum(entry.split == "train" for entry in entries)).model_copy(update={"seed": seed})
    start = time.process_time()
    fine_tune(parent(name), pair_sets(replace(training, entries=entries)), config, place, name=place.name)
    print(f"{place.name}: {config.epochs} epochs, {time.process_time() - start:.0f} s on one core", flush=True)
    return finished


def parent(name: str) -> Checkpoint:
    """Return the shipped network; of what it learned it need only keep this host."""
    shipped, host = load_checkpoint(SHIPPED), task(name).host
    hosts = tuple(unit for unit in shipped.card.hosts if knows_host((unit,), host))
    return replace(shipped, card=shipped.card.model_copy(update={"hosts": hosts}))


def settings(records: Records) -> str:
    """Return the only settings hash of a store."""
    (found,) = {row.settings_hash for row in records.ledgers()}
    return found


# ------------------------------------------------------------------ what it saves


def steps(folder: Path, name: str) -> None:
    """Relax the held-out configurations from the predictions of the shipped and of all retrained networks."""
    chosen, store = task(name), str(folder / f"{name}.steps.jsonl")
    held_out = copy_held_out(folder, chosen, store)
    models = [SHIPPED, *map(str, sorted(folder.glob(f"models/{name}-*/model.safetensors")))]
    for model in models:
        start = time.perf_counter()
        relax(folder, chosen, held_out, store=store, model=model, control=True)
        print(f"{load_checkpoint(model).name}: {time.perf_counter() - start:.0f} s", flush=True)


def copy_held_out(folder: Path, chosen: Task, store: str) -> list[Configuration]:
    """Copy the unrelaxed arms of the held-out configurations to the store of what is measured; return those."""
    motifs = Motifs(chosen.host)
    with open_store(str(folder / f"{chosen.name}.jsonl"), read_only=True) as labelled, open_store(store) as records:
        arms = [
            record
            for record in labelled.records(Filter(configuration_ids=chosen.ids))
            if record.start == "unrelaxed" and record.status == "done" and motifs.split(record.configuration) == "test"
        ]
        known = {row.id for row in records.ledgers()}
        records.put(*labelled.find(RelaxedHost), *(record for record in arms if record.id not in known))
    return [record.configuration for record in arms]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ("labels", "retrain", "steps", "table")}
    for one in parsers.values():
        one.add_argument("folder", type=Path)
        one.add_argument("name", choices=("MoS2", "WS2"))
    parsers["labels"].add_argument("--most", type=int, default=10_000)
    parsers["labels"].add_argument("--model", help="weights whose predictions start what is to be learned from")
    parsers["retrain"].add_argument("--records", type=int, nargs="+", default=[100, 200, 400])
    parsers["retrain"].add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parsers["table"].add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.command == "labels":
        labels(given.folder, given.name, given.most, given.model)
    elif given.command == "retrain":
        for count in given.records:
            for seed in given.seeds:
                retrain(given.folder, given.name, count, seed)
    elif given.command == "steps":
        steps(given.folder, given.name)
    else:
        rows = show(given.folder, given.name, Console(width=160))
        if given.figure is not None:
            draw(rows, given.name, given.figure)


if __name__ == "__main__":
    main()
