"""How often distinct predictions of a network end in a lower minimum than the symmetric prediction does.

python benchmarks/minima.py --out FILE.jsonl                                                  # layers, shipped network
python benchmarks/minima.py --out FILE.jsonl --data FOLDER --weights alone.safetensors        # bulk hosts, too

FOLDER holds the unit cells of docs/notes/charged.md; `benchmarks/charged.py train --alone` makes the weights. SevenNet
relaxes each prediction at fixed cell to 0.02 eV/Å, and a control: unrelaxed positions whose atoms near the defect are
displaced as in the first broken start, without a network. Where the control ends lower, the network's prediction from
that start is relaxed, too, although it counts as the symmetric one. A run that was stopped goes on with the next case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from pymatgen.core import Element
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from definet_flows.defects import nodes, place
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import DEFAULT_MODEL, load_checkpoint
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.samples import broken, sampled
from definet_flows.starts.universal import load_universal
from definet_flows.stores.analysis.pairs import SAME_ENERGY

SAMPLES, CRITERION, STEPS = 5, 0.02, 300
LAYERS = {
    "BN": ((4, 4, 1), ("v_B", "v_N", "C_B", "N_B", "B_N")),
    "MoS2": ((4, 4, 1), ("v_S", "v_Mo", "Mo_S")),
    "WSe2": ((4, 4, 1), ("v_W",)),
    "GaSe": ((3, 3, 1), ("v_Ga", "v_Se")),
    "InSe": ((3, 3, 1), ("v_In",)),
    "P": ((3, 3, 1), ("v_P", "C_P")),
}
BULK = {
    "C_mp66": ((2, 2, 2), ("v_C",)),
    "GaN_mp804": ((3, 3, 2), ("v_Ga", "v_N")),
    "PbI2_mp22893": ((3, 3, 2), ("v_I", "Pb_I")),
}
"""Supercells and defects, neutral, as SevenNet-0 knows no charge."""


@dataclass(frozen=True, eq=False)
class Case:
    """A defect and the network that is asked for it."""

    name: str
    host: Host
    configuration: Configuration
    network: NetworkPreRelaxer


def cases(folder: Path | None, weights: Path | None) -> Iterator[Case]:
    """Yield the defects of the layers, and with weights those of the bulk hosts."""
    shipped = NetworkPreRelaxer(load_checkpoint(DEFAULT_MODEL))
    yield from _of(LAYERS, Path(), "", shipped)
    if folder is not None and weights is not None:
        yield from _of(BULK, folder, ".POSCAR", NetworkPreRelaxer(load_checkpoint(weights), allow_unseen_host=True))


def _of(
    hosts: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]],
    folder: Path,
    suffix: str,
    network: NetworkPreRelaxer,
) -> Iterator[Case]:
    for name, (repeats, defects) in hosts.items():
        host = make_host(str(folder / f"{name}{suffix}"), repeats)
        for defect in defects:
            site = host.numbers.index(Element(defect.partition("_")[2]).Z)
            yield Case(f"{name.partition('_')[0]} {defect}", host, place(host, [f"{defect}@{site}"]), network)


def relaxed(case: Case, start: FloatArray) -> dict[str, Any]:
    """Return energy, eV, and force evaluations of a relaxation from a start, Å, [n_rows, 3]."""
    numbers, markers = nodes(case.host, case.configuration)
    atoms = markers != VACANCY
    positions = (case.host.cartesian + start)[atoms]
    crystal = Atoms(numbers[atoms], positions=positions, cell=case.host.lattice, pbc=True)
    crystal.calc = load_universal("sevennet")
    optimizer = BFGS(crystal, logfile=None)
    converged = bool(optimizer.run(fmax=CRITERION, steps=STEPS))
    return {"energy": float(crystal.get_potential_energy()), "steps": optimizer.nsteps + 1, "converged": converged}


def measure(case: Case) -> dict[str, Any]:
    """Return the ends of the symmetric prediction, of each distinct prediction and of the control."""
    host, configuration = case.host, case.configuration
    (first,) = case.network.propose(host, host.cartesian, [configuration])
    symmetric, *others = sampled(case.network, host, configuration, first, SAMPLES)
    (start,) = broken(host, configuration, 1)
    ends = [
        {"members": one.members, **relaxed(case, np.asarray(one.proposal.displacements))}
        for one in others
        if case.network.judge(host, configuration, host.cartesian, one.proposal).verdict != "rejected"
    ]
    row = {
        "case": case.name,
        "atoms": int((nodes(host, configuration)[1] != VACANCY).sum()),
        "symmetric": {"members": symmetric.members, **relaxed(case, np.asarray(first.displacements))},
        "others": ends,
        "control": relaxed(case, start),
    }
    if _is_lower(row, row["control"]):
        (sample,) = case.network.sample(host, configuration, [start])
        row["sample"] = relaxed(case, np.asarray(sample.displacements))
    return row


# ------------------------------------------------------------------ the table


def table(rows: list[dict[str, Any]]) -> None:
    """Print the ends of each case, relative to that of the symmetric prediction, and how many are lower."""
    heads = "symmetric: steps", "others: eV (steps)", "control: eV (steps)", "its prediction: eV (steps)"
    shown = Table("defect", "atoms", "predictions (samples)", *heads)
    shown.box = MARKDOWN
    for row in rows:
        counts = ", ".join(str(one["members"]) for one in (row["symmetric"], *row["others"]))
        others = "; ".join(_relative(row, one) for one in row["others"]) or "-"
        steps = str(row["symmetric"]["steps"]) + ("" if row["symmetric"]["converged"] else " (not converged)")
        control = _relative(row, row["control"])
        sample = _relative(row, row["sample"]) if "sample" in row else "-"
        predictions = f"{1 + len(row['others'])} ({counts})"
        shown.add_row(row["case"], str(row["atoms"]), predictions, steps, others, control, sample)
    Console(width=200).print(shown)
    several = [row for row in rows if row["others"]]
    lower = [row for row in several if any(_is_lower(row, one) for one in row["others"])]
    shaken = [row for row in rows if _is_lower(row, row["control"])]
    print(f"{len(rows)} defects, {SAMPLES} samples each: {len(several)} with several predictions, ", end="")
    print(f"{len(lower)} with a lower end among them; control: {len(shaken)} lower")


def _relative(row: dict[str, Any], end: dict[str, Any]) -> str:
    note = "" if end["converged"] else ", not converged"
    return f"{end['energy'] - row['symmetric']['energy']:+.3f} ({end['steps']}{note})"


def _is_lower(row: dict[str, Any], end: dict[str, Any]) -> bool:
    return bool(end["energy"] < row["symmetric"]["energy"] - SAME_ENERGY)


def main() -> None:
    """Measure the cases that are missing in the file, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of the measurements, .jsonl")
    parser.add_argument("--data", type=Path, help="folder of the bulk hosts' unit cells")
    parser.add_argument("--weights", type=Path, help="a network that learned these hosts")
    given = parser.parse_args()
    if (given.data is None) != (given.weights is None):
        parser.error("give --data and --weights together: the bulk hosts need both")
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for case in cases(given.data, given.weights):
        if case.name in {row["case"] for row in done}:
            continue
        done.append(measure(case))
        with given.out.open("a") as file:
            print(json.dumps(done[-1]), file=file)
    table(done)


if __name__ == "__main__":
    main()
