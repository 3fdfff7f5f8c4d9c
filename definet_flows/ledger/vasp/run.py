"""Results of an execution of VASP, from any of its files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from definet_flows.ledger.outcome import is_converged

if TYPE_CHECKING:
    from pymatgen.core import Structure

OPTIMIZERS = {1: "RMM-DIIS", 2: "conjugate gradient", 3: "damped dynamics"}
"""VASP's ionic optimisers by IBRION."""


@dataclass(frozen=True)
class VaspRun:
    """Results of an execution of VASP. None where the files do not give them.

    Attributes
    ----------
    ionic_steps
        Finished force evaluations.
    electronic_steps
        Steps of the electronic loop, those of an unfinished ionic step included.
    finished
        Whether VASP ended by itself.
    electronically_converged
        Whether the last ionic step's electronic loop reached EDIFF.
    energy
        energy(sigma->0) of the last ionic step, eV.
    start_max_force, max_force
        Largest force at the first and the last ionic step, eV/Å.
    magnetization
        Final total moment, μB.
    force_criterion
        -EDIFFG, eV/Å, where forces decide.
    cores, wall_seconds
        Cost of the run.
    initial, final
        Where the first and the last finished force evaluation were made.
    closing
        Where the output says that the run ended, which may be a move farther.
    charge
        Net charge of the cell, elementary charges.
    valence
        Valence electrons of the neutral cell.
    controls
        Task of the run: NSW, IBRION, ISIF, IMAGES.
    began
        When it began, `YYYY MM DD hh:mm:ss` by its machine's clock.
    ml_steps
        Force evaluations by a machine-learned force field; they are no ionic steps.
    ends_by_ml
        Whether the last force evaluation was such.
    sound
        Whether energy and forces of the last step are numbers.
    surface
        Settings of the energy surface, without the cell: functional, cutoff, smearing, k-points, kind of POTCARs.
    """

    ionic_steps: int
    electronic_steps: int | None = None
    finished: bool | None = None
    electronically_converged: bool | None = None
    energy: float | None = None
    start_max_force: float | None = None
    max_force: float | None = None
    magnetization: float | None = None
    force_criterion: float | None = None
    optimizer: str | None = None
    cores: int | None = None
    wall_seconds: float | None = None
    initial: Structure | None = None
    final: Structure | None = None
    closing: Structure | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    charge: float | None = None
    valence: float | None = None
    surface: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, int] = field(default_factory=dict)
    began: str | None = None
    ml_steps: int = 0
    ends_by_ml: bool = False
    sound: bool = True
    notes: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the final forces, from a converged electronic loop, meet the criterion."""
        if self.force_criterion is None or self.electronically_converged is False or self.ends_by_ml or not self.sound:
            return False
        return is_converged(self.max_force, self.force_criterion)


CONTROLS = ("NSW", "IBRION", "ISIF", "IMAGES")
"""INCAR tags that set the task of a run."""


def are_numbers(*values: float | None) -> bool:
    """Return whether all values that are known are finite."""
    return all(value is None or math.isfinite(value) for value in values)


def number(word: str) -> float:
    """Return a printed number; NaN where VASP printed none, such as ****** for a number too large."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def force_criterion(ediffg: float | None) -> float | None:
    """Return the largest force that EDIFFG allows, eV/Å; None where energies decide."""
    return -float(ediffg) if ediffg is not None and ediffg < 0 else None
