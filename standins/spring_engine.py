"""A relaxation engine that costs milliseconds, for measurements of everything around it.

Atoms on springs: each is bound to the point of a coarse grid that lies nearest to where it started. Its relaxations,
documents and trajectories are those of any ASE engine. Each relaxation that begins and ends is a line in the file that
`SPRING_LOG` names (`engine_log.py`), written by the engine itself, whatever databases say.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.harmonic import SpringCalculator
from atomate2.ase.jobs import AseRelaxMaker
from emmet.core.types.enums import StoreTrajectoryOption
from jobflow import CURRENT_JOB

from definet_flows.workflows.engines.potential import require_finite
from definet_flows.workflows.recording.begun import RECORD_METADATA
from standins.engine_log import log

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from atomate2.ase.schemas import AseResult
    from pymatgen.core import Molecule, Structure

_GRID = 0.25  # Å
_STIFFNESS = 50.0  # eV/Å², less than the 70 that BFGS assumes: a few steps


def record_at_work() -> dict[str, Any]:
    """Return the record, as it was begun, that the job at work relaxes for; empty for a host."""
    metadata = CURRENT_JOB.job.metadata if CURRENT_JOB.job is not None else {}
    return dict(json.loads(metadata[RECORD_METADATA]["document"])) if RECORD_METADATA in metadata else {}


@dataclass
class SpringRelaxMaker(AseRelaxMaker):
    """
    Relax atoms on springs.

    Parameters
    ----------
    name
        The job name.
    seconds
        Time to spend on each relaxation, as an engine that computes would.
    nan_in
        configuration_ids whose forces are no numbers; for tests of what becomes of them.
    guarded
        Notice that, as the package's own Makers do; otherwise it ends the process: atomate2 hands the positions to
        spglib, which cannot take them.
    """

    name: str = "spring relax"
    seconds: float = 0.0
    nan_in: tuple[str, ...] = ()
    guarded: bool = True
    steps: int = 60
    relax_cell: bool = False
    relax_kwargs: dict[str, Any] = field(default_factory=lambda: {"fmax": 0.02, "final_atoms_object_file": None})
    optimizer_kwargs: dict[str, Any] = field(default_factory=lambda: {"optimizer": "LBFGS"})
    ionic_step_data: tuple[str, ...] | None = None
    store_trajectory: StoreTrajectoryOption = StoreTrajectoryOption.PARTIAL

    def run_ase(self, mol_or_struct: Structure | Molecule, prev_dir: str | Path | None = None) -> AseResult:
        """Relax, and log when it began and ended."""
        began, processor, record = time.perf_counter(), time.process_time(), record_at_work().get("id", "")
        log("begin", record=record)
        Path("WORK").write_bytes(os.urandom(1 << 18))  # what an engine leaves in its folder
        time.sleep(self.seconds)
        result = super().run_ase(mol_or_struct, prev_dir=prev_dir)
        if self.guarded:
            require_finite(result)
        clock = time.process_time()
        spent = {"seconds": time.perf_counter() - began, "cpu": clock - processor, "clock": clock}
        log("end", record=record, **spent)
        return result

    def _get_calculator(self) -> Calculator:
        named = record_at_work().get("configuration_id") in self.nan_in
        return GridSprings(float("nan") if named else _STIFFNESS)


class GridSprings(SpringCalculator):
    """Springs from each atom to the grid point that is nearest to where it is first seen."""

    def __init__(self, stiffness: float) -> None:
        super().__init__(np.zeros((0, 3)), stiffness)  # type: ignore[no-untyped-call]

    def compute_energy_and_forces(self, atoms: Atoms) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the energy, eV, and the forces, eV/Å, [n_atoms, 3]."""
        if not len(self.ideal_positions):
            self.ideal_positions = np.rint(atoms.positions / _GRID) * _GRID
        energy, forces = super().compute_energy_and_forces(atoms)  # type: ignore[no-untyped-call]
        return float(energy), forces
