"""What one execution of VASP did, whichever of its files says so."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monty.io import zopen

from definet_flows.ledger.outcome import is_converged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymatgen.core import Structure

OPTIMIZERS = {1: "RMM-DIIS", 2: "conjugate gradient", 3: "damped dynamics"}
"""VASP's ionic optimisers by IBRION."""


@dataclass(frozen=True)
class VaspRun:
    """What one execution of VASP did. None where the files do not say.

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
        What the run took.
    charge
        Net charge of the cell, elementary charges.
    surface
        What decides the energy surface, whatever the cell: functional, cutoff, smearing, k-points, kind of POTCARs.
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
    tags: dict[str, Any] = field(default_factory=dict)
    charge: float | None = None
    surface: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the final forces, from a converged electronic loop, meet the criterion."""
        if self.force_criterion is None or self.electronically_converged is False:
            return False
        return is_converged(self.max_force, self.force_criterion)


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a file, compressed or not; a compressed one may be cut off too."""
    with zopen(path, mode="rt", encoding="latin-1") as file:
        try:
            yield from (str(line) for line in file)
        except (EOFError, OSError, zlib.error):
            return


def force_criterion(ediffg: float | None) -> float | None:
    """Return the largest force that EDIFFG allows, eV/Å; None where energies decide."""
    return -float(ediffg) if ediffg is not None and ediffg < 0 else None
