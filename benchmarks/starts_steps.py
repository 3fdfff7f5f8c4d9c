"""Ionic steps that starts save on three hosts that the shipped network never saw, pair by pair and way by way.

    python benchmarks/starts_steps.py run FOLDER [--host MgO --host GaN --host WS2]
    python benchmarks/starts_steps.py table FOLDER

The engine is SevenNet-0 at fixed cell, every configuration has a control. FOLDER holds a record store for each host,
`MgO.sqlite`; a run that was stopped goes on from there. For single defects, then for near pairs, then for far pairs
`auto` chooses first and then the ways are relaxed: `auto` knows the records and savings of the stages before and
no others. Its choices name relaxations that a way needs too: nothing is relaxed twice.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ase.build import bulk, mx2
from pymatgen.io.ase import AseAtomsAdaptor
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from definet_flows import Choices, DefectFlowMaker
from definet_flows.defects import enumerate_configurations
from definet_flows.hosts import make_host
from definet_flows.schemas import AUTO, DEFINET, FIELDS, Choice, Prediction
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
_SAME = ("same minimum", "better minimum")


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


def run(folder: Path, name: str, stage: Stage) -> None:
    """Relax a stage of a host, `auto` first; what is recorded is not relaxed again."""
    case = CASES[name]
    for prerelaxer in (AUTO, WAYS):
        maker = DefectFlowMaker(
            supercell=case.supercell,
            defects=case.choices(stage),
            engine=ENGINE,
            control_fraction=1.0,
            prerelaxer=prerelaxer,
            store=str(store_of(folder, name)),
        )
        began = time.perf_counter()
        jobs = folder / "jobs" / f"{name}-{time.time_ns()}"
        found = run_here(maker.make(host_of(name)), jobs, _tell)
        message = found["message"] if found else "the flow did not end"
        print(f"{name}, {stage}, {prerelaxer}: {message}; {time.perf_counter() - began:.0f} s", flush=True)


def _tell(event: str, what: str) -> None:
    if event == "Failed" or what.startswith(("record", "predict")):
        print(f"{time.strftime('%H:%M:%S')} {event} {what}", flush=True)


def store_of(folder: Path, name: str) -> Path:
    """Return the record store of a host."""
    return folder.absolute() / f"{name}.sqlite"


# ------------------------------------------------------------------ what it saves


@dataclass(frozen=True)
class Result:
    """The starts of a way for the configurations of a stage that have a finished control.

    Attributes
    ----------
    ids, unrelaxed
        configuration_id and ionic steps of each control.
    starts
        Configurations that were relaxed from a start of this way.
    same
        Ionic steps from the unrelaxed and from this start, by configuration_id, of those in the same minimum.
    seconds
        What the proposals of these configurations took, their displacements or not.
    """

    ids: tuple[str, ...]
    unrelaxed: dict[str, int]
    starts: int
    same: dict[str, tuple[int, int]]
    seconds: float

    @property
    def overall(self) -> float:
        """Saving over all controls; a configuration without a pair in the same minimum saves nothing."""
        saved = sum(unrelaxed - predicted for unrelaxed, predicted in self.same.values())
        return saved / sum(self.unrelaxed.values())

    @property
    def cells(self) -> Iterator[str]:
        """The figures of a row of the table."""
        sums = [sum(column) for column in zip(*self.same.values(), strict=True)] or [0, 0]
        ends = saving_interval(list(self.same.values()), list(self.same)).ends if self.same else None
        yield from map(str, (len(self.ids), self.starts, len(self.same), *sums))
        yield f"{1 - sums[1] / sums[0]:.0%}" if sums[0] else "-"
        yield f"{ends[0]:.0%} to {ends[1]:.0%}" if ends else "-"
        yield f"{self.overall:.0%}"
        yield f"{self.seconds:.1f}"


def results(folder: Path, name: str, stage: Stage) -> dict[str, Result]:
    """Return what each way, and `auto`, saved in a stage of a host."""
    ids = ids_of(name, stage)
    with open_store(str(store_of(folder, name)), read_only=True) as records:
        rows, pairs, predictions = records.record_rows(), records.pair_rows(), list(records.find(Prediction))
        chosen = {choice.configuration_id: choice.key for choice in records.find(Choice)}
    controls = {
        row.configuration_id: row.ionic_steps
        for row in rows
        if row.configuration_id in ids and row.start == "unrelaxed" and row.status == "done"
    }
    names = {prediction.weights: prediction.prerelaxer for prediction in predictions}
    found = {}
    for way in (*WAYS, AUTO):
        pairs_of = [
            pair
            for pair in pairs
            if pair.configuration_id in controls
            and (chosen.get(pair.configuration_id) == pair.weights if way == AUTO else names[pair.weights] == way)
        ]
        seconds = sum(
            prediction.seconds
            for prediction in predictions
            if prediction.configuration_id in controls
            and (
                prediction.prerelaxer == way
                or (way == AUTO and prediction.weights == chosen.get(prediction.configuration_id))
            )
        )
        same = {p.configuration_id: (p.steps_unrelaxed, p.steps_predicted) for p in pairs_of if p.verdict in _SAME}
        found[way] = Result(tuple(controls), controls, len(pairs_of), same, seconds)
    return found


def show(folder: Path, names: Sequence[str]) -> None:
    """Print the table, as text that Markdown takes."""
    table = Table(
        *("host", "stage", "way", "controls", "relaxed from it", "same minimum", "steps unrelaxed", "from the start"),
        *("saving", "95 %", "over all controls", "seconds to propose"),
        box=MARKDOWN,
    )
    for name in names:
        if not store_of(folder, name).exists():
            continue
        for stage in get_args(Stage):
            for way, result in results(folder, name, stage).items():
                if result.ids:
                    table.add_row(name, stage, way, *result.cells)
    Console(width=200).print(table)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", choices=tuple(CASES), action="append")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    names = given.host or list(CASES)
    if given.command == "table":
        show(given.folder, names)
        return
    for stage in get_args(Stage):
        for name in names:
            run(given.folder, name, stage)


if __name__ == "__main__":
    main()
