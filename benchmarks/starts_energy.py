"""Is the start of the lowest energy, by a potential, the start nearest to DFT? Starts compared by energy and by force.

    python benchmarks/starts_energy.py bulk --data FOLDER --out FILE.jsonl           # charged defects of others
    python benchmarks/starts_energy.py low-density --data FOLDER --out FILE.jsonl    # the unpacked 2DMD archive
    python benchmarks/starts_energy.py show --out FILE.jsonl

A measurement that was stopped goes on where it stopped. Errors are of displacements less their mean over the atoms, Å.
The potential is SevenNet-0, as judge and as pre-relaxer; what the gate rejects is no start.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.starts import LOW, configuration, errors, evidence, read_cases
from definet_flows.model.data.archive import read_archive
from definet_flows.model.inference.checkpoint import DEFAULT_MODEL, load_checkpoint
from definet_flows.model.training.baselines import fit_host
from definet_flows.schemas import VACANCY
from definet_flows.starts.energies import energies_of
from definet_flows.starts.fields import FieldsPreRelaxer
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.potential import PotentialPreRelaxer, potential_named
from definet_flows.starts.proposals import Evidence, PreRelaxer, Proposal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from definet_flows.schemas import FloatArray

Row = dict[str, Any]
Case = tuple[str, Evidence, "FloatArray", list[PreRelaxer]]
"""Set, relaxation by DFT, base, and the pre-relaxers that propose starts beside the potential."""

UNRELAXED, JUDGE = "unrelaxed", "potential:sevennet"


def bulk(folder: Path, most: int) -> Iterator[Case]:
    """Yield the defects that a smaller cell has in the same charge, with the fields of that cell."""
    cases = list(read_cases(folder))
    count = 0
    for target in sorted(cases, key=lambda case: (case.n_sites, case.host, case.defect, case.charge)):
        same = [c for c in cases if (c.host, c.defect) == (target.host, target.defect) and c.n_sites < target.n_sites]
        sizes = [case.n_sites for case in same if case.charge == target.charge]
        if not sizes or count == most:
            continue
        count += 1
        fields = FieldsPreRelaxer([case.evidence for case in same if case.n_sites == max(sizes)])
        yield target.host, target.evidence, target.evidence.host.cartesian, [fields]


def low_density(folder: Path, most: int) -> Iterator[Case]:
    """Yield validation entries of MoS2 and WSe2, `most` of each, on the host as DFT relaxes it."""
    network = NetworkPreRelaxer(load_checkpoint(DEFAULT_MODEL))
    for pairs in read_archive(folder, LOW):
        entries = pairs.split("val")
        motion = fit_host(pairs, pairs.split("train"))(pairs.numbers[:1], pairs.markers[:1])[0]
        fields = FieldsPreRelaxer(evidence(pairs, motion, singles=True))
        base = pairs.host.cartesian + motion
        for entry in entries[np.linspace(0, len(entries) - 1, min(most, len(entries))).astype(int)]:
            moved = np.where((pairs.markers[entry] != VACANCY)[:, None], pairs.relaxed[entry] - motion, 0.0)
            item = Evidence(pairs.ids[entry], pairs.host, configuration(pairs, entry), moved)
            yield pairs.host.formula, item, base, [network, fields]


def measured(case: Case, judge: PotentialPreRelaxer, known: dict[str, Proposal], relax_below: int) -> Row:
    """Return error, energy and force of every start of a case.

    The judge relaxes all charges of a defect alike: `known` holds its proposals for neutral configurations. It proposes
    in supercells below a number of sites, because a relaxation costs ten times the rest.
    """
    name, item, base, ways = case
    host, edits = item.host, item.configuration
    starts = {UNRELAXED: Proposal(np.zeros((len(item.displacements), 3)))}
    for way in ways:
        proposal = way.propose(host, base, [edits])[0]
        if way.judge(host, edits, base, proposal).verdict != "rejected":
            starts[way.name] = proposal
    neutral = edits.model_copy(update={"charge": 0})
    place = neutral.id_in(host.hash)
    if place not in known and host.n_sites < relax_below:
        known[place] = judge.propose(host, base, [neutral])[0]
    if place in known and known[place].displacements is not None:
        starts[judge.name] = known[place]
    seen = energies_of(judge, host, base, edits, [proposal.displacements for proposal in starts.values()])
    numbers = [
        [*errors(item, proposal, centred=True), one.energy, one.max_force]
        for proposal, one in zip(starts.values(), seen, strict=True)
    ]
    return {"id": _id(name, item), "set": name, "starts": dict(zip(starts, numbers, strict=True))}


def _id(name: str, item: Evidence) -> str:
    return f"{name} {item.record_id} {item.configuration.charge:+d}"


def measure(cases: Iterator[Case], out: Path, relax_below: int) -> None:
    """Add a line for each case that the file does not have."""
    done = {found["id"] for found in read_rows(out)}
    judge, known = potential_named(JUDGE), dict[str, Proposal]()
    with out.open("a", encoding="utf-8") as file:
        for case in cases:
            if _id(*case[:2]) in done:
                continue
            began = time.perf_counter()
            print(json.dumps(measured(case, judge, known, relax_below)), file=file, flush=True)
            print(f"{_id(*case[:2])}: {time.perf_counter() - began:.0f} s", flush=True)


def read_rows(out: Path) -> list[Row]:
    """Return the lines of a file; none where there is no file."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []


def show(out: Path) -> None:
    """Print how often the lowest energy and the lowest force choose the start of the smallest mean error."""
    sets: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(out):
        sets[row["set"]].append(row)
    for others in (False, True):
        head = ("n", "energy right", "force right", "each way alone", "by energy", "by force", "best possible")
        table = Table("set", *head, box=MARKDOWN)
        for name, rows in sorted(sets.items()):
            seen = [row["starts"] for row in rows if JUDGE in row["starts"] or not others]
            kept = [{way: numbers for way, numbers in one.items() if others or way != JUDGE} for one in seen]
            kept = [starts for starts in kept if len(starts) > 1]
            if kept:
                table.add_row(name, *_cells(kept))
        Console(width=170).print(table)


def _cells(rows: list[dict[str, list[float]]]) -> Iterator[str]:
    """Return the cells of the cases of a set: how often a choice is right, and mean errors."""
    best = [min(starts, key=lambda way: starts[way][0]) for starts in rows]
    chosen = [[min(starts, key=lambda way: starts[way][k]) for starts in rows] for k in (2, 3)]
    yield str(len(rows))
    for ways in chosen:
        yield str(sum(way == right for way, right in zip(ways, best, strict=True)))
    yield ", ".join(f"{way} {_mean(rows, [way] * len(rows))}" for way in sorted({way for one in rows for way in one}))
    for ways in (*chosen, best):
        yield _mean(rows, ways)


def _mean(rows: list[dict[str, list[float]]], ways: list[str]) -> str:
    """Return the mean error, Å, of a way in each case; a way that has no start there begins unrelaxed."""
    return f"{np.mean([starts.get(way, starts[UNRELAXED])[0] for starts, way in zip(rows, ways, strict=True)]):.4f}"


def main() -> None:
    """Run the sub-command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("bulk", "low-density", "show"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=10**6, help="cases of a set")
    parser.add_argument("--relax-below", type=int, default=100, help="sites; the potential proposes too in such cells")
    given = parser.parse_args()
    if given.command == "show":
        show(given.out)
    else:
        cases = bulk if given.command == "bulk" else low_density
        measure(cases(given.data, given.most), given.out, given.relax_below)


if __name__ == "__main__":
    main()
