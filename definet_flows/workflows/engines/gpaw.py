"""Relaxation of a defect cell with GPAW: real DFT where there is no VASP.

PBE in plane waves of 500 eV, the Γ point, forces below 0.01 eV/Å: the settings of Yang et al., npj Comput. Mater.
(2025), doi:10.1038/s41524-025-01728-w, in the code of doi:10.1063/5.0182685. GPAW is imported when a job runs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from atomate2.ase.jobs import AseRelaxMaker
from emmet.core.types.enums import StoreTrajectoryOption
from pymatgen.core import Structure

from definet_flows.errors import InputError
from definet_flows.workflows.engines.potential import FORCE_CRITERION, each_evaluation_once
from definet_flows.workflows.engines.vasp.inputs import net_charge, starting_moments

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from atomate2.ase.schemas import AseResult
    from pymatgen.core import Molecule

TEXT_FILE = "gpaw.txt"
"""GPAW's own output, in the job's folder."""

_RELAX_DEFAULTS = {"fmax": FORCE_CRITERION, "final_atoms_object_file": None, "use_emmet_models": True}
_MISSING = (
    "the engine 'gpaw' needs GPAW and its setups: apt-get install g++ libxc-dev libopenblas-dev libfftw3-dev, then "
    "GPAW_CONFIG=$PWD/examples/gpaw/siteconfig.py pip install -c constraints.txt -e '.[gpaw]' "
    "in the clone of definet_flows (docs/gpaw.md)"
)


@dataclass
class GpawRelaxMaker(AseRelaxMaker):
    """
    Relax the atoms of a fixed cell with GPAW.

    The optimiser is ASE's BFGS, which evaluates forces once per step: the stored trajectory is the list of force
    evaluations, start included. Symmetry is off, so that both starts of a pair take the same path through the code.

    Parameters
    ----------
    name
        The job name.
    mode
        `pw`: plane waves; `lcao`: atomic orbitals (double zeta, polarised), faster and less exact, for large cells.
    cutoff
        Kinetic energy of the plane waves, eV (`pw`).
    grid_spacing
        Widest spacing of the real-space grid, Å. GPAW's own for 500 eV, 0.185 Å, folds the density's short waves onto
        long ones: the energy of a layer of h-BN then depends on where it lies between grid points, with forces of up
        to 0.05 eV/Å. At 0.16 Å they are 0.0001 eV/Å.
    xc
        Exchange and correlation; GPAW's setups are made for it.
    smearing
        Width of the Fermi-Dirac occupations, eV.
    convergence
        GPAW's criteria: `energy` in eV per valence electron, `density` in electrons per valence electron.
    relax_cell
        Kept False: defects are relaxed at fixed cell.
    steps
        Largest number of steps after the start.
    relax_kwargs
        `fmax` in eV/Å (0.01), and what else `atomate2.ase.utils.AseRelaxer.relax` takes.
    optimizer_kwargs
        What `atomate2.ase.utils.AseRelaxer` takes, such as `optimizer`.
    ionic_step_data
        None: the trajectory below holds every frame already.
    store_trajectory
        The trajectory (positions, energies, forces) goes to the additional store `data`.

    Examples
    --------
    >>> from definet_flows import defect_flow
    >>> flow = defect_flow("BN", supercell=(4, 4, 1), defects=("C_B",), engine=GpawRelaxMaker())  # doctest: +SKIP
    """

    knows_charge: ClassVar[bool] = True
    name: str = "gpaw relax"
    mode: Literal["pw", "lcao"] = "pw"
    cutoff: float = 500.0
    grid_spacing: float = 0.16
    xc: str = "PBE"
    smearing: float = 0.05
    convergence: dict[str, float] = field(default_factory=lambda: {"energy": 1e-6, "density": 1e-5})
    relax_cell: bool = False
    steps: int = 300
    relax_kwargs: dict[str, Any] = field(default_factory=dict)
    optimizer_kwargs: dict[str, Any] = field(default_factory=lambda: {"optimizer": "BFGS"})
    ionic_step_data: tuple[str, ...] | None = None
    store_trajectory: StoreTrajectoryOption = StoreTrajectoryOption.PARTIAL

    def __post_init__(self) -> None:
        """Complete `relax_kwargs`; refuse a mode that is none."""
        if self.mode not in {"pw", "lcao"}:
            msg = f"mode {self.mode!r} of GpawRelaxMaker: 'pw' (plane waves) or 'lcao' (atomic orbitals)"
            raise InputError(msg)
        self.relax_kwargs = {**_RELAX_DEFAULTS, **self.relax_kwargs}
        super().__post_init__()

    def identity(self) -> dict[str, str]:
        """Return what decides energies and forces beside the settings: GPAW's version and the hash of its setups."""
        require_gpaw()
        return {"gpaw": version("gpaw"), "setups": setups_hash(self.xc)}

    def run_ase(self, mol_or_struct: Structure | Molecule, prev_dir: str | Path | None = None) -> AseResult:
        """Relax with a calculator made for this structure's charge and moments; one frame per force evaluation."""
        assert isinstance(mol_or_struct, Structure)  # noqa: S101 - a defect cell is periodic
        structure = with_moments(mol_or_struct)
        self._calculator = self._calculator_of(structure)
        return each_evaluation_once(super().run_ase(structure, prev_dir=prev_dir))

    def _get_calculator(self) -> Calculator:
        """Return a calculator of no structure in particular; `run_ase` makes the one that computes."""
        return self._calculator_of(None)

    def _calculator_of(self, structure: Structure | None) -> Calculator:
        require_gpaw()
        gpaw = import_module("gpaw")
        spin = structure is not None and any(structure.site_properties["magmom"])
        kind = {"mode": gpaw.PW(self.cutoff)} if self.mode == "pw" else {"mode": "lcao", "basis": "dzp"}
        calculator = gpaw.GPAW(
            **kind,
            h=self.grid_spacing,
            xc=self.xc,
            kpts=(1, 1, 1),
            occupations=gpaw.FermiDirac(self.smearing),
            symmetry="off",
            spinpol=spin,
            charge=0.0 if structure is None else net_charge(structure),
            convergence=self.convergence,
            txt=None if structure is None else TEXT_FILE,
            **self.calculator_kwargs,
        )
        # atomate2 asks for the stress at each step where a calculator has it: as costly as the forces, and unused
        calculator.implemented_properties = [one for one in calculator.implemented_properties if one != "stress"]
        return cast("Calculator", calculator)


