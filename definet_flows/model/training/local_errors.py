"""Errors of local displacements: what a prediction is off by, structure by structure, as `predict` would apply it."""

from __future__ import annotations

import numpy as np

from definet_flows.model.data.archive import PairSet
from definet_flows.model.inference.predict import pair_displacements, pristine_displacements
from definet_flows.model.inference.uncertainty import defect_motion
from definet_flows.model.network.network import Network
from definet_flows.schemas import VACANCY, FloatArray

NOT_FINITE = 100.0
"""Å; stands for the error of an output that is no number."""


def local_errors(network: Network | None, pairs: PairSet, split: str) -> FloatArray:
    """Return the mean |component| error of each entry of a split, over its atoms, Å, [n].

    Parameters
    ----------
    network
        None: no displacement at all, as for charged cells and inserted atoms that a network does not know.
    pairs
        `relaxed` relative to the relaxed host, the mean over atoms removed, as `fine_tune` takes it.
    split
        Which entries.

    Returns
    -------
    ndarray
        `NOT_FINITE` where the output is not finite.
    """
    entries = pairs.split(split)
    markers, truth = pairs.markers[entries], pairs.relaxed[entries]
    predicted = np.zeros(truth.shape)
    if network is not None and len(entries) and (network.config.inserted or not pairs.inserted):
        moved = pair_displacements(network, pairs, entries)
        predicted = defect_motion(moved, pristine_displacements(network, pairs), markers)
        if not network.config.charges:
            predicted[pairs.charges_of(entries) != 0] = 0.0  # the gate lets no such proposal pass
    atoms = (markers != VACANCY)[..., None]
    errors = (np.abs(predicted - truth) * atoms).sum((1, 2)) / (3 * atoms.sum((1, 2)))
    found: FloatArray = np.where(np.isfinite(errors), errors, NOT_FINITE)
    return found
