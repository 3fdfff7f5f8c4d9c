"""Bonds around each defect, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from pydantic import Field
from pymatgen.core import Lattice
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.report.figures.overlays import BOND
from definet_flows.schemas import PRISTINE, VACANCY, Frozen

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.schemas import DefectRecord, FloatArray


class Bond(Frozen):
    """Distance of an atom to a defect site; a vacancy's site stays where it was."""

    defect: str = Field(description="what is there and its row, such as v_S 21")
    neighbour: str = Field(description="element and row, such as Mo 3")
    unrelaxed: float = Field(description="Å")
    predicted: float | None = Field(description="Å")
    relaxed: float | None = Field(description="Å")


def bonds(record: DefectRecord) -> tuple[Bond, ...]:
    """Return the bonds of every defect site in the unrelaxed structure: its nearest shell, nearest first."""
    sites = record.sites
    if sites is None:
        return ()
    atoms = np.flatnonzero([marker != str(VACANCY) for marker in sites.markers])
    edited = [row for row, marker in enumerate(sites.markers) if marker != str(PRISTINE)]
    tables = [
        None if table is None else _distances(np.array(record.host.lattice), table, edited, atoms)
        for table in (sites.unrelaxed, sites.predicted, sites.relaxed)
    ]
    start = tables[0]
    assert start is not None  # noqa: S101 - the unrelaxed table always exists
    found = []
    for k, row in enumerate(edited):
        others = np.flatnonzero(atoms != row)
        shell = others[start[k, others] < BOND * start[k, others].min()]
        for j in shell[np.argsort(start[k, shell], kind="stable")]:
            lengths = [None if table is None else round(float(table[k, j]), 4) for table in tables]
            found.append(
                Bond(
                    defect=_site(sites.numbers[row], sites.markers[row], row),
                    neighbour=f"{chemical_symbols[sites.numbers[atoms[j]]]} {atoms[j]}",
                    unrelaxed=lengths[0],
                    predicted=lengths[1],
                    relaxed=lengths[2],
                )
            )
    return tuple(found)


def _site(number: int, marker: str, row: int) -> str:
    return f"{'v_' if marker == str(VACANCY) else ''}{chemical_symbols[number]} {row}"


def _distances(cell: FloatArray, table: FloatArray, rows: list[int], atoms: npt.NDArray[np.int64]) -> FloatArray:
    frac = table @ np.linalg.inv(cell)
    _, squared = pbc_shortest_vectors(Lattice(cell), frac[rows], frac[atoms], return_d2=True)
    return np.asarray(np.sqrt(np.asarray(squared)))
