"""Relaxation with a machine-learned potential, where there is no VASP: SevenNet-0 and CHGNet.

Both potentials carry their weights inside their wheels and work offline. They are loaded once per process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from atomate2.forcefields import MLFF
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.forcefields.utils import ase_calculator
from emmet.core.trajectory import AtomTrajectory
from emmet.core.types.enums import StoreTrajectoryOption

from definet_flows.errors import InputError
from definet_flows.ledger import repeats_last_frame
from definet_flows.starts.universal import UNIVERSAL, load_universal, quietly, require_package, weights_of
from definet_flows.workflows.engines.identity import contents

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from atomate2.ase.schemas import AseResult
    from pymatgen.core import Molecule, Structure

FORCE_CRITERION = 0.01
"""Largest force on any atom at the end of a relaxation, eV/Å (as in the paper's DFT)."""

_RELAX_DEFAULTS = {"fmax": FORCE_CRITERION, "final_atoms_object_file": None, "use_emmet_models": True}
_NAMES = {"SevenNet": "sevennet", "CHGNet": "chgnet"}
"""atomate2's names of potentials that have a name here."""


@dataclass
class PotentialRelaxMaker(ForceFieldRelaxMaker):
    """
    Relax the atoms of a fixed cell with a universal potential.

    The optimiser is ASE's BFGS: on 4 x 4 MoS2 it needs 27 force evaluations for `v_S` and 15 for
    `v_Mo` where FIRE needs 45 and 39, and unlike LBFGS it never steps uphill where the curvature is
    negative. It evaluates forces exactly once per step, so the stored trajectory *is* the list of
    force evaluations, start included; optimisers with a line search hide evaluations.

    Parameters
    ----------
    name
        The job name.
    force_field_name
        `SevenNet` (SevenNet-0, 11 July 2024) or `CHGNet` (0.3.0).
    relax_cell
        Kept False: defects are relaxed at fixed cell.
    steps
        Largest number of steps after the start.
    relax_kwargs
        `fmax` in eV/Å (0.01), and other arguments of `atomate2.ase.utils.AseRelaxer.relax`.
    optimizer_kwargs
        Arguments of `atomate2.ase.utils.AseRelaxer`, such as `optimizer`.
    ionic_step_data
        None: the trajectory below holds every frame already.
    store_trajectory
        The trajectory (positions, energies, forces) goes to the additional store `data`.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> job = PotentialRelaxMaker().make(structure)  # doctest: +SKIP
    >>> run_locally(job)  # doctest: +SKIP
    """

    name: str = "potential relax"
    force_field_name: str = "SevenNet"
    relax_cell: bool = False
    steps: int = 500
    relax_kwargs: dict[str, Any] = field(default_factory=dict)
    optimizer_kwargs: dict[str, Any] = field(default_factory=lambda: {"optimizer": "BFGS"})
    ionic_step_data: tuple[str, ...] | None = None
    store_trajectory: StoreTrajectoryOption = StoreTrajectoryOption.PARTIAL

    def __post_init__(self) -> None:
        """Complete `relax_kwargs`; keep the deprecated field empty, which atomate2 fills and then warns of."""
        self.relax_kwargs = {**_RELAX_DEFAULTS, **self.relax_kwargs}
        super().__post_init__()
        self.task_document_kwargs: dict[str, Any] = {}

    def run_ase(self, mol_or_struct: Structure | Molecule, prev_dir: str | Path | None = None) -> AseResult:
        """Relax and keep a frame of each force evaluation."""
        return each_evaluation_once(super().run_ase(mol_or_struct, prev_dir=prev_dir))

    def _get_calculator(self) -> Calculator:
        """Return the potential, loaded once per process."""
        arguments = json.dumps(self.calculator_kwargs, sort_keys=True, default=str)
        calculator = load_potential(self.mlff.value, arguments, contents(self.calculator_kwargs))
        calculator.reset()  # type: ignore[no-untyped-call]
        return calculator


def each_evaluation_once(result: AseResult) -> AseResult:
    """Return a relaxation with a frame of each force evaluation; for Makers of ASE relaxations, after `run_ase`.

    atomate2's observer writes the last frame a second time after the optimiser has stopped. Raises as `require_finite`.
    """
    require_finite(result)
    trajectory = result.trajectory
    if isinstance(trajectory, AtomTrajectory) and repeats_last_frame(trajectory.energy, trajectory.forces):
        result.trajectory = cast("AtomTrajectory", trajectory[:-1])
    return result


def require_finite(result: AseResult) -> None:
    """Refuse a relaxation whose forces were no numbers; for Makers of ASE relaxations, at the end of `run_ase`.

    atomate2 would hand such positions to spglib, which ends the process without an error.

    Raises
    ------
    InputError
        If a position at the end is not finite.
    """
    structure = result.final_mol_or_struct
    assert structure is not None  # noqa: S101 - a relaxed structure has an end
    if not np.isfinite(structure.cart_coords).all():
        msg = "the potential's forces are no numbers: it does not know such a structure, use another engine"
        raise InputError(msg)


@cache
def load_potential(name: str, arguments: str, version: str = "") -> Calculator:
    """Return the ASE calculator of a potential; the same object on every call.

    Parameters
    ----------
    name
        Name of the potential in atomate2.
    arguments
        The calculator's keyword arguments as JSON.
    version
        Hash of the files that they name: a file whose content changed is loaded again.

    Raises
    ------
    InputError
        If the package that holds the weights is missing.
    """
    del version
    require_potential(name)
    given, ours = json.loads(arguments), _NAMES.get(name)
    if ours is not None and given == UNIVERSAL[ours].arguments:
        return load_universal(ours)
    if ours is not None:  # a broken package must fail here: atomate2 would take another model instead
        import_module(UNIVERSAL[ours].module)
    return quietly(lambda: cast("Calculator", ase_calculator(MLFF(name), **given)))


def require_potential(name: str) -> None:
    """Refuse a potential whose package is missing.

    Without the package `chgnet` atomate2 would silently load another model from a hub.

    Raises
    ------
    InputError
        If the package is missing; names the extra that brings it.
    """
    if name in _NAMES:
        require_package(_NAMES[name])


def own_name(maker: PotentialRelaxMaker) -> str | None:
    """Return the name that a Maker's potential has here; None if it has none."""
    return _NAMES.get(maker.mlff.value)


def weights_file(name: str) -> Path | None:
    """Return the file of the weights that a potential's wheel holds; None for any other potential."""
    return weights_of(_NAMES[name]) if name in _NAMES else None
