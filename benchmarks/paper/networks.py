"""Claims of the paper that ask for trainings, at an equal budget for all networks of a claim.

    python benchmarks/paper/networks.py twin --data FOLDER --work FOLDER       Fig. 3: beside a network without markers
    python benchmarks/paper/networks.py ablations --data FOLDER --work FOLDER  Suppl. 7 and 8
    python benchmarks/paper/networks.py data-size --data FOLDER --work FOLDER  Suppl. 9
    python benchmarks/paper/networks.py transfer --data FOLDER --work FOLDER   high to low density, short to long pairs

Results go to benchmarks/paper/results/; what is there is not trained again, a training that was stopped goes on.
Errors are those of the validation splits, Å, of the last epoch's averaged weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.support.paper_runs import CLAIMS, Budget, carry_out, finished, runs
from definet_flows.model.data.archive import read_archive

RESULTS = Path(__file__).parent / "results"
NEAR = ("A3", "A4", "A5", "A6", "mae")


def show(results: Path, console: Console) -> None:
    """Print a row for each run and set: errors of the network, and of no motion and the sum of fields beside it."""
    table = Table("run", "seed", "epochs", "set", "n", *NEAR, "Dummy", "Additive")
    for row in finished(results):
        for name, of_set in row["sets"].items():
            network = of_set["network"]
            numbers = [*(network[field] for field in NEAR), of_set["dummy"]["mae"], of_set["additive"]["mae"]]
            short = name.replace("_density_defects", "")
            cells = ("-" if number is None else f"{number:.4f}" for number in numbers)
            table.add_row(row["run"], str(row["seed"]), str(row["epochs"]), short, str(network["n"]), *cells)
    console.print(table)


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=CLAIMS)
    parser.add_argument("--data", type=Path, required=True, help="the unpacked 2DMD archive")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--entries", type=int, default=400, help="entries of each set an epoch")
    given = parser.parse_args()
    needed = sorted({name for run in runs(given.claim) for name in (*run.learned, *run.measured)})
    sets = {pairs.name: pairs for pairs in read_archive(given.data, tuple(needed))}
    results = RESULTS / f"{given.claim}.json"
    carry_out(given.claim, sets, given.work, results, Budget(given.epochs, given.entries))
    show(results, Console(width=130))


if __name__ == "__main__":
    main()
