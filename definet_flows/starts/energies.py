"""What a universal potential says of starts: its energy and its forces there, so that starts can be compared.

A potential ends in its own minimum, so its energy favours its own start. How often its choice is right is measured:
docs/notes/starts-potential.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from definet_flows.defects import nodes, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host

if TYPE_CHECKING:
    from definet_flows.starts.potential import PotentialPreRelaxer


@dataclass(frozen=True)
class StartEnergy:
    """A start as a potential sees it.

    Attributes
    ----------
    energy
        Energy of the cell, eV.
    max_force
        Largest force on an atom, eV/Å.
    """

    energy: float
    max_force: float


def energies_of(
    potential: PotentialPreRelaxer,
    host: Host,
    base: FloatArray,
    configuration: Configuration,
    starts: Sequence[FloatArray | None],
) -> list[StartEnergy]:
    """Return a potential's energy and largest force at each start of a configuration; nothing is relaxed.

    Parameters
    ----------
    potential
        Whose calculator is asked. One that knows no charge is asked about the neutral cell.
    host
        The bulk supercell as given.
    base
        Its sites as relaxed by the engine, Å, [n_sites, 3].
    configuration
        What is edited.
    starts
        Displacements of proposals, Å, [n_rows, 3]; None: unrelaxed. The rows of inserted atoms may be missing.

    Returns
    -------
    list of StartEnergy
        In the order of the starts.

    Raises
    ------
    InputError
        If a start has positions that are no finite numbers, or the potential's energy or forces are none.
    """
    numbers, markers = nodes(host, configuration)
    atoms = markers != VACANCY
    table = unrelaxed_positions(host, configuration)
    table[: host.n_sites] = base
    calculator = potential.calculator_factory()
    found = []
    for start in starts:
        positions = table.copy()
        if start is not None:
            positions[: len(start)] += start
        if not np.isfinite(positions[atoms]).all():
            raise InputError("a start has positions that are no finite numbers: leave its proposal out")
        structure = Atoms(numbers[atoms], positions[atoms], cell=host.lattice, pbc=True)
        structure.info["charge"] = configuration.charge
        structure.calc = calculator
        calculator.reset()  # type: ignore[no-untyped-call]
        energy = float(structure.get_potential_energy())  # type: ignore[no-untyped-call]
        force = float(np.linalg.norm(structure.get_forces(), axis=1).max())  # type: ignore[no-untyped-call]
        if not np.isfinite([energy, force]).all():
            formula = structure.get_chemical_formula()  # type: ignore[no-untyped-call]
            raise InputError(f"energy or forces of {potential.name} on {formula} are no numbers: it does not know it")
        found.append(StartEnergy(energy, force))
    return found