def with_moments(structure: Structure) -> Structure:
    """Return the structure with its starting moments as the site property `magmom`, μB.

    An odd number of electrons starts with 1 μB shared by the defect atoms and their first shells, an even number with
    none: the rule of the VASP engine. Closed shells of the cores leave the parity to the atomic numbers and the charge.
    """
    odd = round(sum(structure.atomic_numbers) - net_charge(structure)) % 2 == 1
    moments = starting_moments(structure, "parity", odd=odd)
    return structure.copy(site_properties={**structure.site_properties, "magmom": moments})


def require_gpaw() -> None:
    """Refuse a machine without GPAW.

    Raises
    ------
    InputError
        Names everything that an installation needs.
    """
    if find_spec("gpaw") is None:
        raise InputError(_MISSING)


@cache
def setups_hash(xc: str) -> str:
    """Return a hash of all setups of a functional that GPAW finds on this machine.

    Raises
    ------
    InputError
        If there is none.
    """
    folders = [Path(folder) for folder in import_module("gpaw").setup_paths]
    files = {path.name: path for folder in reversed(folders) for path in sorted(folder.glob(f"*.{xc}.gz"))}
    if not files:
        msg = f"GPAW finds no setups for {xc}: pip install gpaw-data, or set GPAW_SETUP_PATH"
        raise InputError(msg)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + files[name].read_bytes())
    return digest.hexdigest()
