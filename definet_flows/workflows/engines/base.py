"""Relaxation engines by name: any atomate2 Maker whose job relaxes the atoms of a fixed cell."""

from __future__ import annotations

import shlex
import shutil
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import atomate2
import numpy as np
import pymatgen.core
from atomate2.ase.jobs import AseRelaxMaker
from atomate2.vasp.jobs.base import BaseVaspMaker
from jobflow import Maker

from definet_flows.errors import InputError
from definet_flows.ledger import ASE_FORCE_CRITERION, ASE_OPTIMIZER, LINE_SEARCHES
from definet_flows.workflows.engines.calculator import CalculatorRelaxMaker
from definet_flows.workflows.engines.gpaw import GpawRelaxMaker, require_gpaw
from definet_flows.workflows.engines.identity import settings_hash
from definet_flows.workflows.engines.potential import PotentialRelaxMaker, require_potential, weights_file
from definet_flows.workflows.engines.relaunched import relaunched
from definet_flows.workflows.engines.vasp.dry_run import dry_run_maker, is_dry_run
from definet_flows.workflows.engines.vasp.inputs import mark_defects, rattle_vectors, site_order
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator
from definet_flows.workflows.engines.vasp.run import RECORD_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobflow import Job
    from pymatgen.core import Structure

    from definet_flows.schemas import FloatArray


@dataclass(frozen=True)
class Engine:
    """A relaxation engine, the same for both relaxations of a pair.

    Attributes
    ----------
    name
        `vasp`, `sevennet`, `chgnet`, `gpaw`, `vasp-dry-run`; the class name of an ASE calculator, or of a Maker of the
        user's own.
    maker
        Its `make(structure)` returns the job that relaxes the atoms at fixed cell.
    settings_hash
        Hash of everything the relaxations of a pair must share: all the Maker's settings but its
        display name, and the sha256 of a potential's weights and of every file they name.
    force_criterion
        Largest force at the end, eV/Å.
    """

    name: str
    maker: Maker
    settings_hash: str
    force_criterion: float

    def prepare(self, start: Structure, unrelaxed: Structure, defects: FloatArray) -> Structure:
        """Return `start` with the marks that the engine takes from the unrelaxed structure, equal for both starts.

        Parameters
        ----------
        start
            Where the relaxation starts.
        unrelaxed
            The unrelaxed defect cell, rows as in `start`.
        defects
            Fractional coordinates of the defect sites, vacant ones included, [n_defects, 3].
        """
        marked = isinstance(self.maker, VaspDefectRelaxMaker | GpawRelaxMaker)
        return mark_defects(start, unrelaxed, defects) if marked else start

    @property
    def knows_charge(self) -> bool:
        """Whether the code takes the charge of a structure: VASP, GPAW, and Makers that say `knows_charge = True`.

        The potential behind a dry run of VASP takes none.
        """
        generator = getattr(self.maker, "input_set_generator", None)
        of_vasp = isinstance(generator, VaspDefectSetGenerator) or getattr(generator, "use_structure_charge", False)
        return bool(getattr(self.maker, "knows_charge", of_vasp and not is_dry_run(self.maker)))

    def refuse_charges(self, charges: Iterable[int]) -> None:
        """Refuse charged configurations where the code would compute neutral cells.

        Parameters
        ----------
        charges
            Net charges, elementary charges.

        Raises
        ------
        InputError
            If any is not zero and the engine knows no charges.
        """
        if any(charges) and not self.knows_charge:
            msg = f"the engine {self.name} knows no charges, its energies would be of neutral cells: use vasp or gpaw"
            raise InputError(msg)

    def relaxation(self, structure: Structure, record_id: str | None = None, store: str | None = None) -> Job:
        """Return the job that relaxes a structure.

        A job leaves the id of its record, and the name of the store, in its folder (`RECORD_FILE`), so that a
        run killed with all its parents can be found. The Maker is a copy: atomate2 writes into the fields of the
        Maker it runs.
        """
        maker = deepcopy(self.maker)
        if record_id is not None and isinstance(maker, BaseVaspMaker):
            maker.write_additional_data[RECORD_KEY] = {"record": record_id, "store": store}
        if record_id is not None and isinstance(maker, AseRelaxMaker):
            return relaunched(maker, structure, {"record": record_id, "store": store}, self.force_criterion)
        return cast("Job", maker.make(structure))

    def site_order(self, start: Structure) -> tuple[int, ...]:
        """Return the engine's permutation: row k of its output is row `site_order(start)[k]` of `start`."""
        return site_order(start) if isinstance(self.maker, VaspDefectRelaxMaker) else tuple(range(len(start)))

    def rattle(self, n_atoms: int) -> FloatArray | None:
        """Return the rattle of each atom of a start, Å, in the engine's order, [n_atoms, 3]; None without a rattle."""
        if not isinstance(self.maker, VaspDefectRelaxMaker):
            return None
        generator = self.maker.input_set_generator
        if not isinstance(generator, VaspDefectSetGenerator) or not generator.rattle:
            return None
        return rattle_vectors(n_atoms, generator.rattle, generator.rattle_seed)


def _sevennet() -> Maker:
    return PotentialRelaxMaker(name="sevennet relax")


def _chgnet() -> Maker:
    require_potential("CHGNet")
    return PotentialRelaxMaker(name="chgnet relax", force_field_name="CHGNet")


def _gpaw() -> Maker:
    require_gpaw()
    return GpawRelaxMaker()


ENGINES: dict[str, Callable[[], Maker]] = {
    "vasp": VaspDefectRelaxMaker,
    "sevennet": _sevennet,
    "chgnet": _chgnet,
    "gpaw": _gpaw,
    "vasp-dry-run": dry_run_maker,
}
"""The engines that have a name."""


