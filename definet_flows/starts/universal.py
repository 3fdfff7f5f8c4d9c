"""Universal potentials by name: what each needs, its weights, and its ASE calculator, loaded once per process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

_LOADING_NOISE = (
    ("No tensor product accelerator is enabled", UserWarning),  # GPU kernels, of no use on a CPU
    (r"`torch\.jit\.script` is deprecated", DeprecationWarning),  # e3nn, at import
    (r"Please use sevenn\.calculator", DeprecationWarning),  # atomate2 imports it from the old place
)


@dataclass(frozen=True)
class UniversalPotential:
    """A potential whose weights lie in the wheel of its package, so that it works offline.

    Attributes
    ----------
    checkpoint
        Name of its checkpoint in its package.
    package
        Name of the package, of its import, and of the extra of this package that brings it.
    module, calculator
        Where its ASE calculator is.
    arguments
        Arguments of the calculator, by name.
    weights
        Pattern of the file of its weights in the folder of the package.
    """

    checkpoint: str
    package: str
    module: str
    calculator: str
    arguments: Mapping[str, str]
    weights: str


_SEVENNET = ("sevenn", "sevenn.calculator", "SevenNetCalculator")
UNIVERSAL = {
    "sevennet": UniversalPotential(
        "7net-0", *_SEVENNET, {"model": "7net-0"}, "pretrained_potentials/SevenNet_0__11Jul2024/*.pth"
    ),
    "sevennet-l3i5": UniversalPotential(
        "7net-l3i5", *_SEVENNET, {"model": "7net-l3i5"}, "pretrained_potentials/SevenNet_l3i5/*.pth"
    ),
    "chgnet": UniversalPotential(
        "0.3.0", "chgnet", "chgnet.model.dynamics", "CHGNetCalculator", {}, "pretrained/0.3.0/*.pth.tar"
    ),
}
"""The potentials that have a name. None of them knows a charge."""


def require_package(name: str) -> None:
    """Refuse a potential whose package is missing.

    Raises
    ------
    InputError
        If the package is missing; names the extra that brings it.
    """
    package = UNIVERSAL[name].package
    if find_spec(package) is None:
        extra = "." if package == "sevenn" else f".[{package}]"
        remedy = f"pip install -e '{extra}' in the clone of definet_flows"
        msg = f"the potential {name!r} needs the package {package}: {remedy}"
        raise InputError(msg)


def weights_of(name: str) -> Path | None:
    """Return the file of a potential's weights; None where its package has none. Raises as `require_package`."""
    require_package(name)
    spec = find_spec(UNIVERSAL[name].package)
    root = Path(str(spec.origin if spec else "")).parent
    return next(iter(sorted(root.glob(UNIVERSAL[name].weights))), None)


@cache
def load_universal(name: str) -> Calculator:
    """Return the ASE calculator of a potential; the same object on every call.

    Raises
    ------
    ImportError
        If the package is missing or broken.
    """
    potential = UNIVERSAL[name]

    def made() -> Calculator:
        kind: Callable[..., Calculator] = getattr(import_module(potential.module), potential.calculator)
        return kind(**potential.arguments)

    return quietly(made)


def quietly(load: Callable[[], Calculator]) -> Calculator:
    """Return what `load` returns, without the warnings that loading a potential gives."""
    with warnings.catch_warnings():
        for message, category in _LOADING_NOISE:
            warnings.filterwarnings("ignore", message=message, category=category)
        return load()
