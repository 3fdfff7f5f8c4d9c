"""What a file states of a structure beside its atoms: results, which belong to the positions, and the charge."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_RESULT = re.compile(
    r"energ|force|stress|viria|pressure|enthalp|dipole|quadrupole|hessian|polariz|phonon|bader|hirshfeld|fermi"
    r"|magmom|magneti[sz]ation|toten|band_?gap|born_|displacement|residual|(?:^|_)(?:becs?|dos|charges|spins|homo|lumo)$"
)
_START = re.compile(r"initial_|^tags$|^magmom$")  # what a calculation starts from, not what it gave
_CHARGES = ("charge", "charge of the structure", "total_charge", "net_charge", "tot_charge", "q")
_OWN = ("positions", "numbers", "momenta", "velocities", "masses")
_TOLERANCE = 1e-3  # elementary charges
_LARGEST = 1000.0  # elementary charges


def is_result(name: str) -> bool:
    """Whether a name, whatever its prefix (REF_energy, dft_forces), is that of something computed for positions."""
    name = name.lower()
    return _RESULT.search(name) is not None and _START.search(name) is None


def drop_results(labels: MutableMapping[str, Any], keep: Collection[str] = ()) -> None:
    """Take results out of a structure's labels; they belong to other positions."""
    for name in [name for name in labels if is_result(name) and name not in keep]:
        del labels[name]


def drop_labels(atoms: Atoms) -> None:
    """Take all results out of ASE's Atoms: calculator, `info`, and columns by name; and vectors of any name.

    A column of three numbers for each atom that is not ASE's own is taken for forces or the like.
    """
    atoms.calc = None
    drop_results(atoms.info)
    for name, values in list(atoms.arrays.items()):
        vector = np.asarray(values).dtype.kind == "f" and np.ndim(values) > 1
        if name not in _OWN and (is_result(name) or (vector and _START.search(name) is None)):
            del atoms.arrays[name]


def charge_of(labels: Mapping[str, Any]) -> float:
    """Return the net charge that a structure's labels state, elementary charges; 0 without such a label.

    The same names in every format: charge, total_charge, net_charge, tot_charge, q; upper and lower case are alike.

    Raises
    ------
    InputError
        A charge that is no finite number, or two names that state different charges.
    """
    charges = {}
    for name, value in labels.items():
        if str(name).lower() in _CHARGES and value is not None:
            charges[name] = _charge(str(name), value)
    if charges and max(charges.values()) - min(charges.values()) > _TOLERANCE:
        listed = ", ".join(f"{name}={value:g}" for name, value in charges.items())
        raise InputError(f"states different charges ({listed}): leave the right entry")
    return next(iter(charges.values()), 0.0)


def _charge(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever is no number is refused
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= _LARGEST or abs(number - round(number)) > _TOLERANCE or isinstance(value, bool | np.bool_):
        raise InputError(f"{name}={str(value)[:40]} is no net charge: give a whole number of elementary charges")
    return float(round(number))
