"""Distinct predictions of a network: each of its members, asked from slightly broken symmetry, clustered.

A network is equivariant: from a symmetric start it predicts a symmetric end, so no Jahn-Teller or off-centre
distortion. Measured: docs/notes/minima.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from definet_flows.defects import nodes, unrelaxed_positions
from definet_flows.defects.sites.symmetry import stabilizer
from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host
from definet_flows.starts.gate import distance_to_defects
from definet_flows.stores.analysis.pairs import SAME_DISTANCE, Images, field_distance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from definet_flows.starts.network import NetworkPreRelaxer
    from definet_flows.starts.proposals import Proposal

BROKEN = 0.04
"""Length of the random displacements that break the symmetry, Å: less than `SAME_DISTANCE`, so that a network that
carries them along makes no distinct prediction."""
NEAR = 3.5
"""Only atoms within this distance of an edited site or inserted atom are displaced, Å."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """A distinct prediction.

    Attributes
    ----------
    proposal
        The first sample that led there.
    members
        Number of samples that led there.
    """

    proposal: Proposal
    members: int = 1


def sampled(
    network: NetworkPreRelaxer, host: Host, configuration: Configuration, first: Proposal, samples: int
) -> list[Sampled]:
    """Return the distinct ones among a proposal and further samples, each from a start of its own.

    A sample lies where an earlier sample lies if no atom is `SAME_DISTANCE` or farther away, up to the symmetry of the
    configuration and a rigid shift: the rule by which two ends are the same minimum. The starts are random and the same
    on every call; more samples go on from fewer.

    Parameters
    ----------
    network
        Its members are asked in turn.
    first
        Its proposal from the unrelaxed start; counts as the first sample.
    samples
        Number of samples, the first included.

    Returns
    -------
    list of Sampled
        That of `first`, then the others: most members first, of equals that which came earlier.
    """
    found = [Sampled(first)]
    if first.displacements is None or not configuration.edits:
        return found
    sites = unrelaxed_positions(host, configuration)
    atoms = nodes(host, configuration)[1] != VACANCY
    images = _images(host, configuration)
    starts = list(broken(host, configuration, samples - 1))
    for proposal in network.sample(host, configuration, starts):
        if proposal.displacements is None:
            continue
        fields = ((known.proposal.displacements, proposal.displacements) for known in found)
        apart = [field_distance(host.lattice, sites, a, b, atoms, images)[0] for a, b in fields if a is not None]
        nearest = int(np.argmin(apart))
        if apart[nearest] < SAME_DISTANCE:
            found[nearest] = replace(found[nearest], members=found[nearest].members + 1)
        else:
            found.append(Sampled(proposal))
    return [found[0], *sorted(found[1:], key=lambda one: -one.members)]


def broken(host: Host, configuration: Configuration, n: int) -> Iterator[FloatArray]:
    """Yield starts whose atoms near the defects are displaced at random, the same on every call, Å, [n_rows, 3]."""
    markers = nodes(host, configuration)[1]
    near = np.ones(len(markers), dtype=bool)  # inserted atoms, too
    near[: host.n_sites] = distance_to_defects(host, configuration) < NEAR
    near &= markers != VACANCY
    rng = np.random.default_rng(0)
    for _ in range(n):
        drawn = rng.normal(size=(len(markers), 3))
        yield BROKEN * near[:, None] * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _images(host: Host, configuration: Configuration) -> Images:
    """Return the operations of a configuration; None for a host that has lost its symmetry."""
    try:
        return stabilizer(host, configuration)
    except InputError:
        return None
