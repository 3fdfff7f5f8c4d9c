"""Campaigns under GPAW: hosts, configurations, and the run (docs/notes/dft.md)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from definet_flows.defects import Choices, enumerate_configurations
from definet_flows.hosts import make_host, to_structure
from definet_flows.schemas import joined_name

if TYPE_CHECKING:
    from definet_flows.schemas import Configuration, Host

DATA = Path(__file__).parents[1] / "benchmarks" / "data"
"""Folder of the files of records."""

WAYS = ("definet", "potential:sevennet", "fields")
"""The pre-relaxers whose starts are relaxed beside the unrelaxed one; fields have none for the first single defects."""


@dataclass(frozen=True)
class Case:
    """A configuration in words: its defects and, of a pair, whether they are as near or as far as they can be."""

    defects: tuple[str, ...]
    place: Literal["", "near", "far"] = ""

    @property
    def name(self) -> str:
        """Name such as `v_N`, or `v_N+C_B near`."""
        return f"{joined_name(self.defects)} {self.place}".strip()

    @property
    def choices(self) -> Choices:
        """The choices that allow these defects, all of them, at any distance."""
        counts = {name: self.defects.count(name) for name in self.defects}
        return Choices(defects=tuple(counts), max_per_kind=counts, min_defects=len(self.defects))


@dataclass(frozen=True)
class Campaign:
    """A supercell and what is relaxed in it.

    Attributes
    ----------
    name
        As the command and the file of records call it.
    host, supercell, vacuum
        The bulk supercell; vacuum in Å.
    cases
        The configurations, in the order in which they are relaxed.
    """

    name: str
    host: str
    supercell: tuple[int, int, int]
    vacuum: float
    cases: tuple[Case, ...]

    @property
    def data(self) -> Path:
        """The file of records."""
        return DATA / f"{self.name}-gpaw.jsonl.gz"

    @cached_property
    def cell(self) -> Host:
        """The bulk supercell."""
        return make_host(self.host, self.supercell, vacuum=self.vacuum)

    @cache  # noqa: B019 - campaigns live as long as the process
    def configuration(self, case: Case) -> tuple[Configuration, float | None]:
        """Return the configuration of a case, and the distance of its defects, Å; None for a single defect."""
        found = list(enumerate_configurations(self.cell, case.choices))
        if not case.place:
            (only,) = found
            return only, None
        cell = to_structure(self.cell)
        apart = [cell.get_distance(*(edit.site for edit in one.edits)) for one in found]
        which = min if case.place == "near" else max
        chosen = which(range(len(found)), key=apart.__getitem__)
        return found[chosen], apart[chosen]

    @property
    def names(self) -> dict[str, tuple[str, float | None]]:
        """Name and distance of the defects, Å, of each case by configuration_id."""
        found = {case.name: self.configuration(case) for case in self.cases}
        return {one.id_in(self.cell.hash): (name, apart) for name, (one, apart) in found.items()}


HBN = Campaign(
    "hbn",
    "BN",
    (4, 4, 1),
    15.0,
    (
        Case(("C_B",)),
        Case(("C_N",)),
        Case(("v_N",)),
        Case(("C_B", "C_N"), "near"),
        Case(("v_N", "C_B"), "near"),
        Case(("C_B", "C_N"), "far"),
        Case(("v_N", "C_B"), "far"),
        Case(("v_N", "v_N"), "near"),
        Case(("v_B",)),  # with spin, and five times as many iterations a step as the others
        Case(("v_B", "C_N"), "near"),
        Case(("v_B", "v_N"), "near"),
        Case(("v_B", "C_N"), "far"),
    ),
)

PHOSPHORENE = Campaign(
    "phosphorene",
    "P",
    (3, 2, 1),
    15.0,
    (
        Case(("N_P",)),
        Case(("v_P",)),
        Case(("N_P", "N_P"), "near"),
        Case(("v_P", "N_P"), "near"),
        Case(("v_P", "v_P"), "near"),
        Case(("N_P", "N_P"), "far"),
    ),
)

CAMPAIGNS = {one.name: one for one in (HBN, PHOSPHORENE)}
"""Every campaign, by name."""


def run(campaign: Campaign, store: str, folder: Path, engine: str) -> None:
    """Relax each case from every start; what the store has is not computed again."""
    from definet_flows.workflows import DefectFlowMaker  # noqa: PLC0415 - loads torch, which `commit` does not need
    from definet_flows.workflows.campaign.local import run_here  # noqa: PLC0415

    for case in campaign.cases:
        maker = DefectFlowMaker(
            supercell=campaign.supercell,
            vacuum=campaign.vacuum,
            defects=case.choices,
            engine=engine,
            control_fraction=1.0,
            prerelaxer=WAYS,
            store=store,
        )
        planned = replace(maker.campaign(campaign.host), configurations=(campaign.configuration(case)[0],))
        _say(case.name)
        totals = run_here(maker.assemble(planned), folder, lambda event, name: _say(f"  {event} {name}"))
        _say(f"  {totals['message'] if totals else 'did not finish: run this command again'}")


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)  # noqa: T201 - a command shows its progress
