"""Figures of the accuracy of predictions: error against distance to the nearest defect, parity of displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.report.figures.charts import Chart, Points, left_out
from definet_flows.report.figures.deviations import together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from definet_flows.report.figures.charts import Role
    from definet_flows.report.figures.deviations import Deviation
    from definet_flows.report.reading import Contents
    from definet_flows.schemas import FloatArray

DRAWN = 3000
"""Most atoms that are drawn; all atoms count in the lines and numbers."""
BIN = 0.5
NEAR = 4.0
"""Å; atoms nearer than this to a defect site have a colour of their own in the parity of a single pre-relaxer"""

_SEED = 20250501
_FLOOR = 1e-4  # Å; lower values are drawn there on the logarithmic axis
_MEDIAN = 50
_QUANTILES = (("median", _MEDIAN), ("95th percentile", 95))
_NOTHING = "no relaxation from a prediction has converged"


def accuracy_charts(contents: Contents) -> list[Chart]:
    """Return the figures of errors in the order of the page."""
    atoms = {card.label: contents.deviations[card.key] for card in contents.cards if card.key in contents.deviations}
    return [_by_distance(atoms, contents.relaxations), _parity(atoms)]


def _by_distance(atoms: Mapping[str, Deviation], relaxations: int) -> Chart:
    key, title = "error-distance", "Error against distance to the nearest defect"
    if not atoms:
        return left_out(key, title, _NOTHING)
    every = together([*atoms.values()])
    error, drawn = every.error, _sample(np.arange(len(every.distance)), DRAWN)
    some = _QUANTILES[: 1 if len(atoms) > 1 else None]
    series = _quantiles("no prediction", "unrelaxed", every.distance, np.linalg.norm(every.relaxed, axis=1), some)
    for number, (label, own) in enumerate(atoms.items()):
        series += _quantiles(label, "predicted", own.distance, own.error, some, number)
    series.append(Points("atoms", "neutral", every.distance[drawn], np.maximum(error[drawn], _FLOOR), faint=True))
    return Chart(
        key=key,
        title=title,
        caption="Distance of each atom's predicted position from where the relaxation from the prediction ended, "
        f"in bins of {BIN:g} Å; orange: the same of the unrelaxed position, the error without a prediction. "
        f"{len(error):,} atoms of {relaxations:,} converged relaxations, {len(drawn):,} drawn; values below "
        f"{_FLOOR:g} Å are drawn there.",
        x="distance to the nearest defect site [Å]",
        y="|predicted - relaxed| [Å]",
        log=True,
        series=tuple(series),
    )


def _quantiles(
    name: str,
    role: Role,
    distance: FloatArray,
    values: FloatArray,
    quantiles: Sequence[tuple[str, int]],
    number: int = 0,
) -> list[Points]:
    """Return a line for each quantile over the bins."""
    bins = np.floor(distance / BIN).astype(int)
    present = np.unique(bins)
    return [
        Points(
            name=f"{name}: {words}",
            role=role,
            x=(present + 0.5) * BIN,
            y=np.maximum([np.percentile(values[bins == k], percent) for k in present], _FLOOR),
            line="solid" if percent == _MEDIAN else "dash",
            marks=False,
            number=number,
        )
        for words, percent in quantiles
    ]


def _parity(atoms: Mapping[str, Deviation]) -> Chart:
    key, title = "parity", "Parity of displacements"
    if not atoms:
        return left_out(key, title, _NOTHING)
    series = _near_and_far(*atoms.values()) if len(atoms) == 1 else _each(atoms)
    drawn = sum(len(points.y) for points in series) // 3
    return Chart(
        key=key,
        title=title,
        caption=f"Components of the displacement from the unrelaxed site. {_numbers(atoms)} "
        f"{drawn:,} of {sum(len(own.distance) for own in atoms.values()):,} atoms drawn, half of them near a defect "
        "where there are as many.",
        x="displacement by the relaxation [Å]",
        y="predicted displacement [Å]",
        diagonal=True,
        series=tuple(series),
    )


def _near_and_far(atoms: Deviation) -> list[Points]:
    far, near = _chosen(atoms, DRAWN // 3)
    kinds: Sequence[tuple[str, Role, npt.NDArray[np.int64]]] = (
        (f"atoms beyond {NEAR:g} Å of a defect", "neutral", far),
        (f"atoms within {NEAR:g} Å", "predicted", near),
    )
    return [_components(name, role, atoms, which) for name, role, which in kinds if len(which)]


def _each(atoms: Mapping[str, Deviation]) -> list[Points]:
    most = DRAWN // 3 // len(atoms)
    return [
        _components(label, "predicted", own, np.concatenate(_chosen(own, most)), number)
        for number, (label, own) in enumerate(atoms.items())
    ]


def _chosen(atoms: Deviation, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows of atoms that are drawn: far from a defect, and near."""
    far, near = np.flatnonzero(atoms.distance >= NEAR), np.flatnonzero(atoms.distance < NEAR)
    return _sample(far, most), _sample(near, most)


def _components(name: str, role: Role, atoms: Deviation, rows: npt.NDArray[np.int64], number: int = 0) -> Points:
    return Points(name, role, atoms.relaxed[rows].ravel(), atoms.predicted[rows].ravel(), faint=True, number=number)


def _numbers(atoms: Mapping[str, Deviation]) -> str:
    """Return the mean errors over all atoms in words, beside those without a prediction on the same relaxations."""
    errors = {
        label: (np.abs(own.predicted - own.relaxed).mean(), np.abs(own.relaxed).mean()) for label, own in atoms.items()
    }
    each = (f"{label} {error:.4f} Å (no prediction: {nothing:.4f} Å)" for label, (error, nothing) in errors.items())
    return f"Mean |component| error over all atoms: {'; '.join(each)}."


def _sample(which: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of them, the same each time."""
    if len(which) <= most:
        return which
    return np.sort(np.random.default_rng(_SEED).choice(which, most, replace=False))
