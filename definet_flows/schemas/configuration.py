"""The bulk supercell and its edits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pymatgen.core import Element

from definet_flows.schemas.base import INSERTED, VACANCY, FloatArray, Frozen, IntMatrix, Matrix, Vector, content_hash

MOST_CHARGED = 1000
"""Largest |net charge|, elementary charges; more is a typing error, and databases take no more than 64 bits."""


def signed(charge: int) -> str:
    """Return a net charge as every table and title writes it: 0, +1, -2."""
    return f"{charge:+d}" if charge else "0"


class Host(Frozen):
    """A validated bulk supercell with a fixed site order; rows are sites everywhere else."""

    formula: str = Field(description="reduced formula, such as MoS2")
    lattice: Matrix = Field(description="lattice vectors as rows, Å")
    numbers: tuple[int, ...] = Field(description="atomic number of each site, [n_sites]")
    frac_coords: tuple[Vector, ...] = Field(description="fractional coordinates in [0, 1), [n_sites, 3]")
    matrix: IntMatrix = Field(description="supercell matrix that multiplied the unit cell's vectors")
    dimensionality: int = Field(ge=0, le=3, description="2 for a layer, 3 for a bulk crystal")
    vacuum: float | None = Field(default=None, description="gap between periodic layers, Å; None in bulk")
    provenance: dict[str, str] = Field(
        default_factory=dict, description="where the cell comes from: source, functional, notes"
    )

    @property
    def n_sites(self) -> int:
        """Number of pristine sites."""
        return len(self.numbers)

    @property
    def hash(self) -> str:
        """Identity of the supercell as given: lattice, elements, positions and site order."""
        lattice = [round(x, 5) + 0.0 for row in self.lattice for x in row]
        coords = [round(x % 1.0, 5) % 1.0 for row in self.frac_coords for x in row]
        return content_hash("host", lattice, list(self.numbers), coords)

    @property
    def cartesian(self) -> FloatArray:
        """Cartesian coordinates of the sites, Å, [n_sites, 3]."""
        return np.array(self.frac_coords, dtype=np.float64) @ np.array(self.lattice, dtype=np.float64)


class Edit(Frozen):
    """An edited site of the bulk supercell, or one inserted atom."""

    marker: Literal[1, 2, 3] = Field(description="1 substitution, 2 vacancy, 3 inserted atom")
    site: int | None = Field(default=None, description="pristine site index; None for an inserted atom")
    old: int | None = Field(default=None, description="atomic number that was there; None if inserted")
    new: int | None = Field(default=None, description="atomic number placed there; None for a vacancy")
    position: Vector | None = Field(default=None, description="fractional coordinates of an inserted atom")

    @model_validator(mode="after")
    def _consistent(self) -> Edit:
        inserted = self.marker == INSERTED
        complete = (
            (self.site is None) == inserted
            and (self.old is None) == inserted
            and (self.position is None) == (not inserted)
            and (self.new is None) == (self.marker == VACANCY)
        )
        if not complete:
            msg = f"an edit with marker {self.marker} cannot have site={self.site}, old={self.old}, new={self.new}"
            raise ValueError(msg)
        return self

    @property
    def name(self) -> str:
        """Name in the field's notation: `v_S`, `W_Mo`, `Li_i`."""
        if self.marker == INSERTED:
            return f"{_symbol(self.new)}_i"
        return f"{'v' if self.marker == VACANCY else _symbol(self.new)}_{_symbol(self.old)}"


def _step(coordinate: float) -> int:
    """Return a fractional coordinate in whole 1e-5; the offset keeps simple fractions away from where it rounds."""
    return round((coordinate + 1.37e-6) * 1e5) % 100_000


def _symbol(number: int | None) -> str:
    return str(Element.from_Z(number or 0).symbol)


def joined_name(names: Iterable[str]) -> str:
    """Return the name of a combination of defects: vacancies first, such as `v_S+W_Mo`."""
    return "+".join(sorted(names, key=lambda name: (not name.startswith("v_"), name)))


class Configuration(Frozen):
    """A small list of edits of a bulk supercell, in its symmetry-canonical placement."""

    edits: tuple[Edit, ...]
    charge: int = Field(default=0, ge=-MOST_CHARGED, le=MOST_CHARGED, description="net charge, elementary charges")
    multiplicity: int = Field(default=1, ge=1, description="symmetry-equivalent placements in the supercell")

    @property
    def name(self) -> str:
        """Names of the defects, vacancies first, such as `v_S+W_Mo` or `v_S+v_S`."""
        return joined_name(edit.name for edit in self.edits)

    def id_in(self, host_hash: str) -> str:
        """Return the configuration_id: hash of the supercell, the placement and the charge."""
        edits = sorted(
            [e.site if e.site is not None else -1, e.marker, e.new or 0, *map(_step, e.position or ())]
            for e in self.edits
        )
        return content_hash("configuration", host_hash, edits, self.charge)
