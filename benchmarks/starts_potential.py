"""Does a potential that knows no charge help a charged defect? Its ends against those of DFT, per charge.

python benchmarks/starts_potential.py --data FOLDER --out FILE.jsonl [--potential potential:sevennet] [--most-atoms 72]

FOLDER holds `charged-defects.extxyz` and the unit cells `<host>.POSCAR`. A run that was stopped goes on where it
stopped. Each defect is relaxed once for all its charges, the whole path is kept: errors at looser criteria are those of
the first step that meets them. Errors are of displacements less their mean over the atoms, in Å.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from pymatgen.io.ase import AseAtomsAdaptor
from rich.console import Console
from rich.table import Table

from definet_flows.defects import nodes, recover
from definet_flows.hosts import make_host
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host
from definet_flows.starts.potential import FORCE_CRITERION, PotentialPreRelaxer, potential_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms

CRITERIA = (0.2, 0.1, 0.05, 0.02)
REPEATS = {
    "C_mp66": {63: (2, 2, 2), 215: (3, 3, 3)},
    "GaN_mp804": {71: (3, 3, 2), 72: (3, 3, 2), 191: (4, 4, 3), 192: (4, 4, 3)},
    "PbI2_mp22893": {53: (3, 3, 2), 54: (3, 3, 2), 95: (4, 4, 2), 96: (4, 4, 2)},
}
"""Supercell of each number of atoms."""


class Traced(Calculator):
    """A calculator that keeps the positions and the largest force of each evaluation."""

    implemented_properties = ("energy", "forces")

    def __init__(self, inner: Calculator) -> None:
        super().__init__()
        self.inner = inner
        self.path: list[tuple[FloatArray, float]] = []

    def calculate(
        self, atoms: Atoms, properties: tuple[str, ...] = ("forces",), changes: list[str] = all_changes
    ) -> None:
        """Compute, and note where."""
        super().calculate(atoms, properties, changes)
        forces = self.inner.get_forces(atoms)
        self.results = {"energy": self.inner.results["energy"], "forces": forces}
        self.path.append((atoms.positions.copy(), float(np.linalg.norm(forces, axis=1).max())))


def read(folder: Path, atoms: Atoms) -> tuple[Host, Configuration, FloatArray]:
    """Return the host, the configuration and the displacements by DFT, Å, [n_sites, 3], of a frame."""
    host = make_host(str(folder / f"{atoms.info['host']}.POSCAR"), REPEATS[atoms.info["host"]][len(atoms)])
    found = recover(host, AseAtomsAdaptor.get_structure(atoms))
    moved = np.linalg.solve(atoms.cell.T, (atoms.arrays["relaxed_positions"] - atoms.positions).T).T
    moved = found.frame.frac(moved - np.rint(moved)) @ np.array(host.lattice)
    table = np.zeros((host.n_sites, 3))
    table[found.permutation] = moved - moved.mean(0)
    return host, found.configuration.model_copy(update={"charge": int(atoms.info["charge"])}), table


def errors(host: Host, configuration: Configuration, moved: FloatArray, truth: FloatArray) -> list[float]:
    """Return the mean |component| and the largest error of displacements, Å."""
    atoms = nodes(host, configuration)[1] != VACANCY
    wrong = (moved - truth)[atoms]
    wrong -= wrong.mean(0)
    return [float(np.abs(wrong).mean()), float(np.linalg.norm(wrong, axis=1).max())]


def relaxed(relaxer: PotentialPreRelaxer, host: Host, configuration: Configuration) -> dict[float, Any]:
    """Return, for each criterion that is met, the displacements and the evaluations of forces they took."""
    relaxer.propose(host, host.cartesian, [Configuration(edits=())])
    traced = relaxer.calculator_factory()
    assert isinstance(traced, Traced)
    traced.path.clear()
    relaxer.propose(host, host.cartesian, [configuration])
    atoms = nodes(host, configuration)[1] != VACANCY
    ends = {}
    for criterion in CRITERIA:
        step = next((k for k, (_, force) in enumerate(traced.path) if force <= criterion), None)
        if step is not None:
            moved = np.zeros((host.n_sites, 3))
            moved[atoms] = traced.path[step][0] - traced.path[0][0]
            ends[criterion] = (moved, step + 1)
    return ends


def rows(arguments: argparse.Namespace, known: set[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each frame that has none; frames of a defect and a cell, of all charges, together."""
    named = potential_named(arguments.potential)
    traced = Traced(named.calculator_factory())
    relaxer = PotentialPreRelaxer(named.name, lambda: traced, named.identity, criterion=min(CRITERIA))
    together: dict[tuple[int, str, str], list[Atoms]] = defaultdict(list)
    for atoms in ase.io.read(arguments.data / "charged-defects.extxyz", ":"):
        if len(atoms) <= arguments.most_atoms and f"{arguments.potential} {atoms.info['source']}" not in known:
            together[len(atoms), atoms.info["host"], atoms.info["defect"]].append(atoms)
    for (size, name, defect), frames in sorted(together.items()):
        began = time.perf_counter()
        ends: dict[str, dict[float, Any]] = {}
        for atoms in frames:
            host, configuration, truth = read(arguments.data, atoms)
            neutral = configuration.model_copy(update={"charge": 0})
            place = neutral.id_in(host.hash)
            if place not in ends:
                ends[place] = relaxed(relaxer, host, neutral)
            row = {
                "id": f"{arguments.potential} {atoms.info['source']}",
                "potential": arguments.potential,
                "host": name,
                "defect": defect,
                "atoms": size,
                "charge": configuration.charge,
                "dummy": errors(host, configuration, np.zeros_like(truth), truth),
            }
            row["ends"] = {
                f"{criterion:g}": [*errors(host, configuration, moved, truth), calls]
                for criterion, (moved, calls) in ends[place].items()
            }
            yield row
        print(f"{name} {defect} {size} atoms: {len(frames)} charges, {time.perf_counter() - began:.0f} s", flush=True)


