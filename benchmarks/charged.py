"""How near to the ends of charged defects a network comes that goes on from recorded fields.

A network learns from the smallest supercell of each host: from starts whose displacements end at some distance from
the defect, as those of fields from a smaller supercell do, to the relaxed positions. Larger supercells measure it. A
network that learns from all sizes is for still larger supercells, in files of their own.

python benchmarks/charged.py train --data FOLDER -o goes-on.safetensors --seconds 480     # of processor; one thread
python benchmarks/charged.py train --data FOLDER -o alone.safetensors --alone             # from the unrelaxed positions
python benchmarks/charged.py train --data FOLDER -o larger.safetensors --sizes both       # for larger cells still
python benchmarks/charged.py table --data FOLDER goes-on.safetensors alone.safetensors
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.starts import Case, errors, read_cases
from benchmarks.support import timed_training
from benchmarks.support.timed_training import Batch, Pace, mean_error
from definet_flows.defects import nodes
from definet_flows.model.data.batches import Lattice, lattice_of
from definet_flows.model.inference.checkpoint import Card, load_checkpoint, save_checkpoint
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.kernels import keep_freed_memory
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host
from definet_flows.starts.fields import FieldsPreRelaxer
from definet_flows.starts.gate import distance_to_defects
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.proposals import Proposal

NETWORK = NetworkConfig(
    hidden=32, layers=4, gaussians=24, radial_extent=7.0, cutoff=5.0, max_neighbours=80, charges=True
)
BATCH, RATE, WARMUP, CLIP, EMA, HEADS, DECAY = 4, 1e-3, 100, 1.0, 0.999, 0.02, 0.05
RECYCLED = 0.25  # share of batches that start from the network's own output
WEIGHT = {"C_mp66": 4.0, "GaN_mp804": 1.4, "PbI2_mp22893": 0.8}
"""Of a host's errors in the loss: the atoms of diamond move a fifth as far as those of PbI2."""
LEAST_GAIN = 0.2
"""Share of the fields' mean error that a network after fields has to take off to be worth its weights."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A relaxation to learn from.

    Attributes
    ----------
    moved
        Relaxed minus unrelaxed position, Å, [n_sites, 3].
    away
        Distance from the nearest defect, Å, [n_sites].
    frac
        Fractional vector from the first defect, nearest image, [n_sites, 3].
    """

    numbers: np.ndarray
    markers: np.ndarray
    charge: int
    moved: FloatArray
    away: FloatArray
    frac: FloatArray


def entry_of(host: Host, configuration: Configuration, moved: FloatArray) -> Entry:
    """Return a relaxation with its distances."""
    numbers, markers = nodes(host, configuration)
    frac = np.array(host.frac_coords)
    if configuration.edits:
        frac = frac - frac[configuration.edits[0].site]
    return Entry(
        numbers, markers, configuration.charge, moved, distance_to_defects(host, configuration), frac - np.rint(frac)
    )


def smallest(cases: Sequence[Case]) -> list[Case]:
    """Return the cases in the smallest supercell of each host."""
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case.host] = min(case.n_sites, sizes.get(case.host, case.n_sites))
    return [case for case in cases if case.n_sites == sizes[case.host]]


# ------------------------------------------------------------------ training


def cut(entry: Entry, rng: np.random.Generator) -> FloatArray:
    """Return a start: the relaxed displacements inside a box or a sphere around the defect, scaled a little."""
    drawn = rng.random()
    if drawn < 0.15:  # noqa: PLR2004 - a share
        return entry.moved.copy()
    if drawn < 0.6:  # noqa: PLR2004
        inside = (np.abs(entry.frac) < rng.uniform(0.35, 0.95) / 2).all(1)
    else:
        inside = entry.away < rng.uniform(2.0, 6.5)
    return entry.moved * inside[:, None] * (rng.normal(1, 0.05) if drawn < 0.9 else 1.0)  # noqa: PLR2004


def part_of_the_way(entry: Entry, rng: np.random.Generator) -> FloatArray:
    """Return a start for the network alone: half of them unrelaxed."""
    return entry.moved * (rng.random() if rng.random() < 0.5 else 0.0)  # noqa: PLR2004 - a share


