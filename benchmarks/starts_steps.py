"""Ionic steps that starts save on three hosts that the shipped network never saw, pair by pair and way by way.

    python benchmarks/starts_steps.py run FOLDER [--host MgO --host GaN --host WS2] [--stage singles] [--way fields]
    python benchmarks/starts_steps.py table FOLDER

The engine is SevenNet-0 at fixed cell, every configuration has a control. FOLDER holds a record store for each host,
`MgO.sqlite`; a run that was stopped goes on from there. Single defects come first, then near pairs, then far pairs.
What `auto` saves is replayed in the table: its rule, given the pairs of the stages before, names for each
configuration a way that was relaxed.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, get_args

from ase.build import bulk, mx2
from pymatgen.io.ase import AseAtomsAdaptor
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from definet_flows import Choices, DefectFlowMaker
from definet_flows.defects import enumerate_configurations
from definet_flows.hosts import make_host
from definet_flows.schemas import AUTO, DEFINET, FIELDS, Prediction
from definet_flows.starts.auto import Measured, ranked, trials
from definet_flows.stores import open_store
from definet_flows.stores.analysis.interval import saving_interval
from definet_flows.workflows.campaign.local import run_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ase import Atoms
    from pymatgen.core import Structure

ENGINE = "sevennet"
POTENTIAL = "potential:sevennet-l3i5"  # potential:sevennet is the engine itself: no start
Stage = Literal["singles", "near pairs", "far pairs"]
WAYS = (DEFINET, FIELDS, POTENTIAL)


# ------------------------------------------------------------------ what is relaxed


@dataclass(frozen=True)
class Case:
    """A host near the minimum of SevenNet-0, its defects, and the distances of pairs, Å.

    The lattice parameters are those of SevenNet-0 with its cell relaxed to 0.005 eV/Å, rounded to 0.001 Å.
    """

    unit_cell: Callable[[], Atoms]
    supercell: tuple[int, int, int]
    defects: tuple[str, ...]
    near: tuple[float, float]
    far: tuple[float, float]
    max_on: dict[str, int]
    max_per_kind: dict[str, int]

    def choices(self, stage: Stage) -> Choices:
        """Return the configurations of a stage."""
        if stage == "singles":
            return Choices(defects=self.defects, max_defects=1)
        shortest, longest = self.near if stage == "near pairs" else self.far
        return Choices(
            defects=self.defects,
            min_defects=2,
            max_defects=2,
            max_on=self.max_on,
            max_per_kind=self.max_per_kind,
            min_distance=shortest,
            max_distance=longest,
        )


CASES = {
    "MgO": Case(
        lambda: bulk("MgO", "rocksalt", a=4.255, cubic=True),
        (2, 2, 2),
        ("v_Mg", "v_O", "Ca_Mg"),
        near=(0.0, 3.2),
        far=(5.0, 6.1),
        max_on={},
        max_per_kind={},
    ),
    "GaN": Case(
        lambda: bulk("GaN", "wurtzite", a=3.218, c=5.240, u=0.377),
        (3, 3, 2),
        ("v_Ga", "v_N", "In_Ga"),
        near=(0.0, 3.3),
        far=(4.9, 5.6),
        max_on={},
        max_per_kind={"v_Ga": 1, "v_N": 1, "In_Ga": 1},
    ),
    "WS2": Case(
        lambda: mx2("WS2", a=3.188, thickness=3.146, vacuum=9),
        (4, 4, 1),
        ("v_W", "v_S", "Mo_W", "Se_S"),
        near=(0.0, 3.3),
        far=(5.0, 5.6),
        max_on={"W": 1},
        max_per_kind={},
    ),
}


def host_of(name: str) -> Structure:
    """Return the unit cell of a host."""
    atoms = CASES[name].unit_cell()
    atoms.pbc = True
    return AseAtomsAdaptor.get_structure(atoms)


def ids_of(name: str, stage: Stage) -> frozenset[str]:
    """Return the configuration_ids of a stage."""
    host = make_host(host_of(name), CASES[name].supercell)
    return frozenset(one.id_in(host.hash) for one in enumerate_configurations(host, CASES[name].choices(stage)))


def run(folder: Path, name: str, stage: Stage, ways: Sequence[str]) -> None:
    """Relax a stage of a host; what is recorded is not relaxed again."""
    case = CASES[name]
    maker = DefectFlowMaker(
        supercell=case.supercell,
        defects=case.choices(stage),
        engine=ENGINE,
        control_fraction=1.0,
        prerelaxer=tuple(ways),
        store=str(store_of(folder, name)),
    )
    began = time.perf_counter()
    found = run_here(maker.make(host_of(name)), folder / "jobs" / f"{name}-{time.time_ns()}", _tell)
    message = found["message"] if found else "the flow did not end"
    print(f"{name}, {stage}: {message}; {time.perf_counter() - began:.0f} s", flush=True)


def _tell(event: str, what: str) -> None:
    if event == "Failed" or what.startswith(("record", "predict")):
        print(f"{time.strftime('%H:%M:%S')} {event} {what}", flush=True)


def store_of(folder: Path, name: str) -> Path:
    """Return the record store of a host."""
    return folder.absolute() / f"{name}.sqlite"


# ------------------------------------------------------------------ what it saves


@dataclass
class Result:
    """The starts of a way in a stage, as far as they are relaxed.

    Attributes
    ----------
    costs
        Ionic steps from the unrelaxed start and with this way, by configuration_id. A configuration whose proposal is
        refused, or whose pair is not in the same minimum, costs what it does unrelaxed.
    same
        Configurations whose pair is in the same minimum.
    relaxed
        Configurations that were relaxed from both starts; others of `costs` are refused.
    forces
        Largest force at the unrelaxed and at this start, eV/Å, of each pair.
    seconds
        Of all proposals.
    """

    costs: dict[str, tuple[int, int]] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    relaxed: list[str] = field(default_factory=list)
    forces: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float | None = 0.0

    @property
    def cells(self) -> Iterator[str]:
        """The figures of a row of the table."""
        pairs = [self.costs[one] for one in self.same]
        unrelaxed, predicted = (sum(steps) for steps in zip(*pairs, strict=True)) if pairs else (0, 0)
        ends = saving_interval(pairs, self.same).ends if pairs else None
        yield from map(str, (len(self.costs), len(self.relaxed), len(self.same), unrelaxed, predicted))
        yield f"{1 - predicted / unrelaxed:.0%}" if pairs else "-"
        yield f"{ends[0]:.0%} to {ends[1]:.0%}" if ends else "-"
        yield f"{1 - sum(cost for _, cost in self.costs.values()) / sum(cost for cost, _ in self.costs.values()):.0%}"
        yield " to ".join(f"{median(column):.2f}" for column in zip(*self.forces.values(), strict=True)) or "-"
        yield "-" if self.seconds is None else f"{self.seconds:.1f}"

    def measured(self, n_defects: int) -> list[Measured]:
        """Return what the pairs show to `auto`."""
        costs = (self.costs[one] for one in self.relaxed)
        return [Measured(1 - predicted / unrelaxed, n_defects) for unrelaxed, predicted in costs]

    def take(self, other: Result, one: str) -> None:
        """Take a configuration from another way."""
        self.costs[one] = other.costs[one]
        self.relaxed += [one] * (one in other.relaxed)
        self.same += [one] * (one in other.same)
        self.forces |= {one: other.forces[one]} if one in other.forces else {}


def replayed(found: dict[str, Result], measured: dict[str, list[Measured]], n_defects: int) -> Result:
    """Return what `auto` saves in a stage, of the configurations whose relaxation from its choice is known.

    Parameters
    ----------
    found
        What each way saved in the stage.
    measured
        What the stages before have shown of each way.
    """
    result, ids = Result(seconds=None), sorted({one for way in found.values() for one in way.costs})
    candidates = [DEFINET, FIELDS, *(way for way in measured if measured[way] and way not in (DEFINET, FIELDS))]
    for one in ids:
        order = [ranking.key for ranking in ranked(candidates, measured, n_defects, trial=one in trials(ids))]
        known = [found.get(way, Result()) for way in order]
        fit = next((way for way in known if one in way.relaxed or one not in way.costs), known[0])
        if one in fit.costs:
            result.take(fit, one)
    return result


def results(folder: Path, name: str, stage: Stage) -> dict[str, Result]:
    """Return what each way saved in a stage of a host."""
    ids = ids_of(name, stage)
    with open_store(str(store_of(folder, name)), read_only=True) as records:
        rows = {
            (row.configuration_id, row.start == "predicted" and row.weights): row
            for row in records.record_rows()
            if row.status == "done" and row.configuration_id in ids
        }
        pairs = {(pair.configuration_id, pair.weights): pair for pair in records.pair_rows()}
        proposals = [one for one in records.find(Prediction) if (one.configuration_id, False) in rows]
    found: dict[str, Result] = defaultdict(Result)
    for proposal in proposals:
        one, key = proposal.configuration_id, proposal.weights
        refused = proposal.gate.verdict == "rejected"
        pair, result, steps = pairs.get((one, key)), found[proposal.prerelaxer], rows[one, False].steps
        if pair is None and not refused:
            continue  # not relaxed yet
        result.seconds = (result.seconds or 0.0) + proposal.seconds
        result.costs[one] = (steps, steps)
        if pair is None or refused:
            continue
        result.relaxed.append(one)
        result.forces[one] = rows[one, False].start_max_force or 0.0, rows[one, key].start_max_force or 0.0
        if pair.verdict == "same minimum":
            result.same.append(one)
            result.costs[one] = (pair.steps_unrelaxed, pair.steps_predicted)
    return {way: found[way] for way in WAYS if way in found}


def show(folder: Path, names: Sequence[str]) -> None:
    """Print the table, as text that Markdown takes."""
    table = Table(
        *("host", "stage", "way", "asked", "relaxed", "same minimum", "steps unrelaxed", "from the start", "saving"),
        *("95 %", "of all asked", "force at the start", "seconds"),
        box=MARKDOWN,
    )
    for name in names:
        if not store_of(folder, name).exists():
            continue
        measured: dict[str, list[Measured]] = defaultdict(list)
        for stage in get_args(Stage):
            found, n_defects = results(folder, name, stage), 1 if stage == "singles" else 2
            auto = replayed(found, measured, n_defects)
            for way, result in (found | {AUTO: auto}).items():
                if result.costs:
                    table.add_row(name, stage, way, *result.cells)
            for way, result in found.items():
                measured[way] += result.measured(n_defects)
    Console(width=200).print(table)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", choices=tuple(CASES), action="append")
    parser.add_argument("--stage", choices=get_args(Stage), action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    names = given.host or list(CASES)
    if given.command == "table":
        show(given.folder, names)
        return
    for stage in given.stage or get_args(Stage):
        for name in names:
            run(given.folder, name, stage, given.way or WAYS)


if __name__ == "__main__":
    main()
