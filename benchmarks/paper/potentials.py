"""Suppl. 5 and 6 of the paper: universal potentials that relax, beside the network that predicts, against DFT.

    python benchmarks/paper/potentials.py --data FOLDER [--structures 30] [--potential sevennet ...]

Validation structures of the six high-density sets by turns, so that a run that is not finished has measured all sets.
The potentials follow each other, the cheapest first. Each relaxes at fixed cell by BFGS from the unrelaxed positions to
0.05 eV/Å, at most 300 steps. Its error is that of the positions at the end; `without the host` takes off what the same
potential makes of the pristine host. Results go to benchmarks/paper/results/potentials.json after every structure, and
a command that was stopped goes on with the next.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.support.paper_relax import Relaxed, relax
from benchmarks.support.paper_runs import HIGH, SPIN
from definet_flows.atomic import write_whole
from definet_flows.errors import InputError
from definet_flows.model.data.archive import PairSet, read_archive
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.inference.predict import pair_displacements
from definet_flows.schemas import VACANCY
from definet_flows.starts.universal import require_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from definet_flows.schemas import FloatArray

RESULTS = Path(__file__).parent / "results" / "potentials.json"
POTENTIALS = ("chgnet", "sevennet", "sevennet-l3i5")
CRITERION, MOST_STEPS = 0.05, 300
Key = tuple[str, str, str]
"""Potential, set and id of a structure."""


def relaxed(name: str, pairs: PairSet, numbers: np.ndarray, atoms: np.ndarray) -> tuple[FloatArray, Relaxed]:
    """Return displacements from the pristine sites, Å, [n_sites, 3], zero where no atom is, and the relaxation."""
    sites = pairs.host.cartesian
    end = relax(name, numbers[atoms], sites[atoms], pairs.host, criterion=CRITERION, most_steps=MOST_STEPS)
    moved = np.zeros_like(sites)
    moved[atoms] = end.positions - sites[atoms]
    return moved, end


def error(pairs: PairSet, entry: int, moved: FloatArray) -> float:
    """Return the mean |component| over the atoms, Å."""
    atoms = pairs.markers[entry] != VACANCY
    return float(np.abs(moved - pairs.relaxed[entry])[atoms].mean())


def chosen(sets: list[PairSet], n: int) -> list[tuple[PairSet, int]]:
    """Return n validation entries, the sets by turns, evenly spaced in each."""
    each = -(-n // len(sets))
    spaced = [s.split("val")[np.linspace(0, len(s.split("val")) - 1, each).astype(int)] for s in sets]
    return [(s, int(entries[k])) for k in range(each) for s, entries in zip(sets, spaced, strict=True)][:n]


def rows(sets: list[PairSet], n: int, potentials: list[str], known: set[Key]) -> Iterator[dict[str, Any]]:
    """Yield a row for each potential and structure that has none."""
    checkpoint = load_checkpoint("definet-2dmd")
    hosts: dict[tuple[str, str], FloatArray] = {}
    for name, (pairs, entry) in ((name, one) for name in potentials for one in chosen(sets, n)):
        if (name, pairs.name, pairs.ids[entry]) in known:
            continue
        if (name, pairs.name) not in hosts:
            everything = np.ones(pairs.host.n_sites, dtype=bool)
            hosts[name, pairs.name] = relaxed(name, pairs, np.array(pairs.host.numbers), everything)[0]
        began = time.process_time()
        (predicted,) = pair_displacements(checkpoint.network, pairs, np.array([entry]))
        network_s = time.process_time() - began
        moved, end = relaxed(name, pairs, pairs.numbers[entry], pairs.markers[entry] != VACANCY)
        yield {
            "potential": name,
            "set": pairs.name,
            "id": pairs.ids[entry],
            "atoms": int((pairs.markers[entry] != VACANCY).sum()),
            "dummy": error(pairs, entry, np.zeros_like(moved)),
            "network": error(pairs, entry, predicted),
            "relaxed": error(pairs, entry, moved),
            "without_host": error(pairs, entry, moved - hosts[name, pairs.name]),
            "calls": end.steps,
            "converged": end.converged,
            "processor_s": round(end.processor_s, 2),
            "network_s": round(network_s, 3),
        }


def show(found: list[dict[str, Any]], console: Console) -> None:
    """Print means per potential and set, Å and processor seconds per structure."""
    table = Table(
        "potential", "set", "n", "Dummy", "network", "relaxed", "without the host", "calls", "s", "network, s"
    )
    for name in POTENTIALS:
        of_potential = [row for row in found if row["potential"] == name]
        for of_set in (*sorted({row["set"] for row in of_potential}), "all"):
            members = [row for row in of_potential if of_set in {row["set"], "all"}]
            fields = ("dummy", "network", "relaxed", "without_host")
            means = (f"{np.mean([row[field] for row in members]):.4f}" for field in fields if members)
            costs = (f"{np.mean([row[field] for row in members]):.1f}" for field in ("calls", "processor_s") if members)
            if members:
                network = f"{np.median([row['network_s'] for row in members]):.3f}"
                short = of_set.removeprefix("high_density_defects/")
                table.add_row(name, short, str(len(members)), *means, *costs, network)
    console.print(table)


def main() -> None:
    """Relax what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the unpacked 2DMD archive")
    parser.add_argument("--structures", type=int, default=30)
    parser.add_argument("--potential", nargs="*", default=list(POTENTIALS), choices=POTENTIALS)
    given = parser.parse_args()
    try:
        for name in given.potential:
            require_package(name)
    except InputError as missing:
        parser.error(str(missing))
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    known = {(row["potential"], row["set"], row["id"]) for row in found}
    for row in rows(read_archive(given.data, (*HIGH, *SPIN)), given.structures, given.potential, known):
        found.append(row)
        write_whole(RESULTS, json.dumps(found, indent=1) + "\n")
        print(f"{row['potential']} {row['id']}: {row['calls']} calls, {row['processor_s']:.0f} s", flush=True)
    show(found, Console(width=140))


if __name__ == "__main__":
    main()
