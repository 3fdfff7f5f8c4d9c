"""How far predictions are from where relaxations ended: atom by atom, against the distance to the nearest defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pymatgen.core import Lattice
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.schemas import PRISTINE, VACANCY, DefectRecord, FloatArray

SmallArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Deviation:
    """A relaxation that started from a prediction, atoms only; displacements are from the unrelaxed sites."""

    atoms: npt.NDArray[np.int64]
    """Rows of the site map, [n_atoms]"""
    distance: FloatArray
    """Of each atom's unrelaxed site to the nearest defect site, Å, [n_atoms]"""
    predicted: FloatArray
    """Predicted displacements, Å, [n_atoms, 3]"""
    relaxed: FloatArray
    """Displacements to where the relaxation from the prediction ended, Å, [n_atoms, 3]"""

    @property
    def error(self) -> FloatArray:
        """Distance of each atom's predicted position from its relaxed position, Å, [n_atoms]."""
        return np.asarray(np.linalg.norm(self.predicted - self.relaxed, axis=1))


def deviation(record: DefectRecord) -> Deviation | None:
    """Return the deviation of a record's prediction from its end; None if it has no converged end or no prediction.

    The end is that of the relaxation that started from the prediction: every such relaxation has an end, with or
    without a control. A rigid shift is not taken off.
    """
    sites, ledger = record.sites, record.ledger
    converged = record.status == "done" and ledger is not None and ledger.converged
    if not converged or record.start != "predicted" or sites is None:
        return None
    if sites.predicted is None or sites.relaxed is None:
        return None
    cell = np.array(record.host.lattice)
    markers = np.array([int(marker) for marker in sites.markers])
    atoms = np.flatnonzero(markers != VACANCY)
    return Deviation(
        atoms=atoms,
        distance=defect_distances(cell, sites.unrelaxed, markers)[atoms],
        predicted=nearest_image(sites.predicted - sites.unrelaxed, cell)[atoms],
        relaxed=nearest_image(sites.relaxed - sites.unrelaxed, cell)[atoms],
    )


def together(some: Sequence[Deviation]) -> Deviation:
    """Return the atoms of several as a single deviation; `atoms` then numbers them."""
    distance = np.concatenate([one.distance for one in some])
    return Deviation(
        atoms=np.arange(len(distance)),
        distance=distance,
        predicted=np.concatenate([one.predicted for one in some]),
        relaxed=np.concatenate([one.relaxed for one in some]),
    )


def defect_distances(cell: FloatArray, sites: FloatArray, markers: npt.NDArray[np.int64]) -> FloatArray:
    """Return the distance of every site, Cartesian [n, 3], to the nearest edited site or its image, Å, [n]."""
    frac = sites @ np.linalg.inv(cell)
    _, squared = pbc_shortest_vectors(Lattice(cell), frac[markers != PRISTINE], frac, return_d2=True)
    return np.asarray(np.sqrt(np.asarray(squared).min(axis=0)))


def nearest_image(vectors: FloatArray, cell: FloatArray) -> FloatArray:
    """Return displacements [n, 3] less whole lattice vectors, Å: an engine may wrap an atom into the cell."""
    frac = vectors @ np.linalg.inv(cell)
    return np.asarray((frac - np.rint(frac)) @ cell)


@dataclass
class Deviations:
    """Deviations of many records, collected record by record."""

    distance: list[SmallArray] = field(default_factory=list)
    predicted: list[SmallArray] = field(default_factory=list)
    relaxed: list[SmallArray] = field(default_factory=list)

    def add(self, deviation: Deviation) -> None:
        """Add the atoms of a record."""
        self.distance.append(deviation.distance.astype(np.float32))
        self.predicted.append(deviation.predicted.astype(np.float32))
        self.relaxed.append(deviation.relaxed.astype(np.float32))

    def __len__(self) -> int:
        return len(self.distance)

    def joined(self) -> Deviation:
        """Return all atoms as a single deviation; `atoms` then numbers them."""
        distance = np.concatenate([np.empty(0, np.float32), *self.distance])
        none = np.empty((0, 3), np.float32)
        return Deviation(
            atoms=np.arange(len(distance)),
            distance=distance.astype(np.float64),
            predicted=np.concatenate([none, *self.predicted]).astype(np.float64),
            relaxed=np.concatenate([none, *self.relaxed]).astype(np.float64),
        )
