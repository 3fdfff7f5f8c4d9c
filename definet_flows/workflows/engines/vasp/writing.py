"""The inputs of VASP in folders, for whoever runs it without this package or wants to look at them."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import TYPE_CHECKING

from atomate2.vasp.jobs.base import BaseVaspMaker

from definet_flows.atomic import new_folder
from definet_flows.errors import InputError
from definet_flows.workflows.engines.vasp.inputs import valence_electrons

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from atomate2.vasp.sets.base import VaspInputGenerator
    from pymatgen.core import Structure

    from definet_flows.workflows.engines.base import Engine


def require_inputs(engine: Engine, folder: Path) -> None:
    """Refuse an engine without input files, or a folder that is there, before any work.

    Raises
    ------
    InputError
        If it is so.
    """
    if not isinstance(engine.maker, BaseVaspMaker):
        msg = f"--write-inputs: the engine {engine.name} has no input files; take --engine vasp"
        raise InputError(msg)
    if os.path.lexists(folder):
        msg = f"{folder} is there already: name a new folder"
        raise InputError(msg)


def write_inputs(folder: Path, engine: Engine, structures: Iterable[tuple[str, Structure]]) -> int:
    """Write POSCAR, INCAR, KPOINTS and POTCAR of each structure to a folder of its name; return how many there are.

    Without POTCARs on this machine a `POTCAR.spec` names them. All folders appear, or none.

    Parameters
    ----------
    folder
        A new folder.
    engine
        Of VASP.
    structures
        Name, and the structure as the engine gets it.

    Raises
    ------
    InputError
        As `require_inputs`; a charged cell without POTCARs: its NELECT needs them.
    """
    require_inputs(engine, folder)
    generator: VaspInputGenerator = engine.maker.input_set_generator  # type: ignore[attr-defined]  # a VASP Maker
    spec = bool(getattr(engine.maker, "write_input_set_kwargs", {}).get("potcar_spec"))
    count = 0
    with new_folder(folder) as part:
        for name, structure in structures:
            made = deepcopy(generator)
            made.structure = structure
            inputs = made.get_input_set(structure, potcar_spec=spec or not _has_potcars(made))
            inputs.write_input(part / name)
            count += 1
    return count


def _has_potcars(generator: VaspInputGenerator) -> bool:
    """Say whether this machine has every POTCAR of a structure."""
    try:
        for symbol in generator.potcar_symbols:
            valence_electrons(symbol, generator.user_potcar_functional)
    except InputError:
        return False
    return True