def begun(entry: Entry, rng: np.random.Generator, *, alone: bool) -> FloatArray:
    """Return a start with noise, without its mean over the atoms, Å, [n_sites, 3]."""
    start = part_of_the_way(entry, rng) if alone else cut(entry, rng)
    start = start + rng.choice([0, 0.001, 0.005]) * rng.normal(size=start.shape)
    atoms = entry.markers != VACANCY
    start[atoms] -= start[atoms].mean(0)
    start[~atoms] = 0
    return start


@dataclass(frozen=True, eq=False)
class Group:
    """The entries of a bulk supercell, that without defects among them, and their weight in the loss."""

    lattice: Lattice
    entries: Sequence[Entry]
    weight: float


def groups_of(cases: Sequence[Case]) -> list[Group]:
    """Return the entries of each bulk supercell."""
    found: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    hosts: dict[tuple[str, int], Host] = {}
    for case in cases:
        item, cell = case.evidence, (case.host, case.n_sites)
        hosts[cell] = item.host
        found[cell].append(entry_of(item.host, item.configuration, item.displacements))
    groups = []
    for (name, n_sites), host in hosts.items():
        pristine = entry_of(host, Configuration(edits=()), np.zeros((n_sites, 3)))
        lattice = lattice_of(host, NETWORK).to(torch.device("cpu"), torch.float32).fused()
        groups.append(Group(lattice, [*found[name, n_sites], pristine], WEIGHT[name]))
    return groups


