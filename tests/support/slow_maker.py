"""Engines of tests that kill them: a potential that takes its time, and GPAW with loose settings."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ase.calculators.lj import LennardJones
from atomate2.ase.jobs import AseRelaxMaker
from emmet.core.types.enums import StoreTrajectoryOption

from definet_flows.workflows.engines.gpaw import GpawRelaxMaker


class SlowLennardJones(LennardJones):
    """Lennard-Jones, a fifth of a second a step."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Compute, later."""
        time.sleep(0.2)
        super().calculate(*args, **kwargs)


@dataclass
class SlowMaker(AseRelaxMaker):
    """A Maker of a user's own."""

    relax_cell: bool = False
    relax_kwargs: dict[str, Any] = field(
        default_factory=lambda: {"fmax": 0.05, "final_atoms_object_file": None, "use_emmet_models": True}
    )
    optimizer_kwargs: dict[str, Any] = field(default_factory=lambda: {"optimizer": "BFGS"})
    ionic_step_data: tuple[str, ...] | None = None
    store_trajectory: StoreTrajectoryOption = StoreTrajectoryOption.PARTIAL

    def _get_calculator(self) -> SlowLennardJones:
        return SlowLennardJones(sigma=1.35, epsilon=2.0, rc=4.0)


def engine(kind: str) -> AseRelaxMaker:
    """Return an engine by kind."""
    if kind == "gpaw":
        loose = {"energy": 1e-4, "density": 1e-3}
        return GpawRelaxMaker(mode="lcao", convergence=loose, relax_kwargs={"fmax": 0.1})
    return SlowMaker()
