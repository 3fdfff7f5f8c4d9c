"""Relaxation of a defect cell with VASP: an input set and a Maker.

Settings as in Yang et al., npj Comput. Mater. (2025), doi:10.1038/s41524-025-01728-w; each tag that the
paper leaves open says why. Nothing depends on the size of a cell, so a whole campaign shares a single set.
"""

from __future__ import annotations

import logging
import time
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomate2.vasp.jobs.base import BaseVaspMaker, vasp_job
from atomate2.vasp.sets.base import _BASE_VASP_SET, VaspInputGenerator
from jobflow import Response
from pymatgen.io.vasp import Kpoints

from definet_flows.errors import InputError
from definet_flows.hosts.layer import layer_gap
from definet_flows.ledger import RATTLED
from definet_flows.workflows.engines.vasp.inputs import (
    CONTINUED,
    SpinPreset,
    group_species,
    is_asymmetric_slab,
    net_charge,
    odd_electrons,
    rattled,
    site_order,
    starting_moments,
    valence_electrons,
)
from definet_flows.workflows.engines.vasp.run import (
    RECORD_KEY,
    count_steps,
    failed_document,
    fresh_handlers,
    require_own_folder,
)
from definet_flows.workflows.engines.vasp.spin import try_moments
from definet_flows.workflows.recovery.relaunch import take_over

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.io.vasp.inputs import VaspInput

logger = logging.getLogger(f"jobflow.{__name__}")

PAPER_TAGS: dict[str, Any] = {
    "GGA": "PE",  # PBE; atomate2's own base set is PBEsol
    "ENCUT": 500,  # eV
    "ISIF": 2,  # atoms only
    "EDIFF": 1e-6,  # eV
    "EDIFFG": -0.01,  # eV/Å, largest force on an atom
    "ISPIN": 2,  # collinear spin
}
"""INCAR tags that the paper states (beside Γ only and the vacuum)."""

OUR_TAGS: dict[str, Any] = {
    "IBRION": 2,  # conjugate gradient: the relaxations of a pair differ in their start only
    "POTIM": 0.5,
    "NSW": 500,  # never the reason to stop
    "PREC": "Accurate",
    "ISMEAR": 0,  # Gaussian: gaps and defect levels alike
    "SIGMA": 0.05,  # eV
    "ISYM": 0,  # an ideal start must not be held on its symmetry saddle while a predicted start is free
    "LREAL": "Auto",  # the same value for all sizes; reciprocal projectors cost twice the time at 200 atoms
    "ALGO": "Fast",
    "NELM": 200,
    "LASPH": True,  # non-spherical terms inside the PAW spheres
    "LMAXMIX": 4,  # d electrons
    "LORBIT": 10,  # moments per site, without the large PROCAR of 11
    "LWAVE": False,  # no large files
    "LCHARG": False,
}
"""INCAR tags that the paper leaves open."""

RATTLES = (0.01, 0.05)
"""Smallest and largest rattle, Å: above numerical noise, below a change of basin."""


def _config() -> dict[str, Any]:
    """Return the input set as data: it is the whole of the settings hash."""
    return {
        "INCAR": {**PAPER_TAGS, **OUR_TAGS},
        "KPOINTS": {},
        "POTCAR": deepcopy(_BASE_VASP_SET["POTCAR"]),
        "POTCAR_FUNCTIONAL": "PBE_54",
    }


