"""Fig. 3 of the paper: errors near defects and over all atoms, the shipped weights beside what they have to beat.

    python benchmarks/paper/accuracy.py --data FOLDER    # the unpacked 2DMD archive; two minutes

The numbers go to benchmarks/paper/results/accuracy.json, the figure to docs/figures/proofs-accuracy.png. The network
without markers that the paper compares with is trained by `networks.py twin`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from definet_flows.atomic import write_whole
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.training.evaluate import draw, evaluate, table

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "proofs-accuracy.png"


def main() -> None:
    """Evaluate the shipped weights on every validation split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the unpacked 2DMD archive")
    evaluation = evaluate(parser.parse_args().data, "val", load_checkpoint("definet-2dmd"))
    write_whole(RESULTS, evaluation.model_dump_json(indent=1) + "\n")
    draw(evaluation, FIGURE)
    Console(width=100).print(table(evaluation))


if __name__ == "__main__":
    main()
