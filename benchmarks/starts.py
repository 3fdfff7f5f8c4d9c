"""How near to the relaxed positions starts lie that recorded displacement fields make.

python benchmarks/starts.py bulk --data FOLDER                  # charged defects, from a cell to the next; seconds
python benchmarks/starts.py low-density --data FOLDER           # the unpacked 2DMD archive; some minutes
python benchmarks/starts.py low-density --data FOLDER --results FILE.json    # goes on where it stopped
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import read
from pymatgen.io.ase import AseAtomsAdaptor
from rich.console import Console
from rich.table import Table

from definet_flows.atomic import replacing
from definet_flows.defects import nodes, recover
from definet_flows.hosts import load_structure, make_host
from definet_flows.model.data.archive import PairSet, read_archive
from definet_flows.model.training.baselines import fit_host
from definet_flows.model.training.metrics import score, summarize
from definet_flows.schemas import PRISTINE, VACANCY, Configuration, Edit, FloatArray, Host
from definet_flows.starts.fields import FieldsPreRelaxer
from definet_flows.starts.proposals import Evidence, Proposal

LOW = ("low_density_defects/MoS2", "low_density_defects/WSe2")
WAYS = ("records of single defects", "singles, fitted to all", "singles and pairs")


# ------------------------------------------------------------------ bulk


@dataclass(frozen=True)
class Case:
    """A relaxation of others: which defect of which host, and what it shows."""

    host: str
    defect: str
    evidence: Evidence

    @property
    def charge(self) -> int:
        """Net charge, elementary charges."""
        return self.evidence.configuration.charge

    @property
    def n_sites(self) -> int:
        """Sites of the supercell."""
        return self.evidence.host.n_sites


def read_cases(folder: Path) -> Iterator[Case]:
    """Yield the relaxations in `charged-defects.extxyz`."""
    hosts: dict[tuple[str, tuple[int, ...]], Host] = {}
    for k, atoms in enumerate(read(folder / "charged-defects.extxyz", ":")):
        name = atoms.info["host"]
        unit = load_structure(folder / f"{name}.POSCAR")
        repeats = tuple(np.rint(atoms.cell.lengths() / unit.lattice.abc).astype(int).tolist())
        if (name, repeats) not in hosts:
            hosts[name, repeats] = make_host(unit, repeats)
        host = hosts[name, repeats]
        recovered = recover(host, AseAtomsAdaptor.get_structure(atoms))
        configuration = recovered.configuration.model_copy(update={"charge": int(atoms.info["charge"])})
        step = (atoms.arrays["relaxed_positions"] - atoms.positions) @ np.linalg.inv(atoms.cell[:])
        moved = np.zeros((len(recovered.positions), 3))
        moved[recovered.permutation] = recovered.frame.frac(step - np.rint(step)) @ recovered.frame.turned
        moved[recovered.permutation] -= moved[recovered.permutation].mean(0)
        yield Case(name, atoms.info["defect"], Evidence(f"record-{k}", host, configuration, moved))


def bulk(folder: Path) -> None:
    """Print the errors of fields carried from each cell of a defect and charge to the next larger."""
    cases = list(read_cases(folder))
    table = Table(
        "host", "defect", "q", "sites", "mean: Dummy", "field", "stated", "largest: Dummy", "field", "ratio", ""
    )
    ratios, stated, true = [], [], []
    for target in sorted(cases, key=lambda case: (case.host, case.defect, case.charge, case.n_sites)):
        smaller = [
            c for c in cases if (c.host, c.defect) == (target.host, target.defect) and c.n_sites < target.n_sites
        ]
        own = [case.n_sites for case in smaller if case.charge == target.charge]
        if not own:
            continue
        item = target.evidence
        fields = FieldsPreRelaxer([case.evidence for case in smaller if case.n_sites == max(own)])
        proposal = fields.propose(item.host, item.host.cartesian, [item.configuration])[0]
        gate = fields.judge(item.host, item.configuration, item.host.cartesian, proposal)
        (mean, largest), (mean0, largest0) = errors(item, proposal), errors(item, None)
        ratio = 1.0 if gate.verdict == "rejected" else largest / largest0
        ratios.append(ratio)
        stated.append(proposal.uncertainty)
        true.append(mean)
        cells = f"{max(own)} to {target.n_sites}"
        numbers = (f"{x:.4f}" for x in (mean0, mean, proposal.uncertainty or 0))
        sizes = (f"{largest0:.3f}", f"{largest:.3f}", f"{largest / largest0:.2f}")
        verdict = "refused" if gate.verdict == "rejected" else ""
        table.add_row(target.host, target.defect, f"{target.charge:+d}", cells, *numbers, *sizes, verdict)
    Console(width=140).print(table)
    print(f"{len(ratios)} fields; largest errors over Dummy's, refused as 1: median {np.median(ratios):.2f}, ", end="")
    print(f"worst {max(ratios):.2f}; mean stated error {np.mean(stated):.4f}, true {np.mean(true):.4f} Å")


def errors(item: Evidence, proposal: Proposal | None, *, centred: bool = False) -> tuple[float, float]:
    """Return the mean |component| error and the largest atomic error, Å; without a proposal those of no motion.

    `centred`: less the mean error over the atoms.
    """
    predicted = 0.0 if proposal is None or proposal.displacements is None else proposal.displacements
    wrong = (predicted - item.displacements)[nodes(item.host, item.configuration)[1] != VACANCY]
    wrong = wrong - wrong.mean(0) if centred else wrong
    return float(np.abs(wrong).mean()), float(np.linalg.norm(wrong, axis=1).max())


# ------------------------------------------------------------------ low density


def configuration(pairs: PairSet, entry: int) -> Configuration:
    """Return one entry as an edit list."""
    edits = []
    for site in np.flatnonzero(pairs.markers[entry] != PRISTINE):
        marker, old = int(pairs.markers[entry, site]), pairs.host.numbers[site]
        new = None if marker == VACANCY else int(pairs.numbers[entry, site])
        edits.append(Edit(site=int(site), marker=marker, old=old, new=new))
    return Configuration(edits=tuple(edits))


def evidence(pairs: PairSet, host_motion: FloatArray, *, singles: bool) -> list[Evidence]:
    """Return the training split, displacements less the host's own motion; `singles`: single defects only."""
    entries = pairs.split("train")
    if singles:
        entries = entries[(pairs.markers[entries] != PRISTINE).sum(1) == 1]
    moved = np.where((pairs.markers[entries] != VACANCY)[:, :, None], pairs.relaxed[entries] - host_motion, 0.0)
    return [
        Evidence(pairs.ids[entry], pairs.host, configuration(pairs, entry), row)
        for entry, row in zip(entries, moved, strict=True)
    ]


