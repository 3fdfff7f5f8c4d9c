"""The pool of the strategies: fingerprints and uncertainties of candidates, and cost of relaxations so far."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Protocol

import numpy as np
from pymatgen.core import Lattice
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.schemas import VACANCY
from definet_flows.workflows.learning.acquisition import Pool, StepModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from definet_flows.schemas import Configuration, DefectRecord, FloatArray, Host

_SHELLS = np.array([2.0, 3.5, 5.0, 7.0])  # Å; where pairs of defects are counted
_WIDTH = 1.0  # Å


class PoolPrediction(Protocol):
    """The part of a prediction that strategies read."""

    @property
    def uncertainty(self) -> float | None:
        """Expected mean |error|, Å; None where the weights give none."""


def make_pool(
    host: Host,
    configurations: Sequence[Configuration],
    predictions: Sequence[PoolPrediction],
    steps: StepModel,
    known: Sequence[Configuration] = (),
) -> Pool:
    """Return the pool of the candidates.

    Parameters
    ----------
    predictions
        A prediction for each configuration.
    steps
        See `fit_steps`.
    known
        Configurations that the network learned from.
    """
    uncertainty = np.array([np.nan if raw.uncertainty is None else raw.uncertainty for raw in predictions])
    rows = fingerprints(host, [*configurations, *known])
    return Pool(
        fingerprints=rows[: len(configurations)],
        known=rows[len(configurations) :],
        uncertainty=None if np.isnan(uncertainty).any() else uncertainty,
        steps=steps,
    )


def fingerprints(host: Host, configurations: Sequence[Configuration]) -> FloatArray:
    """Return fingerprints of configurations of a host, [n, d]: numbers of defects by kind, and of pairs by distance.

    The same for all symmetry images. The first columns count the kinds of defects, the others the pairs of each two
    kinds around some distances.
    """
    kinds = sorted({edit.name for configuration in configurations for edit in configuration.edits})
    columns = {pair: k for k, pair in enumerate(combinations_with_replacement(range(len(kinds)), 2))}
    index = {name: k for k, name in enumerate(kinds)}
    out = np.zeros((len(configurations), len(kinds) + len(columns) * len(_SHELLS)))
    lattice, sites = Lattice(host.lattice), np.array(host.frac_coords)
    for row, configuration in zip(out, configurations, strict=True):
        names = [index[edit.name] for edit in configuration.edits]
        np.add.at(row, names, 1.0)
        if len(names) < 2:  # noqa: PLR2004 - a pair
            continue
        frac = np.array([sites[e.site] if e.site is not None else e.position for e in configuration.edits])
        _, squared = pbc_shortest_vectors(lattice, frac, frac, return_d2=True)
        near = np.exp(-np.square((np.sqrt(squared)[..., None] - _SHELLS) / _WIDTH) / 2)
        pairs = row[len(kinds) :].reshape(len(columns), len(_SHELLS))
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
            pairs[columns[min(names[i], names[j]), max(names[i], names[j])]] += near[i, j]
    return out


def fit_steps(records: Iterable[DefectRecord]) -> StepModel:
    """Fit ionic steps to the errors of the starts of finished relaxations, from records of either start."""
    errors, steps, seconds = [], [], []
    for record in records:
        if record.ledger is None or record.status != "done" or not record.ledger.converged:
            continue
        error, taken = start_error(record), record.ledger.ionic_steps
        if error is None or taken is None:
            continue
        errors.append(error)
        steps.append(taken)
        if record.ledger.core_hours:
            seconds.append(3600 * record.ledger.core_hours / taken)
    cost = float(np.median(seconds)) if seconds else StepModel.seconds
    return StepModel.fit(np.array(errors), np.array(steps, dtype=float), cost)


def start_error(record: DefectRecord) -> float | None:
    """Return the mean |component| of relaxed minus start position over the atoms, Å, without their mean shift."""
    sites = record.sites
    start = None if sites is None else (sites.predicted if record.start == "predicted" else sites.unrelaxed)
    if sites is None or sites.relaxed is None or start is None:
        return None
    atoms = [marker != str(VACANCY) for marker in sites.markers]
    moved = (sites.relaxed - start)[atoms]
    return float(np.abs(moved - moved.mean(0)).mean())
