"""Whether a relaxation began on the host's sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.defects import Recovered, site_operations, unrelaxed_positions

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray, Host

ON_SITE = 0.02
"""Å; atoms of an unrelaxed start are nearer to their sites, those of the sublattice's own shift aside."""

_FEWEST = 3  # atoms of a sublattice whose common shift differs from a displacement


def farthest_off_site(host: Host, recovered: Recovered) -> float:
    """Return how far the farthest atom of a structure is off its site, Å, as `off_site` has it."""
    return float(np.linalg.norm(off_site(host, recovered), axis=1).max(initial=0.0))


def off_site(host: Host, recovered: Recovered) -> FloatArray:
    """Return how far each atom of a structure is off its site, Å, [n_atoms, 3]; zero for inserted atoms.

    Where all atoms of a sublattice (sites that translations take to each other) are off by the same, as in a host of
    another functional, they are on their sites.
    """
    off = (recovered.positions - unrelaxed_positions(host, recovered.configuration))[recovered.permutation]
    on_site = np.flatnonzero(recovered.permutation < host.n_sites)
    operations = site_operations(host)
    shifts = [k for k, rotation in enumerate(operations.rotations) if np.allclose(rotation, np.eye(3), atol=1e-6)]
    sublattice = operations.permutations[shifts].min(axis=0)[recovered.permutation[on_site]]
    for head in np.unique(sublattice):
        atoms = on_site[sublattice == head]
        off[atoms] -= _common(off[atoms])
    return off


def _common(shifts: FloatArray) -> FloatArray:
    """Return the common part of most displacement vectors [n, 3]; zero for a few vectors."""
    return np.asarray(np.median(shifts, axis=0) if len(shifts) >= _FEWEST else np.zeros(3))