def fit(cases: Sequence[Case], seconds: float, *, alone: bool, seed: int) -> DefiNet:
    """Train for so many seconds of processor; return the averaged weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = DefiNet(NETWORK)
    groups = groups_of(cases)
    share = np.sqrt([len(group.entries) for group in groups])

    def batch_loss() -> torch.Tensor:
        group = groups[rng.choice(len(groups), p=share / share.sum())]
        chosen = [group.entries[k] for k in rng.choice(len(group.entries), BATCH, replace=False)]
        batch = batch_of(group.lattice, chosen, rng, alone=alone)
        return group.weight * mean_error(network, batch, recycled=rng.random() < RECYCLED)

    averaged, steps = timed_training.fit(network, Pace(seconds, RATE, WARMUP, DECAY, CLIP, EMA, HEADS), batch_loss)
    print(f"{steps} steps of {BATCH}, {seconds:.0f} s of processor")
    return averaged


def batch_of(lattice: Lattice, entries: Sequence[Entry], rng: np.random.Generator, *, alone: bool) -> Batch:
    """Return entries with a start each."""
    numbers, markers = (torch.as_tensor(np.stack([getattr(e, k) for e in entries])) for k in ("numbers", "markers"))
    moved = torch.as_tensor(np.stack([e.moved for e in entries]), dtype=torch.float32)
    start = torch.as_tensor(np.stack([begun(e, rng, alone=alone) for e in entries]), dtype=torch.float32)
    return Batch(lattice, numbers, markers, moved, start, torch.tensor([e.charge for e in entries]))


@dataclass(frozen=True)
class Training:
    """What is trained; stored as the recipe of the weights.

    Attributes
    ----------
    seconds
        Of processor.
    alone
        Start from the unrelaxed positions, not from fields.
    sizes
        "smallest": the smallest supercell of each host; "both": all supercells.
    seed
        Of the first weights and of what is drawn.
    """

    seconds: float
    alone: bool
    sizes: str
    seed: int


def train(folder: Path, output: Path, asked: Training) -> None:
    """Write the weights of a training."""
    torch.set_num_threads(1)
    keep_freed_memory()
    cases = list(read_cases(folder))
    learned = cases if asked.sizes == "both" else smallest(cases)
    network = fit(learned, asked.seconds, alone=asked.alone, seed=asked.seed)
    save_checkpoint(output, network, Card(name=output.stem, config=NETWORK, recipe=asdict(asked)))


# ------------------------------------------------------------------ the table


@dataclass(frozen=True, eq=False)
class Measured:
    """A case in a larger supercell: mean |component| and largest atomic error of each way, Å, [n_ways, 2]."""

    case: Case
    refused: bool
    found: FloatArray


WAYS = ("Dummy", "fields", "network", "network after fields")


def measure(cases: Sequence[Case], goes_on: NetworkPreRelaxer, alone: NetworkPreRelaxer) -> Iterator[Measured]:
    """Yield the errors in each larger supercell whose defect is recorded in the same charge in a smaller."""
    for target in cases:
        smaller = [
            c for c in cases if (c.host, c.defect) == (target.host, target.defect) and c.n_sites < target.n_sites
        ]
        if target.charge not in {case.charge for case in smaller}:
            continue
        item = target.evidence
        asked = (item.host, item.host.cartesian, [item.configuration])
        fields = FieldsPreRelaxer([case.evidence for case in smaller])
        (field,) = fields.propose(*asked)
        gate = fields.judge(item.host, item.configuration, item.host.cartesian, field)
        (after,), (only,) = goes_on.propose_from(*asked, [field.displacements]), alone.propose(*asked)
        ways: tuple[Proposal | None, ...] = (None, field, only, after)
        yield Measured(target, gate.verdict == "rejected", np.array([errors(item, way) for way in ways]))


def table(folder: Path, weights: Sequence[Path]) -> None:
    """Print the errors by defect, and whether the network after fields is worth its weights."""
    goes_on, alone = (NetworkPreRelaxer(load_checkpoint(path)) for path in weights)
    every = list(measure(list(read_cases(folder)), goes_on, alone))
    shown = Table("host", "defect", "charges", *(f"mean: {way}" for way in WAYS), *(f"largest: {way}" for way in WAYS))
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for one in every:
        groups[one.case.host, one.case.defect].append(one)
    for (host, defect), members in sorted(groups.items()):
        _row(shown, (host, defect, ", ".join(f"{one.case.charge:+d}" for one in members)), members)
    for host in sorted({host for host, _ in groups}):
        _row(shown, (host, "all", ""), [one for one in every if one.case.host == host])
    taken = [one for one in every if not one.refused]
    _row(shown, ("all", f"{len(every)}", ""), every)
    _row(shown, ("fields accepted", f"{len(taken)}", ""), taken)
    Console(width=180).print(shown)
    gain = 1 - np.mean([one.found[3, 0] for one in taken]) / np.mean([one.found[1, 0] for one in taken])
    ratio = np.median([one.found[3, 1] for one in taken]) / np.median([one.found[1, 1] for one in taken])
    earned = gain >= LEAST_GAIN and ratio <= 1
    print(f"after fields: mean error {-gain:+.0%}, median of the largest errors x {ratio:.2f}: ", end="")
    print("earned" if earned else "not earned")


def _row(shown: Table, head: Sequence[str], members: Sequence[Measured]) -> None:
    """Add mean errors, and medians of largest errors, over some cases."""
    found = np.array([one.found for one in members])
    means, largest = found[:, :, 0].mean(0), np.median(found[:, :, 1], axis=0)
    shown.add_row(*head, *(f"{x:.4f}" for x in means), *(f"{x:.3f}" for x in largest))


def main() -> None:
    """Run the sub-command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    bulk = Path(__file__).parents[2] / "shared" / "bulk"
    first = commands.add_parser("train")
    first.add_argument("--data", type=Path, default=bulk, help="folder of charged-defects.extxyz")
    first.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    first.add_argument("--seconds", type=float, default=480, help="of processor")
    first.add_argument("--alone", action="store_true", help="start from the unrelaxed positions, not from fields")
    first.add_argument("--sizes", choices=("smallest", "both"), default="smallest", help="supercells to learn from")
    first.add_argument("--seed", type=int, default=0)
    first.set_defaults(
        run=lambda given: train(given.data, given.output, Training(given.seconds, given.alone, given.sizes, given.seed))
    )
    second = commands.add_parser("table")
    second.add_argument("--data", type=Path, default=bulk, help="folder of charged-defects.extxyz")
    second.add_argument(
        "weights", type=Path, nargs=2, help="of the network that goes on from fields, and of that alone"
    )
    second.set_defaults(run=lambda given: table(given.data, given.weights))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