@dataclass
class VaspDefectSetGenerator(VaspInputGenerator):
    """
    Input set of the relaxation of a defect cell at fixed cell, at Γ.

    The charge is the structure's own (`Structure.set_charge`). Sites are grouped by species
    (`definet_flows.workflows.engines.vasp.inputs.site_order` maps back).

    Parameters
    ----------
    spin
        Rule for the starting moments: `parity` (1 μB on the defect and its first shell where the number of
        electrons is odd, else none) or `paper` (magnetic ions high-spin and ferromagnetic).
    rattle
        Displacement of every atom at the start, Å; 0 (none) or 0.01 to 0.05.
    rattle_seed
        Seed of its directions; the same displacements from both starts.
    total_moment
        Sum of the starting moments under `parity`, μB; None: 1 or 0, as the number of electrons is odd or even.

    Raises
    ------
    InputError
        If `spin` or `rattle` is none of these, or a dipole correction is asked for in a charged cell.
    """

    config_dict: dict[str, Any] = field(default_factory=_config)
    inherit_incar: bool | list[str] = False
    auto_ismear: bool = False
    spin: SpinPreset = "parity"
    rattle: float = 0.0
    rattle_seed: int = 0
    total_moment: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.spin not in ("parity", "paper"):
            msg = f"unknown spin rule {self.spin!r}: 'parity' or 'paper'"
            raise InputError(msg)
        low, high = RATTLES
        if self.rattle and not low <= self.rattle <= high:
            msg = f"a rattle of {self.rattle:g} Å: 0 for none, or {low} to {high} Å"
            raise InputError(msg)

    def get_input_set(
        self,
        structure: Structure | None = None,
        prev_dir: str | Path | None = None,
        potcar_spec: bool = False,  # noqa: FBT001, FBT002  # pymatgen's signature
    ) -> VaspInput:
        """Return the input set of a structure, its species grouped."""
        if structure is not None:
            structure = group_species(structure)
            if self.rattle and prev_dir is None and not structure.properties.get(CONTINUED):
                structure = rattled(structure, self.rattle, self.rattle_seed)
        return super().get_input_set(structure, prev_dir=prev_dir, potcar_spec=potcar_spec)

    @property
    def n_electrons(self) -> float:
        """Valence electrons of the POTCARs in use, less the charge; the only part of the inputs that reads POTCARs."""
        structure = self._cell()
        zval = {
            symbol: valence_electrons(potcar, self.user_potcar_functional) for symbol, potcar in self._potcars().items()
        }
        return sum(zval[site.specie.symbol] for site in structure) - net_charge(structure)

    @property
    def incar_updates(self) -> dict[str, Any]:
        """The tags that depend on the structure: MAGMOM, NELECT, LDIPOL, IDIPOL; none without a structure."""
        if self.structure is None:
            return {}
        structure = self._cell()
        charge = net_charge(structure)
        if charge and self.user_incar_settings.get("LDIPOL"):
            msg = f"LDIPOL in a cell of charge {charge:+g}: drop it, the correction holds for neutral slabs only"
            raise InputError(msg)
        odd = odd_electrons([site.specie.symbol for site in structure], charge, self._potcars())
        tags: dict[str, Any] = {"MAGMOM": starting_moments(structure, self.spin, self.total_moment, odd=odd)}
        if charge:
            tags["NELECT"] = self.n_electrons
        elif is_asymmetric_slab(structure):
            tags |= {"LDIPOL": True, "IDIPOL": layer_gap(structure)[0] + 1}
        return tags

    @property
    def kpoints_updates(self) -> Kpoints:  # type: ignore[override]  # pymatgen takes either, annotates a dict
        """Γ alone, which lets custodian take `vasp_gam`."""
        return Kpoints.gamma_automatic((1, 1, 1))

    def _potcars(self) -> dict[str, str]:
        """Return the name of the POTCAR of each element."""
        return dict(zip(self.poscar.site_symbols, self.potcar_symbols, strict=True))

    def _cell(self) -> Structure:
        if self.structure is None:
            msg = "the input set has no structure yet"
            raise RuntimeError(msg)
        return self.structure


