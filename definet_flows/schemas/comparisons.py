"""Documents of two compared relaxations, and of a probed end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from definet_flows.schemas.base import Document, content_hash
from definet_flows.schemas.records import Ledger

Verdict = Literal["same minimum", "better minimum", "other minimum", "unconverged", "not comparable"]


class Pair(Document):
    """The comparison of two records of one configuration and settings, from both starts."""

    kind: Literal["pair"] = "pair"
    configuration_id: str
    settings_hash: str
    engine: str
    weights: str
    host_formula: str
    name: str
    n_sites: int
    n_defects: int
    steps_unrelaxed: int
    steps_predicted: int
    electronic_unrelaxed: int | None = None
    electronic_predicted: int | None = None
    core_hours_unrelaxed: float | None = None
    core_hours_predicted: float | None = None
    start_force_unrelaxed: float | None = Field(default=None, description="eV/Å")
    start_force_predicted: float | None = Field(default=None, description="eV/Å")
    energy_difference: float | None = Field(
        default=None, description="E(predicted end) - E(unrelaxed end), eV per cell"
    )
    distance: float | None = Field(default=None, description="largest displacement between the two ends, Å")
    moment_difference: float | None = Field(default=None, description="| |M| of one end - |M| of the other |, μB")
    same_inputs: bool | None = Field(
        default=None, description="the inputs are equal apart from the positions; None if unknown"
    )
    floor: int | None = Field(
        default=None, description="fewest evaluations of the optimiser that started from the prediction"
    )
    notes: tuple[str, ...] = Field(default=(), description="what a reader must know, e.g. an optimiser changed")
    verdict: Verdict

    @staticmethod
    def identity(unrelaxed_id: str, predicted_id: str) -> str:
        """Return the id of the pair of two records."""
        return content_hash("pair", unrelaxed_id, predicted_id)


class Probe(Document):
    """The end of a relaxation, rattled and relaxed again: a minimum or a saddle."""

    kind: Literal["probe"] = "probe"
    record_id: str
    configuration_id: str
    settings_hash: str
    engine: str
    name: str
    rattle: float = Field(description="displacement of every atom, Å")
    seed: int
    ledger: Ledger | None = None
    energy_difference: float | None = Field(default=None, description="E(probe's end) - E(record's end), eV per cell")
    distance: float | None = Field(default=None, description="largest displacement from the record's end, Å")
    verdict: Literal["minimum", "saddle", "elsewhere", "unconverged", "failed"]
    error: str | None = None

    @staticmethod
    def identity(record_id: str, rattle: float, seed: int) -> str:
        """Return the id of a probe of a record."""
        return content_hash("probe", record_id, rattle, seed)
