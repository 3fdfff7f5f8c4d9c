"""Relaxation of a defect cell with any ASE calculator, named by its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from ase.calculators.calculator import BaseCalculator
from atomate2.ase.jobs import AseRelaxMaker
from emmet.core.types.enums import StoreTrajectoryOption

from definet_flows.errors import InputError
from definet_flows.workflows.engines.potential import FORCE_CRITERION, each_evaluation_once

if TYPE_CHECKING:
    from pathlib import Path

    from ase.calculators.calculator import Calculator
    from atomate2.ase.schemas import AseResult
    from pymatgen.core import Molecule, Structure

_RELAX_DEFAULTS = {"fmax": FORCE_CRITERION, "final_atoms_object_file": None, "use_emmet_models": True}


@dataclass
class CalculatorRelaxMaker(AseRelaxMaker):
    """
    Relax the atoms of a fixed cell with an ASE calculator of any kind.

    The engine is called after the calculator's class. Its settings hash covers the class, the parameters (files by
    their content), the version and the settings of the relaxation. The optimiser is ASE's BFGS, which evaluates forces
    once per step. Charged configurations are refused: a subclass whose calculator takes the charge of the structure
    says `knows_charge = True`.

    Parameters
    ----------
    name
        The job name.
    calculator_class
        The class, or its import path such as `ase.calculators.emt.EMT`. Workers import it.
    calculator_kwargs
        The parameters of the calculator, in its own units; JSON.
    version
        Version of the calculator's code or potential; another version is another engine.
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

    Raises
    ------
    InputError
        If the class lies in a script; where the Maker is used, if class or version is missing or cannot be imported.

    Examples
    --------
    >>> import ase
    >>> from ase.calculators.emt import EMT
    >>> engine = CalculatorRelaxMaker(calculator_class=EMT, version=ase.__version__)
    >>> engine.calculator_class
    'ase.calculators.emt.EMT'
    """

    name: str = "calculator relax"
    calculator_class: type[BaseCalculator] | str = ""
    version: str = ""
    relax_cell: bool = False
    steps: int = 500
    relax_kwargs: dict[str, Any] = field(default_factory=dict)
    optimizer_kwargs: dict[str, Any] = field(default_factory=lambda: {"optimizer": "BFGS"})
    ionic_step_data: tuple[str, ...] | None = None
    store_trajectory: StoreTrajectoryOption = StoreTrajectoryOption.PARTIAL

    def __post_init__(self) -> None:
        """Keep the class by its import path; complete `relax_kwargs`."""
        if isinstance(self.calculator_class, type):
            self.calculator_class = _import_path(self.calculator_class)
        self.relax_kwargs = {**_RELAX_DEFAULTS, **self.relax_kwargs}
        super().__post_init__()

    @property
    def engine_name(self) -> str:
        """Name of the class."""
        return self._class().__name__

    def run_ase(self, mol_or_struct: Structure | Molecule, prev_dir: str | Path | None = None) -> AseResult:
        """Relax and keep a frame of each force evaluation."""
        return each_evaluation_once(super().run_ase(mol_or_struct, prev_dir=prev_dir))

    def _get_calculator(self) -> Calculator:
        return cast("Calculator", self._class()(**self.calculator_kwargs))

    def _class(self) -> type[BaseCalculator]:
        if not self.calculator_class or not self.version:
            missing = "version" if self.calculator_class else "calculator_class"
            msg = f"{type(self).__name__}: {missing} is missing; give the calculator's class and its version"
            raise InputError(msg)
        path = str(self.calculator_class)
        module, _, name = path.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            msg = (
                f"calculator_class={path!r} cannot be imported ({error}): put it in a module that every worker imports"
            )
            raise InputError(msg) from None
        if not isinstance(found, type) or not issubclass(found, BaseCalculator):
            msg = (
                f"calculator_class={path!r} is no class of an ASE calculator: name one, such as ase.calculators.emt.EMT"
            )
            raise InputError(msg)
        return found


def _import_path(calculator: type[BaseCalculator]) -> str:
    module, name = calculator.__module__, calculator.__qualname__
    if module == "__main__" or "." in name:
        msg = f"calculator_class={name} lies in {module}, where workers cannot import it: put it in a module of its own"
        raise InputError(msg)
    return f"{module}.{name}"
