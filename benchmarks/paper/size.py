"""Fig. 5b and c of the paper: residual steps and the time of a prediction, by the size of the supercell.

    python benchmarks/paper/size.py [--sizes 4 6 8 12]

MoS2, n x n supercells, five configurations that the weights have not learned. `definet-sevennet-mos2` learned
relaxations by SevenNet-0 in 4 x 4 alone. SevenNet-0 relaxes at fixed cell by BFGS to 0.01 eV/Å, from the unrelaxed and
from the predicted start. A row is written to benchmarks/paper/results/size.json after each configuration, and a command
that was stopped goes on. The figure is docs/figures/proofs-size.png.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.support.paper_relax import from_both_starts, host_at_rest
from definet_flows.atomic import write_whole
from definet_flows.defects import Choices, enumerate_configurations, nodes
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.schemas import VACANCY, Configuration, Host
from definet_flows.starts.network import NetworkPreRelaxer

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results" / "size.json"
FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "proofs-size.png"
HOST, WEIGHTS, POTENTIAL = "MoS2", "definet-sevennet-mos2", "sevennet"
NAMES = ("v_S", "v_Mo", "Se_S", "v_S+W_Mo", "v_Mo+v_S")
"""Single defects, and pairs on neighbouring sites."""
_BOND = 2.5
_SMALLEST = 3
STARTS = ("unrelaxed", "predicted")


def configurations(host: Host) -> list[Configuration]:
    """Return the configurations of `NAMES`; of each there is a single one in any supercell."""
    choices = Choices(defects=("v_S", "v_Mo", "W_Mo", "Se_S"), max_defects=2, max_distance=_BOND)
    found = {one.name: one for one in enumerate_configurations(host, choices)}
    return [found[name] for name in NAMES]


def rows(sizes: list[int], known: set[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each supercell and configuration that has none."""
    network = NetworkPreRelaxer(load_checkpoint(WEIGHTS))
    for size in sizes:
        host = make_host(HOST, (size, size, 1))
        missing = [one for one in configurations(host) if (size, one.name) not in known]
        if not missing:
            continue
        base = host_at_rest(POTENTIAL, host)
        network.propose(host, base, missing[:1])  # finds the edges of this supercell, once
        for configuration in missing:
            began = time.process_time()
            (proposal,) = network.propose(host, base, [configuration])
            seconds = time.process_time() - began
            assert proposal.displacements is not None
            markers = nodes(host, configuration)[1]
            both = from_both_starts(POTENTIAL, host, base, configuration, proposal.displacements)
            yield {
                "size": size,
                "configuration": configuration.name,
                "atoms": int((markers != VACANCY).sum()),
                "gate": network.judge(host, configuration, base, proposal).verdict,
                "prediction_s": round(seconds, 4),
                **both.costs,
                "errors": both.errors(np.ones(len(both.base), dtype=bool)),
            }


def show(found: list[dict[str, Any]], console: Console) -> None:
    """Print a row for each supercell and configuration."""
    table = Table("size", "configuration", "gate", "steps", "same minimum", "apart, Å", "s", "prediction, s")
    for row in found:
        steps, seconds = (" to ".join(f"{row[key][s]:g}" for s in STARTS) for key in ("steps", "processor_s"))
        cells = (row["gate"], steps, str(row["same_minimum"]), f"{row['apart']:.3f}", seconds)
        table.add_row(f"{row['size']}", row["configuration"], *cells, f"{row['prediction_s']:.3f}")
    console.print(table)


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw steps of each configuration, and mean processor seconds, by the number of sites."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = sorted({row["size"] for row in found})
    sites = [3 * size**2 for size in sizes]
    of_size = [[row for row in found if row["size"] == size] for size in sizes]
    for start, color in zip(STARTS, ("0.55", "C0"), strict=True):
        for name in NAMES:
            mine = [row for row in found if row["configuration"] == name]
            mine.sort(key=lambda row: row["size"])
            left.plot([3 * r["size"] ** 2 for r in mine], [r["steps"][start] for r in mine], color=color, alpha=0.35)
        left.plot(sites, [fmean(r["steps"][start] for r in s) for s in of_size], "o-", color=color, label=start)
        seconds = [fmean(r["processor_s"][start] for r in s) for s in of_size]
        right.plot(sites, seconds, "o-", color=color, label=f"relaxation, {start}")
    predictions = [median(r["prediction_s"] for r in s) for s in of_size]
    right.plot(sites, predictions, "s-", color="C2", label="prediction")
    right.set(xlabel="sites", ylabel="processor s", yscale="log")
    left.set(xlabel="sites", ylabel="ionic steps", ylim=(0, None))
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110, format="png")


def main() -> None:
    """Relax what is missing, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[4, 6, 8, 12], help="n of n x n supercells")
    given = parser.parse_args()
    if min(given.sizes) < _SMALLEST:
        parser.error(f"--sizes {min(given.sizes)}: a defect would be its own neighbour, take {_SMALLEST} or more")
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    known = {(row["size"], row["configuration"]) for row in found}
    for row in rows(given.sizes, known):
        found.append(row)
        write_whole(RESULTS, json.dumps(found, indent=1) + "\n")
        print(f"{row['size']} x {row['size']} {row['configuration']}: {row['steps']}", flush=True)
    show(found, Console(width=120))
    draw(found, FIGURE)


if __name__ == "__main__":
    main()
