"""Figures of the accuracy of predictions: error against distance to the nearest defect, parity of displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.report.figures.charts import Chart, Points, Role

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.report.figures.deviations import Deviation
    from definet_flows.report.reading import Contents
    from definet_flows.schemas import FloatArray

DRAWN = 3000
"""Most atoms that are drawn; all atoms count in the lines and numbers."""
BIN = 0.5
NEAR = 4.0
"""Å; atoms nearer than this to a defect site have a colour of their own in the parity"""

_SEED = 20250501
_FLOOR = 1e-4  # Å; lower values are drawn there on the logarithmic axis
_TAIL = 95  # percentile


def accuracy_charts(contents: Contents) -> list[Chart]:
    """Return the figures of errors in the order of the page."""
    return [_by_distance(contents.deviations, contents.relaxations), _parity(contents.deviations)]


def _by_distance(atoms: Deviation, relaxations: int) -> Chart:
    error, moved = atoms.error, np.linalg.norm(atoms.relaxed, axis=1)
    drawn = _sample(np.arange(len(error)), DRAWN)
    series = [
        _quantile("no prediction: median", atoms.distance, moved, 50, dash=False),
        _quantile("no prediction: 95th percentile", atoms.distance, moved, _TAIL, dash=True),
        _quantile("prediction: median", atoms.distance, error, 50, dash=False),
        _quantile("prediction: 95th percentile", atoms.distance, error, _TAIL, dash=True),
        Points("atoms", "predicted", atoms.distance[drawn], np.maximum(error[drawn], _FLOOR), faint=True),
    ]
    return Chart(
        key="error-distance",
        title="Error against distance to the nearest defect",
        caption="Distance of each atom's predicted position from where the relaxation from the prediction ended, "
        f"in bins of {BIN:g} Å; orange: the same of the unrelaxed position, the error without a prediction. "
        f"{len(error):,} atoms of {relaxations:,} converged relaxations, {len(drawn):,} drawn; values below "
        f"{_FLOOR:g} Å are drawn there.",
        x="distance to the nearest defect site [Å]",
        y="|predicted - relaxed| [Å]",
        log=True,
        series=tuple(series) if len(error) else (),
    )


def _quantile(name: str, distance: FloatArray, values: FloatArray, percent: int, *, dash: bool) -> Points:
    bins = np.floor(distance / BIN).astype(int)
    present = np.unique(bins)
    heights = [np.percentile(values[bins == k], percent) for k in present]
    return Points(
        name=name,
        role="unrelaxed" if name.startswith("no ") else "predicted",
        x=(present + 0.5) * BIN,
        y=np.maximum(heights, _FLOOR),
        line="dash" if dash else "solid",
        marks=False,
    )


def _parity(atoms: Deviation) -> Chart:
    near = np.flatnonzero(atoms.distance < NEAR)
    far = np.flatnonzero(atoms.distance >= NEAR)
    chosen = [_sample(part, DRAWN // 3) for part in (far, near)]
    kinds: tuple[tuple[str, Role], ...] = (
        (f"atoms beyond {NEAR:g} Å of a defect", "neutral"),
        (f"atoms within {NEAR:g} Å", "predicted"),
    )
    series = tuple(
        Points(name, role, atoms.relaxed[which].ravel(), atoms.predicted[which].ravel(), faint=True)
        for (name, role), which in zip(kinds, chosen, strict=True)
        if len(which)
    )
    return Chart(
        key="parity",
        title="Parity of displacements",
        caption=f"Components of the displacement from the unrelaxed site. {_numbers(atoms)} "
        f"{sum(map(len, chosen)):,} of {len(atoms.distance):,} atoms drawn, half of them near a defect where there are "
        "as many.",
        x="displacement by the relaxation [Å]",
        y="predicted displacement [Å]",
        diagonal=True,
        series=series,
    )


def _numbers(atoms: Deviation) -> str:
    """Return the mean errors over all atoms in words."""
    if not len(atoms.distance):
        return "No converged relaxation from a prediction."
    error = np.abs(atoms.predicted - atoms.relaxed).mean()
    nothing = np.abs(atoms.relaxed).mean()
    return f"Mean |component| error {error:.4f} Å over all atoms; of no prediction {nothing:.4f} Å."


def _sample(which: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of them, the same each time."""
    if len(which) <= most:
        return which
    return np.sort(np.random.default_rng(_SEED).choice(which, most, replace=False))
