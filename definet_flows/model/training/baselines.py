"""What a network has to beat: no motion, the host's own motion, and a sum of single-defect displacement fields.

The coordinate MAE of no motion flatters: labels may hold a relaxation of the host itself (the selenium planes of
low-density WSe2 breathe by 0.109 Å), and at low density the fields of single defects nearly add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from definet_flows.defects import site_operations
from definet_flows.model.training.metrics import site_distances
from definet_flows.schemas import PRISTINE, VACANCY, FloatArray, Host

if TYPE_CHECKING:
    from definet_flows.model.data.archive import PairSet

IntArray = npt.NDArray[np.int64]
SmallArray = npt.NDArray[np.integer]
Predictor = Callable[[SmallArray, SmallArray], FloatArray]
"""Numbers and markers [n, n_sites] -> displacements from the pristine sites, Å, [n, n_sites, 3]."""

_FAR = 6.0  # Å; sites farther than this from every defect show the host's own motion
_RIDGE = 1e-3  # in equations; keeps unknowns that no training structure shows at zero


@dataclass(frozen=True)
class Translations:
    """A supercell as sublattices under its own translations.

    Attributes
    ----------
    sublattice, cell
        Of each site: which sublattice, and which translation takes the sublattice's first site to it, [n_sites].
    sites
        Site by sublattice and translation, [n_sublattices, n_cells].
    difference
        Translation that takes cell b to cell a, [n_cells, n_cells], at [a, b].
    """

    sublattice: IntArray
    cell: IntArray
    sites: IntArray
    difference: IntArray

    @classmethod
    def of(cls, host: Host) -> Translations:
        """Find the translations of a supercell."""
        operations = site_operations(host)
        pure = np.abs(operations.rotations - np.eye(3)).max(axis=(1, 2)) < 1e-6  # noqa: PLR2004 - rounding
        permutations = operations.permutations[pure]  # [n_cells, n_sites]
        firsts, sublattice = np.unique(permutations.min(0), return_inverse=True)
        sites = permutations[:, firsts].T
        cell = np.empty(host.n_sites, dtype=np.int64)
        cell[sites] = np.arange(len(permutations))
        inverse = np.argsort(permutations, axis=1)
        difference = cell[inverse[:, sites[0]]].T
        return cls(sublattice, cell, sites, difference)


def dummy(numbers: SmallArray, markers: SmallArray) -> FloatArray:
    """Predict no motion; see `Predictor`."""
    del numbers
    return np.zeros((*markers.shape, 3))


def fit_host(pairs: PairSet, entries: IntArray) -> Predictor:
    """Return the predictor of the host's own motion: the mean of each sublattice far from defects.

    A sublattice without a site beyond 6 Å from every defect stays where it is.
    """
    translations, between = Translations.of(pairs.host), site_distances(pairs.host)
    field, count = np.zeros((len(translations.sites), 3)), np.zeros(len(translations.sites))
    for entry in entries:
        defects = pairs.markers[entry] != PRISTINE
        far = np.flatnonzero(between[:, defects].min(1, initial=np.inf) > _FAR)
        np.add.at(field, translations.sublattice[far], pairs.relaxed[entry, far])
        np.add.at(count, translations.sublattice[far], 1)
    field = (field / np.maximum(count, 1)[:, None])[translations.sublattice]

    def predict(numbers: SmallArray, markers: SmallArray) -> FloatArray:
        del numbers
        return np.tile(field, (len(markers), 1, 1))

    return predict


def fit_additive(pairs: PairSet, entries: IntArray) -> Predictor:
    """Return the predictor that adds the fields of single defects, fitted by least squares.

    Displacement of site i = h(i) + sum over defects e of f(i - e): one field f [n_sites, 3] for each kind of defect on
    each sublattice, the same wherever translations put it, and a constant h for each sublattice. Site i is cell t of
    sublattice a; for each a, the unknowns f_a(t - t_e) and h_a share one design matrix. The point operations come in
    afterwards: the prediction is averaged over them.
    """
    translations = Translations.of(pairs.host)
    kinds = np.unique(_kinds(translations, pairs.numbers[entries], pairs.markers[entries])[2])

    def design(numbers: SmallArray, markers: SmallArray) -> sparse.csr_array:
        return _design(translations, kinds, numbers, markers)

    matrix = design(pairs.numbers[entries], pairs.markers[entries])
    fields = []
    for sites in translations.sites:
        atoms = (pairs.markers[entries][:, sites] != VACANCY).ravel()
        target = pairs.relaxed[entries][:, sites].reshape(-1, 3)[atoms].astype(np.float64)
        scored = matrix[atoms]
        normal = (scored.T @ scored).toarray() + _RIDGE * np.eye(matrix.shape[1])
        fields.append(np.linalg.solve(normal, scored.T @ target))

    def predict(numbers: SmallArray, markers: SmallArray) -> FloatArray:
        out = np.zeros((*markers.shape, 3))
        rows = design(numbers, markers)
        for sites, field in zip(translations.sites, fields, strict=True):
            out[:, sites] = (rows @ field).reshape(len(markers), len(sites), 3)
        return out

    return _symmetrized(pairs.host, predict)


def _symmetrized(host: Host, predictor: Predictor) -> Predictor:
    """Return the mean over point operations g of g^-1 predictor(g configuration): an equivariant predictor."""
    operations = site_operations(host)
    turns = operations.rotations.round(4).reshape(len(operations), 9)
    points = operations.select(np.unique(turns, axis=0, return_index=True)[1])

    def predict(numbers: SmallArray, markers: SmallArray) -> FloatArray:
        out = np.zeros((*markers.shape, 3))
        for permutation, rotation in zip(points.permutations, points.rotations, strict=True):
            back = np.argsort(permutation)
            out += predictor(numbers[:, back], markers[:, back])[:, permutation] @ rotation
        return out / len(points)

    return predict


def _kinds(translations: Translations, numbers: SmallArray, markers: SmallArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return structure, cell and kind (sublattice and new element in one number) of each defect, [n_defects]."""
    structure, site = np.nonzero(markers != PRISTINE)
    new = np.where(markers == VACANCY, 0, numbers)[structure, site].astype(np.int64)
    return structure, translations.cell[site], translations.sublattice[site] * 1000 + new


def _design(translations: Translations, kinds: IntArray, numbers: SmallArray, markers: SmallArray) -> sparse.csr_array:
    """Return 0s and 1s: row (structure, cell), column (kind, translation from defect), last column the constant."""
    cells = len(translations.difference)
    structure, cell, kind = _kinds(translations, numbers, markers)
    known = np.isin(kind, kinds)  # a kind that training never showed adds nothing
    structure, cell, kind = structure[known], cell[known], np.searchsorted(kinds, kind[known])
    rows = (structure[:, None] * cells + np.arange(cells)).ravel()
    columns = (kind[:, None] * cells + translations.difference[:, cell].T).ravel()
    height, width = len(markers) * cells, len(kinds) * cells + 1
    rows, columns = np.append(rows, np.arange(height)), np.append(columns, np.full(height, width - 1))
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(height, width))
