"""Checks on the values of a stored document: finite numbers, no negative costs, tables of the right sizes.

Pydantic checks types and names of fields. The checks here apply to documents that are read, not to new documents: a
relaxation that ended in nonsense is written as it is, and is left out by name when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from definet_flows.errors import BadDocumentError
from definet_flows.schemas import INSERTED, DefectRecord, Host, HostNote, HostRun, Matrix, RelaxedHost, SiteMap
from definet_flows.schemas.models import Model, Supercell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from definet_flows.schemas import Configuration

COUNTS = frozenset(
    (
        *("ionic_steps", "electronic_steps", "steps_unrelaxed", "steps_predicted", "electronic_unrelaxed"),
        *("electronic_predicted", "floor", "cores", "n_sites", "n_defects", "multiplicity", "n", "size"),
        *("configurations", "refused", "held_out", "relaxed", "number"),
    )
)
AT_LEAST_ZERO = COUNTS | {
    *("core_hours", "core_hours_unrelaxed", "core_hours_predicted", "wall_seconds", "seconds", "force_criterion"),
    *("start_max_force", "max_force", "start_force_unrelaxed", "start_force_predicted", "uncertainty", "distance"),
    *("moment_difference", "core_seconds", "rattle", "vacuum"),
}
MOST = 10**9
"""Of a count: force evaluations, sites, configurations."""
FARTHEST = 1e12
"""Of any measure: eV, Å, s, h."""

_LARGEST = 2**63 - 1
_PLAIN = frozenset((int, float))
_ELEMENTS = 118
_FLAT = 1e-6  # Å^3; a cell without a volume


Count = Annotated[int, Field(ge=0, le=MOST)]
Cost = Annotated[float, Field(ge=0, le=FARTHEST, allow_inf_nan=False)]
Measure = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]


def check_sound(document: BaseModel) -> None:
    """Refuse a document with an impossible value.

    Raises
    ------
    BadDocumentError
        If a value is impossible; names the field and the fault.
    """
    _check_values(document, "")
    _check_sizes(document)


def _check_values(value: object, field: str) -> None:
    """Check every number in a part of a document."""
    if isinstance(value, BaseModel):
        _check_parts(value.__dict__, field)
    elif isinstance(value, dict):
        _check_parts(value, field)
    elif isinstance(value, list | tuple):
        _check_list(value, field)
    elif isinstance(value, np.ndarray):
        if value.size:
            _check_number(field, float(np.abs(value).max()))
    elif isinstance(value, int | float):
        _check_number(field, value)


def _check_parts(parts: dict[str, object], field: str) -> None:
    for name, part in parts.items():
        if part is not None and not isinstance(part, str):
            _check_values(part, f"{field}.{name}" if field else str(name))


def _check_list(values: Sequence[Any], field: str) -> None:
    """Check a list, at once where it holds numbers only."""
    if _PLAIN.issuperset(map(type, values)):
        if values:
            _check_number(field, sum(values))  # a value that is not finite makes the sum not finite
            _check_number(field, min(values))
            _check_number(field, max(values))
        return
    for part in values:
        _check_values(part, field)


def _check_number(field: str, value: float) -> None:
    """Refuse a number that the field, named by its path, cannot have."""
    name = field.rpartition(".")[2]
    if not isinstance(value, int) and not isfinite(value):
        _refuse(field, f"{value} is not finite")
    if name in AT_LEAST_ZERO and value < 0:
        _refuse(field, f"{value} is negative")
    most = MOST if name in COUNTS else _LARGEST if isinstance(value, int) else FARTHEST
    if abs(value) > most:
        _refuse(field, f"{value:g} is more than can be")


def _refuse(field: str, why: str) -> None:
    msg = f"{field}: {why}"
    raise BadDocumentError(msg)


@singledispatch
def _check_sizes(document: BaseModel) -> None:
    """Most kinds hold no tables."""
    del document


@_check_sizes.register
def _(document: DefectRecord) -> None:
    _check_cell("host.lattice", document.host.lattice)
    _check_dimensions(document.host)
    _check_edits(document.configuration, document.host.n_sites)
    if document.sites is not None:
        _check_sites(document.sites, document.host.n_sites)


@_check_sizes.register
def _(document: RelaxedHost) -> None:
    _check_cell("host.lattice", document.host.lattice)
    _check_dimensions(document.host)
    if len(document.relaxed) != document.host.n_sites:
        _refuse("relaxed", f"{len(document.relaxed)} rows for {document.host.n_sites} sites")


@_check_sizes.register
def _(document: HostRun) -> None:
    _check_cell("host.lattice", document.host.lattice)
    _check_dimensions(document.host)
    _check_sites(document.sites, document.host.n_sites)


@_check_sizes.register
def _(document: Model) -> None:
    if not isinstance(document.recipe.get("network", {}), Mapping):
        _refuse("recipe.network", "no table of settings")


@_check_sizes.register
def _(document: Supercell) -> None:
    _check_host(document.host)


def _check_host(host: Host) -> None:
    _check_cell("host.lattice", host.lattice)
    _check_elements("host.numbers", host.numbers)
    if not host.numbers or len(host.numbers) != len(host.frac_coords):
        _refuse("host.frac_coords", f"{len(host.frac_coords)} rows for {len(host.numbers)} sites")


def _check_cell(field: str, lattice: Matrix) -> None:
    if abs(np.linalg.det(np.array(lattice))) < _FLAT:
        _refuse(field, "the cell has no volume")


def _check_dimensions(host: HostNote) -> None:
    if not 0 <= host.dimensionality <= 3:  # noqa: PLR2004 - of space
        _refuse("host.dimensionality", f"{host.dimensionality} is not 0 to 3")


def _check_elements(field: str, numbers: Iterable[int]) -> None:
    for number in set(numbers):
        if not 1 <= number <= _ELEMENTS:
            _refuse(field, f"{number} is no atomic number")


def _check_edits(configuration: Configuration, n_sites: int) -> None:
    for edit in configuration.edits:
        _check_elements("configuration.edits", [number for number in (edit.old, edit.new) if number is not None])
        if edit.site is not None and not 0 <= edit.site < n_sites:
            _refuse("configuration.edits", f"site {edit.site} of {n_sites}")


def _check_sites(sites: SiteMap, n_sites: int) -> None:
    rows = len(sites.markers)
    _check_elements("sites.numbers", sites.numbers)
    if set(sites.markers) - set("0123"):
        _refuse("sites.markers", "a marker is none of 0 to 3")
    if rows - sites.markers.count(str(INSERTED)) != n_sites:
        _refuse("sites.markers", f"{rows} rows for {n_sites} sites")
    sizes = {"numbers": len(sites.numbers)}
    for name in ("unrelaxed", "predicted", "rattle", "relaxed", "last"):
        table = getattr(sites, name)
        sizes |= {} if table is None else {name: len(table)}
    for name, size in sizes.items():
        if size != rows:
            _refuse(f"sites.{name}", f"{size} rows, {rows} markers")
    rows_of_engine = set(sites.permutation)
    if len(rows_of_engine) != len(sites.permutation) or not rows_of_engine <= set(range(rows)):
        _refuse("sites.permutation", "its entries are not different rows of the table")
