"""Host structure -> validated supercell with a fixed site order; vacuum and dimensionality.

The site order of a `Host` is fixed: the sites of the unit cell in the order they were given, each followed by
all of its translations inside the supercell. Everything downstream (edits, markers, coordinate tables) counts
rows in this order.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from definet_flows.errors import InputError
from definet_flows.hosts.cell import (
    IMAGES_APART,
    chosen_in_words,
    for_layer,
    parse_supercell,
    replicate,
    wanted_distance,
)
from definet_flows.hosts.frame import right_handed
from definet_flows.hosts.layer import (
    VACUUM_ERROR,
    VACUUM_WARNING,
    bonded_dimensionality,
    check_vacuum,
    is_stacked,
    place_layer,
)
from definet_flows.hosts.source import load_structure, shipped_hosts
from definet_flows.hosts.symmetrize import SYMPREC, check_symprec, higher_symmetry, symmetrize
from definet_flows.schemas import FloatArray, Host

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

__all__ = [
    "IMAGES_APART",
    "SYMPREC",
    "VACUUM_ERROR",
    "VACUUM_WARNING",
    "for_layer",
    "load_structure",
    "make_host",
    "shipped_hosts",
    "to_structure",
]

_LAYER, _BULK = 2, 3


def make_host(
    host: Structure | Atoms | str | Path,
    supercell: object = None,
    *,
    vacuum: float | None = None,
    center: bool = False,
    symprec: float = SYMPREC,
    dimensionality: int | None = None,
) -> Host:
    """Return the validated bulk supercell of a host.

    Parameters
    ----------
    host
        Unit cell in any setting: a Structure, ASE's Atoms, a file, or the name of a shipped host. Left-handed
        lattice vectors are all reversed (no atom moves), which `provenance["axes"]` then says.
    supercell
        Three whole numbers, a 3 x 3 matrix of whole numbers, or the minimum image distance in Å; None: 12 Å. A distance
        takes the smallest supercell by whole repetitions whose shortest lattice vector (of a layer: in its plane) is
        that long; `provenance["supercell"]` then says which.
    vacuum
        2D hosts: set the gap between the layer and its periodic image to this many Å, along the layer's normal.
    center
        2D hosts: put the middle of the layer in the middle of the cell.
    symprec
        Largest shift in Å that may count as rounding noise: atoms within it of a higher symmetry are put exactly
        there. `provenance["symmetry"]` says what was done; a warning, and `provenance["higher_symmetry"]`,
        where up to 0.1 Å would give a higher symmetry.
    dimensionality
        2: a layer, 3: a bulk crystal; None: from bonds and gaps. Stacked layers are bulk where they touch by van der
        Waals forces (4 Å), where the gaps of several are alike, or where a single layer has less than 6 Å around it.

    Raises
    ------
    InputError
        Unreadable or disordered host, an impossible supercell, or a 2D host with less than 10 Å of vacuum.
    """
    check_symprec(symprec)
    unit, axes = right_handed(load_structure(host))
    dimension = _dimension(unit, dimensionality)
    if vacuum is not None or center:
        if dimension != _LAYER:
            msg = (
                f"host {unit.reduced_formula} is {dimension}-dimensional; vacuum and centring are for layers, drop them"
            )
            raise InputError(msg)
        unit = place_layer(unit, vacuum=vacuum, center=center)
    if dimensionality is None and dimension == _LAYER and is_stacked(unit):
        dimension = _BULK
    gap = check_vacuum(unit) if dimension == _LAYER else None
    unit, notes = _symmetrized(unit, symprec)
    matrix = parse_supercell(supercell, unit, dimension)
    lattice, numbers, coords = replicate(unit, matrix)
    a, b, c = (round(x, 4) for x in unit.lattice.abc)
    provenance = {key: str(unit.properties[key]) for key in ("source", "functional") if unit.properties.get(key)}
    if axes:
        provenance["axes"] = f"{axes}: the rows given are left-handed"
    distance = wanted_distance(supercell)
    if distance is not None:
        provenance["supercell"] = chosen_in_words(distance, unit, matrix, dimension)
    return Host(
        formula=unit.reduced_formula,
        lattice=tuple(map(tuple, lattice.tolist())),
        numbers=tuple(numbers.tolist()),
        frac_coords=tuple(map(tuple, coords.tolist())),
        matrix=tuple(map(tuple, matrix.tolist())),
        dimensionality=dimension,
        vacuum=None if gap is None else round(gap, 6),
        provenance={**provenance, "unit_cell": f"a={a} b={b} c={c} Å", **notes},
    )


def _symmetrized(unit: Structure, symprec: float) -> tuple[Structure, dict[str, str]]:
    """Return the unit cell put exactly on its symmetry, and what provenance says of it; warn of a higher symmetry."""
    higher = higher_symmetry(unit, symprec)
    unit, symmetry = symmetrize(unit, symprec)
    if not higher:
        return unit, {"symmetry": symmetry}
    msg = f"host {unit.reduced_formula} is {symmetry}, but {higher}: if that is meant, give a larger symprec"
    warnings.warn(msg, UserWarning, stacklevel=3)
    return unit, {"symmetry": symmetry, "higher_symmetry": higher}


def _dimension(unit: Structure, asked: int | None) -> int:
    if asked is None:
        return bonded_dimensionality(unit)
    if asked not in (_LAYER, _BULK):
        msg = f"dimensionality={asked!r}: 2 for a layer, 3 for a bulk crystal"
        raise InputError(msg)
    return asked


def to_structure(host: Host, positions: FloatArray | None = None) -> Structure:
    """Return the bulk supercell as a Structure in the host's site order.

    Parameters
    ----------
    host
        The supercell.
    positions
        Cartesian coordinates to use instead of the host's own, Å, [n_sites, 3].
    """
    coords = host.cartesian if positions is None else np.asarray(positions)
    return Structure(host.lattice, np.array(host.numbers).tolist(), coords, coords_are_cartesian=True)
