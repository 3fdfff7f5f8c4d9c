"""What the gate says of structures that DFT itself relaxed: a reject among them is a false alarm.

python benchmarks/gate.py --data FOLDER    # the unpacked 2DMD archive; under a minute
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from definet_flows.model.data.archive import PairSet, read_archive
from definet_flows.schemas import PRISTINE, VACANCY, Configuration, Edit
from definet_flows.starts.gate import judge_geometry

SAMPLE = 500  # entries of a set


def configuration(pairs: PairSet, entry: int) -> Configuration:
    """Return one entry as an edit list."""
    edits = []
    for site in np.flatnonzero(pairs.markers[entry] != PRISTINE):
        marker, old = int(pairs.markers[entry, site]), pairs.host.numbers[site]
        new = None if marker == VACANCY else int(pairs.numbers[entry, site])
        edits.append(Edit(site=int(site), marker=marker, old=old, new=new))
    return Configuration(edits=tuple(edits))


def main() -> None:
    """Print the verdicts on the relaxed structures of each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    table = Table("set", "n", "accepted", "flagged", "rejected", "most frequent reason of a reject")
    for pairs in read_archive(parser.parse_args().data):
        entries = np.linspace(0, len(pairs.ids) - 1, min(SAMPLE, len(pairs.ids))).astype(int)
        host, base = pairs.host, pairs.host.cartesian
        gates = [
            judge_geometry(host, configuration(pairs, e), base, pairs.relaxed[e].astype(np.float64)) for e in entries
        ]
        counts = Counter(gate.verdict for gate in gates)
        cells = (f"{counts[verdict] / len(gates):.1%}" for verdict in ("accepted", "flagged", "rejected"))
        reason = next((gate.reason for gate in gates if gate.verdict == "rejected"), "")
        table.add_row(pairs.name, str(len(gates)), *cells, reason)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
