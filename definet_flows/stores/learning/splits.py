"""The split of a configuration: drawn from its own content, whatever else is in the store.

The split is drawn for the *motif*: kinds and mutual distances of the defects in a host material. It is the same for all
symmetry images, and for the same defects in a larger supercell of the same material: no motif is
in the training part and in the test part at once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pymatgen.core import Lattice
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.schemas import Configuration, FloatArray, Host, content_hash

Split = Literal["train", "val", "test"]

SHARES: dict[Split, float] = {"test": 0.15, "val": 0.10, "train": 0.75}
"""Expected share of the motifs of every host and density: held out, to choose the epoch, to learn from."""

DENSITIES = (0.02, 0.05, 0.10)
"""Edges of the classes of density, defects per site."""

_OFF_GRID = 0.0137  # in steps of `_STEP`: keeps simple ratios of distances away from where they round
_STEP = 0.1  # of the shortest distance between two sites


class Motifs:
    """Motifs of one host's configurations."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._frac = np.array(host.frac_coords)
        self._lattice = Lattice(host.lattice)
        self._shortest = _shortest_distance(host)

    def motif(self, configuration: Configuration) -> str:
        """Return the identity of the motif; the charge and the supercell do not matter."""
        edits = [(edit.name, self._where(edit.site, edit.position)) for edit in configuration.edits]
        points = np.array([where for _, where in edits]).reshape(-1, 3)
        names = [name for name, _ in edits]
        pairs = []
        if len(points) > 1:
            _, squared = pbc_shortest_vectors(self._lattice, points, points, return_d2=True)
            steps = np.sqrt(np.asarray(squared)) / self._shortest / _STEP
            shells = np.floor(steps + _OFF_GRID + 0.5).astype(int)
            first, second = np.triu_indices(len(points), 1)
            pairs = sorted(
                [*sorted((names[i], names[j])), int(shells[i, j])] for i, j in zip(first, second, strict=True)
            )
        return content_hash("motif", self.host.formula, self.host.dimensionality, sorted(names), pairs)

    def split(self, configuration: Configuration) -> Split:
        """Return the split of a configuration."""
        return split_of_motif(self.motif(configuration))

    def _where(self, site: int | None, position: tuple[float, float, float] | None) -> FloatArray:
        return self._frac[site] if site is not None else np.array(position)


def split_of_motif(motif: str) -> Split:
    """Return the split of a motif."""
    drawn, reached = int(motif, 16) / 16 ** len(motif), 0.0
    for name, share in SHARES.items():
        reached += share
        if drawn < reached:
            return name
    return "train"


def split_of(host: Host, configuration: Configuration) -> Split:
    """Return the split of a configuration: the same now, later and on every machine.

    Parameters
    ----------
    host
        The bulk supercell.
    configuration
        Any placement of its orbit.
    """
    return Motifs(host).split(configuration)


def density_of(n_defects: int, n_sites: int) -> str:
    """Return the density that a configuration is counted under, such as `2-5 %`."""
    index = int(np.digitize(n_defects / n_sites, DENSITIES))
    edges = [0.0, *DENSITIES]
    if index == len(DENSITIES):
        return f"> {100 * edges[-1]:.0f} %"
    return f"{100 * edges[index]:.0f}-{100 * edges[index + 1]:.0f} %"


def _shortest_distance(host: Host) -> float:
    """Return the shortest distance between two sites, Å: the unit of distances in a motif."""
    frac = np.array(host.frac_coords)
    _, squared = pbc_shortest_vectors(Lattice(host.lattice), frac, frac, return_d2=True)
    distance = np.sqrt(np.asarray(squared, dtype=np.float64))
    np.fill_diagonal(distance, np.inf)
    return float(min(distance.min(), *Lattice(host.lattice).abc))
