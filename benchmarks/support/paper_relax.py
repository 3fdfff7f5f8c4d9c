"""Relaxations by a universal potential for claims of the paper: from a start, or from both of a configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from definet_flows.defects import nodes
from definet_flows.schemas import VACANCY, Configuration
from definet_flows.starts.universal import load_universal
from definet_flows.stores.analysis.pairs import SAME_DISTANCE, SAME_ENERGY

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray, Host

STRICT = 0.01
"""Largest force at the end of a relaxation whose steps are counted, eV/Å, as in campaigns."""


@dataclass(frozen=True)
class Relaxed:
    """The end of a relaxation at fixed cell.

    Attributes
    ----------
    positions
        Å, [n_atoms, 3].
    steps
        Evaluations of the forces, that of the start included.
    energy
        eV.
    processor_s
        Processor seconds.
    """

    positions: FloatArray
    steps: int
    converged: bool
    energy: float
    processor_s: float


def relax(
    potential: str, numbers: np.ndarray, positions: FloatArray, host: Host, *, criterion: float, most_steps: int
) -> Relaxed:
    """Relax atoms in the cell of a host by BFGS to the criterion, eV/Å."""
    atoms = Atoms(numbers, positions=positions, cell=host.lattice, pbc=True)
    atoms.calc = load_universal(potential)
    optimizer = BFGS(atoms, logfile=None)
    began = time.process_time()
    ended = optimizer.run(fmax=criterion, steps=most_steps)
    seconds = time.process_time() - began
    return Relaxed(atoms.positions, optimizer.nsteps + 1, bool(ended), float(atoms.get_potential_energy()), seconds)


def host_at_rest(potential: str, host: Host) -> FloatArray:
    """Return the sites of the host as the potential relaxes them, Å, [n_sites, 3]."""
    end = relax(potential, np.array(host.numbers), host.cartesian, host, criterion=STRICT, most_steps=500)
    if not end.converged:
        raise RuntimeError(f"{potential} does not relax the host {host.formula} in {end.steps} steps")
    return end.positions


@dataclass(frozen=True)
class BothStarts:
    """Relaxations of a configuration from the unrelaxed and from the predicted start.

    Attributes
    ----------
    base
        Sites of the host at rest, of the atoms that are there, Å, [n_atoms, 3].
    moved
        Predicted displacements of these atoms, Å, [n_atoms, 3].
    """

    base: FloatArray
    moved: FloatArray
    unrelaxed: Relaxed
    predicted: Relaxed

    @property
    def apart(self) -> float:
        """Largest distance between the two ends, less the mean shift, Å."""
        between = self.predicted.positions - self.unrelaxed.positions
        return float(np.linalg.norm(between - between.mean(0), axis=1).max())

    @property
    def same_minimum(self) -> bool:
        """Whether both ends are the same minimum, as campaigns judge it."""
        both = self.unrelaxed.converged and self.predicted.converged
        lower = abs(self.predicted.energy - self.unrelaxed.energy)
        return both and self.apart <= SAME_DISTANCE and lower <= SAME_ENERGY

    def errors(self, near: np.ndarray) -> dict[str, float]:
        """Return mean |component| errors of the prediction and of no motion against the end from unrelaxed, Å.

        Parameters
        ----------
        near
            Which atoms count, [n_atoms].
        """
        truth = _still(self.unrelaxed.positions - self.base)
        network, nothing = _still(self.moved) - truth, -truth
        return {"network": float(np.abs(network[near]).mean()), "dummy": float(np.abs(nothing[near]).mean())}

    @property
    def costs(self) -> dict[str, Any]:
        """Steps and processor seconds of both relaxations, and whether they end in the same minimum."""
        ends = {"unrelaxed": self.unrelaxed, "predicted": self.predicted}
        return {
            "steps": {start: end.steps for start, end in ends.items()},
            "processor_s": {start: round(end.processor_s, 2) for start, end in ends.items()},
            "energy": {start: round(end.energy, 5) for start, end in ends.items()},
            "converged": self.unrelaxed.converged and self.predicted.converged,
            "apart": round(self.apart, 4),
            "same_minimum": self.same_minimum,
        }


def from_both_starts(
    potential: str, host: Host, base: FloatArray, configuration: Configuration, moved: FloatArray
) -> BothStarts:
    """Relax a configuration to `STRICT` from its unrelaxed positions and from displacements.

    Parameters
    ----------
    base
        Where the host's sites are, Å, [n_sites, 3].
    moved
        Displacements, Å, [n_sites, 3].
    """
    numbers, markers = nodes(host, configuration)
    atoms = markers != VACANCY
    first, start = base[atoms], moved[atoms]
    ends = [
        relax(potential, numbers[atoms], positions, host, criterion=STRICT, most_steps=500)
        for positions in (first, first + start)
    ]
    return BothStarts(first, start, *ends)


def _still(moved: FloatArray) -> FloatArray:
    """Return displacements less their mean over the atoms."""
    return moved - moved.mean(0)