@dataclass
class VaspDefectRelaxMaker(BaseVaspMaker):
    """
    Relax the atoms of a defect cell with VASP.

    The job's output is atomate2's TaskDoc with a further field, `relaxation`: the ledger of *all* executions of VASP
    in the job's folder. A run that fails is a result too: the document then holds the error, the steps so far and the
    last positions, and the jobs after it run.

    Parameters
    ----------
    name
        The job name.
    input_set_generator
        The input set; the same for both relaxations of a pair.
    write_input_set_kwargs
        INCAR updates of a worker's ~/.atomate2.yaml are left out: they would escape the settings hash.
    stop_children_kwargs
        An unconverged relaxation is a result to record, so the jobs after it run.
    spin_trials
        Where the number of electrons is even: total starting moments to try beside 0, μB, such as (2.0,). Each
        costs a force evaluation, which counts; the relaxation starts with the moment of lowest energy.
    store_trajectory
        Keep the trajectories of all executions, in the additional store `data`: `relaxation.trajectory` of the
        document is a list with an entry for each attempt of the ledger (None where VASP wrote no step).

    Examples
    --------
    >>> from jobflow import run_locally
    >>> job = VaspDefectRelaxMaker().make(structure)  # doctest: +SKIP
    >>> run_locally(job, create_folders=True)  # doctest: +SKIP
    """

    name: str = "vasp relax"
    input_set_generator: VaspInputGenerator = field(default_factory=VaspDefectSetGenerator)
    write_input_set_kwargs: dict[str, Any] = field(default_factory=lambda: {"apply_incar_updates": False})
    stop_children_kwargs: dict[str, Any] = field(default_factory=lambda: {"handle_unsuccessful": False})
    spin_trials: tuple[float, ...] = ()
    store_trajectory: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        if self.spin_trials and not isinstance(self.input_set_generator, VaspDefectSetGenerator):
            msg = f"spin_trials={self.spin_trials}: only a VaspDefectSetGenerator knows the rule that they replace"
            raise InputError(msg)

    @vasp_job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> Response[Any]:
        """Relax a structure.

        Parameters
        ----------
        structure
            The defect cell, marked by `Engine.prepare`.
        prev_dir
            Folder of an earlier calculation whose outputs are copied.

        Raises
        ------
        InputError
            If VASP ran in the folder before.
        """
        folder = Path.cwd()
        require_own_folder(folder)
        runner = self._runner()
        began = time.monotonic()
        structure, notes = _begun(runner, structure, folder)
        try:
            if self.spin_trials:
                try_moments(runner, structure, self.spin_trials)
            response: Response[Any] = BaseVaspMaker.make.original(runner, structure, prev_dir)  # type: ignore[attr-defined]
            wall = time.monotonic() - began
            count_steps(response.output, folder, wall, notes, trajectories=self.store_trajectory)
        except Exception as error:  # custodian, a full disk, an output cut off: a result to record
            logger.exception("%s failed in %s", self.name, folder)
            wall = time.monotonic() - began
            return Response(output=failed_document(folder, error, wall, notes, trajectories=self.store_trajectory))
        for calculation in response.output.calcs_reversed:
            calculation.output.ionic_steps = None
        return response

    def _runner(self) -> VaspDefectRelaxMaker:
        """Return a copy for a run: atomate2 writes into its Maker's fields, and handlers remember what they saw."""
        runner = deepcopy(self)
        runner.run_vasp_kwargs.setdefault("handlers", fresh_handlers())
        return runner


def _begun(runner: VaspDefectRelaxMaker, structure: Structure, folder: Path) -> tuple[Structure, tuple[str, ...]]:
    """Return the structure to relax here, and notes: an earlier launch of the same job may have moved atoms."""
    notes: tuple[str, ...] = ()
    claim = runner.write_additional_data.pop(RECORD_KEY, None)
    if claim is not None:
        structure, notes = take_over(claim, structure, folder, site_order(structure))
    generator = runner.input_set_generator
    if not isinstance(generator, VaspDefectSetGenerator) or not generator.rattle:
        return structure, notes
    if structure.properties.get(CONTINUED):
        return structure, notes
    return structure, (*notes, f"{RATTLED}: every atom by {generator.rattle:g} Å, seed {generator.rattle_seed}")
