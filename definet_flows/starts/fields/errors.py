"""How far a field may be trusted: shares of its own motion, read off the records.

A record alone does not show its error. Two things beside it do: what its own site's symmetry makes of it, because a
larger cell may end in any of the images; and the records of the same defects in other charges, because displacements
go nearly in step with the charge unless the defect has several minima.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from definet_flows.schemas import FloatArray
from definet_flows.starts.fields.carry import Field
from definet_flows.starts.fields.clusters import operations_of
from definet_flows.starts.fields.fit import Recorded, images

CUT = 0.45
"""Error of a field from another supercell as a share of its own mean motion; median of `benchmarks/starts.py bulk`."""
CHARGE = 0.5
"""The same for each elementary charge by which the field's charge misses the configuration's."""


def spread(record: Recorded) -> float:
    """Return how far a record differs from its images under its defects' symmetry, in units of its largest motion."""
    cell, cluster = record.cell, record.laid.cluster
    maps = cluster.canonical_under(operations_of(cell))[1]
    turned = images(cell.crystal, record.laid.rows, maps, record.values)
    return _share(turned - record.values, record.values)


def bend(record: Recorded, others: Mapping[int, Field]) -> float:
    """Return how far a record lies off the line through those in the two nearest other charges, in the same units.

    It is scaled to charges one below and one above: off a line that is drawn further, a bend shows several times.
    Zero with less than two others.

    Parameters
    ----------
    others
        Fields of the same defects in the same supercell, by charge.
    """
    if len(others) < 2:  # noqa: PLR2004 - a line has two points
        return 0.0
    near, far = sorted(others, key=lambda charge: (abs(charge - record.charge), charge))[:2]
    a, b = (others[charge].onto(record.laid.rows, record.laid.cluster) for charge in (near, far))
    expected = a + (b - a) * (record.charge - near) / (far - near)
    off = (record.values - expected) / abs((record.charge - near) * (record.charge - far))
    return _share(off * record.laid.atoms[:, None], record.values)


def mean_size(values: FloatArray, atoms: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Return the mean |component| over atoms, Å; values [n_rows, 3], atoms [n_rows]."""
    return float(np.abs(values[atoms]).mean()) if atoms.any() else 0.0


def _share(difference: FloatArray, values: FloatArray) -> float:
    largest = float(np.linalg.norm(values, axis=-1).max())
    return float(np.linalg.norm(difference, axis=-1).max()) / largest if largest else 0.0
