"""Metrics of a predicted set of displacements: errors near defects, in the tails, and of atoms that hop.

The coordinate MAE and A_x are those of doi:10.1038/s41524-025-01728-w, except that distances to defects follow the
minimum image. Means hide what a relaxation suffers from, hence the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pymatgen.core import Lattice
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.schemas import PRISTINE, VACANCY, FloatArray, Frozen, Host, Vector

SmallArray = npt.NDArray[np.integer]
RealArray = npt.NDArray[np.floating]

RADII = (3.0, 4.0, 5.0, 6.0)
"""Å; A_x scores the atoms nearer than x to a defect site."""
HOP = 1.0
"""Å; an atom that moves farther than this hops."""

_BINS = (3.0, 4.0, 6.0, 9.0)  # Å; distance of the nearest defect pair
_BIN_NAMES = ("< 3", "3-4", "4-6", "6-9", "> 9")
_SINGLE = "single"


class Bin(Frozen):
    """Structures whose nearest defect pair lies within some range."""

    n: int
    mae: float = Field(description="Å")


class Metrics(Frozen):
    """Errors of one set of predictions; means are over structures, placeholders are never scored.

    A field is None where there is nothing to average.
    """

    n: int = Field(description="structures")
    mae: float | None = Field(description="mean |component| error, Å")
    median: float | None = Field(description="median over structures of the same, Å")
    A3: float | None = Field(description="mean |component| error of atoms less than 3 Å from a defect site, Å")
    A4: float | None = Field(description="the same within 4 Å, Å")
    A5: float | None = Field(description="the same within 5 Å, Å")
    A6: float | None = Field(description="the same within 6 Å, Å")
    max_error_median: float | None = Field(description="median of a structure's largest atomic error, Å")
    max_error_p95: float | None = Field(description="95th percentile of the same, Å")
    error_over_displacement: float | None = Field(description="sum |error| / sum |displacement|, over all atoms")
    by_pair_distance: dict[str, Bin] = Field(description="by distance of the nearest pair of defects, Å")
    hops: int = Field(description="atoms that move by more than 1 Å")
    hop_recall: float | None = Field(description="share of these that are predicted to move by more than 1 Å")


@dataclass(frozen=True)
class Scores:
    """Errors structure by structure; NaN where a structure has no such atom.

    Attributes
    ----------
    mae, largest
        Mean |component| error and largest atomic error, Å, [n].
    near
        Mean |component| error within each of `RADII`, Å, [n, 4].
    error, displacement
        Sums over atoms of |error| and of |displacement|, Å, [n].
    pair_distance
        Distance of the nearest pair of defect sites, Å, [n]; infinite for a single defect.
    hops, hops_found
        Atoms that move by more than 1 Å, and those of them that were predicted to, [n].
    """

    mae: FloatArray
    largest: FloatArray
    near: FloatArray
    error: FloatArray
    displacement: FloatArray
    pair_distance: FloatArray
    hops: npt.NDArray[np.int64]
    hops_found: npt.NDArray[np.int64]


def site_distances(host: Host, inserted: Sequence[Vector] = ()) -> FloatArray:
    """Return minimum-image distances between all rows, Å, [n_rows, n_rows]: sites, then inserted atoms (fractional)."""
    frac = np.array([*host.frac_coords, *inserted])
    _, squared = pbc_shortest_vectors(Lattice(host.lattice), frac, frac, return_d2=True)
    distance = np.sqrt(np.asarray(squared, dtype=np.float64))
    np.fill_diagonal(distance, 0.0)
    return distance


def score(
    host: Host, markers: SmallArray, truth: RealArray, predicted: RealArray, inserted: Sequence[Vector] = ()
) -> Scores:
    """Compare displacements of configurations of one host.

    Parameters
    ----------
    markers
        Markers of the rows, [n, n_rows].
    truth, predicted
        Displacements from the rows' sites, Å, [n, n_rows, 3], n > 0; rows of vacancies are not looked at.
    inserted
        Fractional coordinates at which inserted atoms start, [n_inserted, 3].
    """
    between = site_distances(host, inserted)
    rows = [_score_structure(between, *row) for row in zip(markers, truth, predicted, strict=True)]
    return Scores(*(np.array(column) for column in zip(*rows, strict=True)))


def _score_structure(
    between: FloatArray, markers: SmallArray, truth: RealArray, predicted: RealArray
) -> tuple[float, float, list[float], float, float, float, int, int]:
    """Return one structure's row of `Scores`."""
    atoms, defects = markers != VACANCY, np.flatnonzero(markers != PRISTINE)
    truth, predicted = np.asarray(truth, dtype=np.float64)[atoms], np.asarray(predicted, dtype=np.float64)[atoms]
    to_defect = between[np.ix_(atoms, defects)].min(1, initial=np.inf)
    component = np.abs(predicted - truth).mean(1)
    size, moved = np.linalg.norm(predicted - truth, axis=1), np.linalg.norm(truth, axis=1)
    hops = moved > HOP
    found = hops & (np.linalg.norm(predicted, axis=1) > HOP)
    first, second = np.triu_indices(len(defects), 1)
    return (
        component.mean(),
        size.max(),
        [_mean(component[to_defect < radius]) for radius in RADII],
        size.sum(),
        moved.sum(),
        between[defects[first], defects[second]].min(initial=np.inf),
        hops.sum(),
        found.sum(),
    )


def join(scores: list[Scores]) -> Scores:
    """Return the scores of several sets, joined."""
    return Scores(*(np.concatenate([getattr(s, field) for s in scores]) for field in Scores.__dataclass_fields__))


def summarize(scores: Scores) -> Metrics:
    """Return the metrics of a set."""
    near = [_known(_mean(column[~np.isnan(column)])) for column in scores.near.T]
    hops = int(scores.hops.sum())
    return Metrics(
        n=len(scores.mae),
        mae=_known(_mean(scores.mae)),
        median=_known(_quantile(scores.mae, 0.5)),
        A3=near[0],
        A4=near[1],
        A5=near[2],
        A6=near[3],
        max_error_median=_known(_quantile(scores.largest, 0.5)),
        max_error_p95=_known(_quantile(scores.largest, 0.95)),
        error_over_displacement=_known(_ratio(scores.error.sum(), scores.displacement.sum())),
        by_pair_distance=_by_pair_distance(scores),
        hops=hops,
        hop_recall=_known(_ratio(scores.hops_found.sum(), hops)),
    )


def _by_pair_distance(scores: Scores) -> dict[str, Bin]:
    """Mean error by the distance of the nearest pair; a lone defect has no pair and a bin of its own."""
    names = np.array(_BIN_NAMES)[np.digitize(scores.pair_distance, _BINS)]
    names = np.where(np.isinf(scores.pair_distance), _SINGLE, names)
    groups = {name: scores.mae[names == name] for name in (*_BIN_NAMES, _SINGLE)}
    return {name: Bin(n=len(mae), mae=float(mae.mean())) for name, mae in groups.items() if len(mae)}


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _quantile(values: FloatArray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else np.nan


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return value if np.isfinite(value) else None