def resolve_engine(engine: str | Maker) -> Engine:
    """Return the engine of a name or of a Maker.

    Parameters
    ----------
    engine
        `vasp`, `sevennet`, `chgnet`, `gpaw`, or a Maker of ASE, force-field or VASP jobs with `make(structure)`.

    Raises
    ------
    InputError
        If the name is unknown, a package is missing, the Maker would not relax atoms at fixed cell with force
        evaluations that can be counted, or it names a file whose content is unknown.
    """
    if isinstance(engine, str):
        if engine not in ENGINES:
            msg = f"unknown engine {engine!r}: take {', '.join(ENGINES)}, or a Maker"
            raise InputError(msg)
        name, maker = engine, ENGINES[engine]()
    elif isinstance(engine, Maker) and callable(getattr(engine, "make", None)):
        name, maker = _name_of(engine), engine
    else:
        names = ", ".join(ENGINES)
        msg = f"an engine is a Maker or {names}, not {engine!r}; CalculatorRelaxMaker makes one of an ASE calculator"
        raise InputError(msg)
    maker = _plain(maker)
    criterion = _force_criterion(maker)
    weights = weights_file(maker.mlff.value) if hasattr(maker, "mlff") else None
    code = maker.identity() if isinstance(maker, GpawRelaxMaker) else None
    return Engine(name=name, maker=maker, settings_hash=settings_hash(maker, weights, code), force_criterion=criterion)


def _name_of(maker: Maker) -> str:
    """Return the name of a Maker: of VASP that of the engine, whatever its settings; else that of its class.

    A Maker of any ASE calculator goes by the class of that.
    """
    if type(maker) is VaspDefectRelaxMaker:
        return "vasp-dry-run" if is_dry_run(maker) else "vasp"
    return maker.engine_name if isinstance(maker, CalculatorRelaxMaker) else type(maker).__name__


def _plain(maker: Maker) -> Maker:
    """Return the Maker with Python's own numbers in its fields: numpy's have no JSON, and no settings hash."""
    made = copy(maker)
    if isinstance(maker, BaseVaspMaker):
        made.input_set_generator = copy(maker.input_set_generator)  # type: ignore[attr-defined]  # a VASP Maker
    for owner in (made, getattr(made, "input_set_generator", None)):
        for name, value in list(vars(owner).items()) if owner is not None else ():
            if isinstance(value, dict | list | tuple | np.generic | np.ndarray):
                setattr(owner, name, _numbers(value))
    return made


def _numbers(value: Any) -> Any:  # noqa: ANN401 - any setting
    """Return a setting with numpy's scalars and arrays as Python's numbers and lists, at any depth."""
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_numbers(part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def require_executables(engine: Engine) -> None:
    """Refuse an engine whose program this machine does not have; for runs on this machine.

    Raises
    ------
    InputError
        If the command that atomate2's settings name for VASP is not on PATH, or no POTCARs are set up.
    """
    if not isinstance(engine.maker, BaseVaspMaker):
        return
    command = atomate2.SETTINGS.VASP_CMD
    words = shlex.split(command)
    missing = [word for word in (words[0], words[-1]) if shutil.which(word) is None]
    if missing:
        msg = (
            f"VASP cannot run here: {missing[0]} (of ATOMATE2_VASP_CMD={command!r}) is not on PATH; set it up or choose"
        )
        raise InputError(f"{msg} --engine sevennet")
    if not is_dry_run(engine.maker) and not pymatgen.core.SETTINGS.get("PMG_VASP_PSP_DIR"):
        msg = "VASP cannot run here: no POTCARs, set PMG_VASP_PSP_DIR in ~/.pmgrc.yaml (see `pmg config -p`)"
        raise InputError(msg)


def _force_criterion(maker: Maker) -> float:
    """Check that a Maker relaxes atoms at fixed cell by forces; return its criterion, eV/Å."""
    if isinstance(maker, AseRelaxMaker):
        return _ase_criterion(maker)
    if isinstance(maker, BaseVaspMaker):
        return _vasp_criterion(maker)
    kind = type(maker).__name__
    msg = f"no ledger for the Maker {kind}: use an atomate2 AseRelaxMaker, ForceFieldRelaxMaker or VASP Maker"
    raise InputError(msg)


def _ase_criterion(maker: AseRelaxMaker) -> float:
    kind = type(maker).__name__
    if maker.relax_cell or maker.relax_shape:
        msg = f"{kind} would change the cell: set relax_cell=False and relax_shape=False"
        raise InputError(msg)
    optimizer = str(maker.optimizer_kwargs.get("optimizer", ASE_OPTIMIZER))
    if optimizer in LINE_SEARCHES:
        msg = f"{kind} uses {optimizer}, whose force evaluations cannot be counted: use BFGS, LBFGS or FIRE"
        raise InputError(msg)
    return float(maker.relax_kwargs.get("fmax", ASE_FORCE_CRITERION))


def _vasp_criterion(maker: BaseVaspMaker) -> float:
    generator = maker.input_set_generator
    incar = {**generator.config_dict.get("INCAR", {}), **generator.incar_updates, **generator.user_incar_settings}
    if incar.get("ISIF") not in (0, 1, 2):
        msg = f"{type(maker).__name__} has ISIF {incar.get('ISIF')}, which changes the cell: set ISIF 2"
        raise InputError(msg)
    if (incar.get("EDIFFG") or 0) >= 0:
        msg = f"{type(maker).__name__} has EDIFFG {incar.get('EDIFFG')}: set the force criterion, EDIFFG -0.01"
        raise InputError(msg)
    return -float(incar["EDIFFG"])
