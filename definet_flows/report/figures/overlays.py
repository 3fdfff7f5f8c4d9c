"""A configuration three times - unrelaxed, predicted, relaxed - centred on its defects, for drawing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols
from pydantic import Field

from definet_flows.report.figures.deviations import nearest_image
from definet_flows.schemas import PRISTINE, VACANCY, DefectRecord, FloatArray, Frozen, SiteMap, signed

BOND = 1.2
"""Two atoms are bonded if they are nearer than this times the distance of either to its own nearest neighbour."""

_DIGITS = 3  # of a drawn coordinate, Å

Point = tuple[float, float, float]


class Overlay(Frozen):
    """Data of a drawing; the defects' centre is the origin and every atom stands in the image nearest to it."""

    name: str = Field(description="defect names, such as v_S+W_Mo")
    charge: int = Field(default=0, description="net charge, e")
    configuration_id: str
    record_id: str
    elements: tuple[str, ...] = Field(description="of each row; a vacancy's is the missing element's")
    markers: str = Field(description="one digit per row: 0 pristine, 1 substitution, 2 vacancy, 3 inserted")
    unrelaxed: tuple[Point, ...] = Field(description="Å")
    predicted: tuple[Point, ...] | None = Field(description="Å")
    relaxed: tuple[Point, ...] | None = Field(description="Å; where the relaxation ended")
    bonds: tuple[tuple[int, int], ...] = Field(description="pairs of rows, of the relaxed structure")
    largest: float | None = Field(default=None, description="largest atomic error of the prediction, Å")
    facts: tuple[str, ...] = Field(default=(), description="lines that say what is seen")


def overlay(record: DefectRecord, largest: float | None = None, facts: tuple[str, ...] = ()) -> Overlay:
    """Return the drawing of a record that has structures."""
    sites = record.sites
    assert sites is not None  # noqa: S101 - callers choose records with structures
    cell = np.array(record.host.lattice)
    centred = _centred(sites, cell)
    ends = [
        None if table is None else centred + nearest_image(table - sites.unrelaxed, cell)
        for table in (sites.predicted, sites.relaxed)
    ]
    return Overlay(
        name=record.name,
        charge=record.configuration.charge,
        configuration_id=record.configuration_id,
        record_id=record.id,
        elements=tuple(chemical_symbols[number] for number in sites.numbers),
        markers=sites.markers,
        unrelaxed=_points(centred),
        predicted=None if ends[0] is None else _points(ends[0]),
        relaxed=None if ends[1] is None else _points(ends[1]),
        bonds=_bonds(sites, centred if ends[1] is None else ends[1]),
        largest=largest,
        facts=facts,
    )


def title(overlay: Overlay) -> str:
    """Return the defects and the charge, such as `v_S, charge -1`."""
    return f"{overlay.name}, charge {signed(overlay.charge)}"


def arrow_scale(overlay: Overlay) -> int:
    """Return the factor from displacements to arrows that makes the longest arrow about 3.5 Å."""
    end = overlay.relaxed or overlay.predicted
    if end is None:
        return 1
    longest = float(np.linalg.norm(np.array(end) - np.array(overlay.unrelaxed), axis=1).max())
    return max(1, min(50, round(3.5 / longest))) if longest > 0 else 1


def _centred(sites: SiteMap, cell: FloatArray) -> FloatArray:
    """Return the unrelaxed sites about the defects' centre, each in the image nearest to it, [n, 3], Å."""
    edited = np.array([marker != str(PRISTINE) for marker in sites.markers])
    first = sites.unrelaxed[edited][0]
    centre = first + nearest_image(sites.unrelaxed[edited] - first, cell).mean(axis=0)
    return nearest_image(sites.unrelaxed - centre, cell)


def bonded(distances: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which atoms are bonded by their distances [n, n], Å; the metal sublattice of a dichalcogenide is not."""
    apart = distances + np.where(np.eye(len(distances), dtype=bool), np.inf, 0.0)
    nearest = apart.min(axis=1)
    return np.asarray(apart < BOND * np.maximum(nearest[:, None], nearest[None]))


def _bonds(sites: SiteMap, positions: FloatArray) -> tuple[tuple[int, int], ...]:
    atoms = np.flatnonzero([marker != str(VACANCY) for marker in sites.markers])
    apart = np.linalg.norm(positions[atoms, None] - positions[None, atoms], axis=2)
    first, second = np.nonzero(np.triu(bonded(apart)))
    return tuple(zip(atoms[first].tolist(), atoms[second].tolist(), strict=True))


def _points(table: npt.NDArray[np.float64]) -> tuple[Point, ...]:
    return tuple((x, y, z) for x, y, z in np.round(table, _DIGITS).tolist())