def measure(pairs: PairSet, way: str) -> dict[str, float]:
    """Return the errors of a way on the validation split, Å."""
    entries = pairs.split("val")
    markers, truth = pairs.markers[entries], pairs.relaxed[entries]
    host_motion = fit_host(pairs, pairs.split("train"))(pairs.numbers[:1], pairs.markers[:1])[0]
    begun = time.perf_counter()
    learned = evidence(pairs, host_motion, singles=way == WAYS[0])
    fields = FieldsPreRelaxer(learned, pairs=way == WAYS[2])
    proposals = fields.propose(pairs.host, pairs.host.cartesian, [configuration(pairs, entry) for entry in entries])
    seconds = time.perf_counter() - begun
    none = np.zeros((pairs.host.n_sites, 3))
    moved = [none if p.displacements is None else p.displacements for p in proposals]
    scores = score(pairs.host, markers, truth, np.array(moved) + host_motion)
    found = summarize(scores)
    stated = np.array([p.uncertainty for p in proposals if p.uncertainty is not None])
    return {
        "records": len(learned),
        "dummy": float(score(pairs.host, markers, truth, np.zeros_like(truth)).mae.mean()),
        "dummy_host": float(score(pairs.host, markers, truth, np.zeros_like(truth) + host_motion).mae.mean()),
        "mae": found.mae or 0.0,
        "A3": found.A3 or 0.0,
        "largest_p95": found.max_error_p95 or 0.0,
        "stated": float(stated.mean()),
        "seconds": seconds,
    }


def low_density(folder: Path, results: Path | None) -> None:
    """Print the errors on the validation split of low-density MoS2 and WSe2."""
    known = json.loads(results.read_text()) if results and results.exists() else {}
    columns = ("records", "dummy", "dummy_host", "mae", "stated", "A3", "largest_p95", "seconds")
    table = Table("host", "way", *columns)
    for pairs in read_archive(folder, LOW):
        for way in WAYS:
            name = f"{pairs.name}: {way}"
            if name not in known:
                known[name] = measure(pairs, way)
                if results:
                    with replacing(results) as part:
                        part.write_text(json.dumps(known, indent=1))
            row = known[name]
            cells = (f"{row[c]:.0f}" if c in {"records", "seconds"} else f"{row[c]:.4f}" for c in columns)
            table.add_row(pairs.host.formula, way, *cells)
    Console(width=140).print(table)


def main() -> None:
    """Run the sub-command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    beside = Path(__file__).parents[2] / "shared"
    first = commands.add_parser("bulk")
    first.add_argument("--data", type=Path, default=beside / "bulk", help="folder of charged-defects.extxyz")
    first.set_defaults(run=lambda given: bulk(given.data))
    second = commands.add_parser("low-density")
    second.add_argument("--data", type=Path, default=beside / "2dmd", help="the unpacked archive")
    second.add_argument("--results", type=Path, help="JSON file of what is measured already")
    second.set_defaults(run=lambda given: low_density(given.data, given.results))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
