"""Several starting moments, a force evaluation each, before a relaxation."""

from __future__ import annotations

from contextlib import chdir
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from atomate2.vasp.jobs.base import BaseVaspMaker
from custodian.custodian import CustodianError

from definet_flows.errors import InputError
from definet_flows.ledger import read_relaxation
from definet_flows.ledger.vasp.relaxation import TRIALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

_STATIC = {"NSW": 0, "IBRION": -1}


class MomentInputs(Protocol):
    """An input set whose total starting moment can be chosen."""

    total_moment: float | None
    n_electrons: float
    user_incar_settings: dict[str, Any]

    def get_input_set(self, structure: Structure) -> object:
        """Prepare the inputs of a structure."""


def try_moments(maker: BaseVaspMaker, structure: Structure, moments: Sequence[float]) -> None:
    """Give the input set the total starting moment of lowest energy at the start: 0 or a value of `moments`, μB.

    Nothing is tried where the number of electrons is odd. Each trial runs in a folder of its own inside the
    relaxation's, where `read_relaxation` finds and counts it.

    Raises
    ------
    InputError
        If every trial failed.
    """
    generator = deepcopy(_generator(maker))
    generator.get_input_set(structure)
    if round(generator.n_electrons) % 2:
        return
    energies = {total: _energy(maker, structure, total) for total in dict.fromkeys((0.0, *moments))}
    known = {total: energy for total, energy in energies.items() if energy is not None}
    if not known:
        msg = f"no start with a total moment of {', '.join(f'{moment:g}' for moment in energies)} μB gave an energy"
        raise InputError(msg)
    _generator(maker).total_moment = min(known, key=lambda total: known[total])


def _generator(maker: BaseVaspMaker) -> MomentInputs:
    return cast("MomentInputs", maker.input_set_generator)  # the Maker with `spin_trials` has looked


def _energy(maker: BaseVaspMaker, structure: Structure, total: float) -> float | None:
    """Return the energy at the start, eV; None if the trial failed."""
    trial = deepcopy(maker)
    _generator(trial).total_moment = total
    _generator(trial).user_incar_settings |= _STATIC
    trial.write_additional_data = {}
    folder = Path.cwd() / TRIALS.replace("*", f"{total:g}")
    folder.mkdir()
    try:
        with chdir(folder):
            BaseVaspMaker.make.original(trial, structure)  # type: ignore[attr-defined]  # of jobflow's decorator
        ledger = read_relaxation(folder).ledger
    except (CustodianError, InputError, OSError, ValueError):
        return None  # its steps count all the same
    return ledger.energy if ledger else None