def show(found: list[dict[str, Any]], console: Console) -> None:
    """Print the table per defect and charge, per charge, and by criterion."""
    standard = f"{FORCE_CRITERION:g}"
    head = ("mean, Dummy", "mean, potential", "largest, Dummy", "largest, potential")
    single = Table("host", "defect", "atoms", "charge", *head, "force calls")
    for row in sorted(found, key=lambda r: (r["potential"], r["host"], r["defect"], r["atoms"], r["charge"])):
        mean, largest, calls = row["ends"].get(standard, (np.nan, np.nan, 0))
        cells = (f"{row['dummy'][0]:.4f}", f"{mean:.4f}", f"{row['dummy'][1]:.3f}", f"{largest:.3f}", str(calls))
        single.add_row(row["host"], row["defect"], str(row["atoms"]), f"{row['charge']:+d}", *cells)
    console.print(single)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        if standard in row["ends"]:
            for host in (row["host"], "all"):
                for charge in (f"{row['charge']:+d}", "neutral" if row["charge"] == 0 else "charged"):
                    groups[host, charge].append(row)
    charges = Table("host", "charge", "n", *head, "mean better", "largest better")
    for (host, charge), members in sorted(groups.items()):
        pairs = np.array([[*row["dummy"], *row["ends"][standard][:2]] for row in members])
        mean, better = pairs.mean(0), (pairs[:, 2:] < pairs[:, :2]).sum(0)
        cells = (f"{mean[0]:.4f}", f"{mean[2]:.4f}", f"{mean[1]:.3f}", f"{mean[3]:.3f}", str(better[0]), str(better[1]))
        charges.add_row(host, charge, str(len(members)), *cells)
    console.print(charges)
    loose = Table("criterion, eV/Å", "n", "mean error", "largest error", "force calls")
    complete = [row for row in found if len(row["ends"]) == len(CRITERIA)]
    for criterion in map("{:g}".format, CRITERIA):
        means = np.mean([row["ends"][criterion] for row in complete], axis=0) if complete else [np.nan] * 3
        loose.add_row(criterion, str(len(complete)), f"{means[0]:.4f}", f"{means[1]:.3f}", f"{means[2]:.1f}")
    console.print(loose)


def main() -> None:
    """Relax what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a line for each frame; added to")
    parser.add_argument("--potential", default="potential:sevennet")
    parser.add_argument("--most-atoms", type=int, default=10**6)
    arguments = parser.parse_args()
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.is_file() else []
    found = [json.loads(line) for line in lines]
    with arguments.out.open("a", encoding="utf-8") as file:
        for row in rows(arguments, {row["id"] for row in found}):
            found.append(row)
            print(json.dumps(row), file=file, flush=True)
    show([row for row in found if row["potential"] == arguments.potential], Console(width=150))


if __name__ == "__main__":
    main()
