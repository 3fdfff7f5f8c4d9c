"""Validity gate: whether a prediction may start a relaxation.

The numbers come from DFT-relaxed defects of six 2D hosts (doi:10.5281/zenodo.14027373): what these never show is
rejected, what they seldom show is flagged.
"""

from __future__ import annotations

import numpy as np
from pymatgen.core import Element, Lattice
from pymatgen.util.coord import pbc_shortest_vectors
from vesin import NeighborList

from definet_flows.defects import nodes, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.hosts.atoms import CLOSEST
from definet_flows.hosts.radii import covalent_radius
from definet_flows.model.inference.checkpoint import Checkpoint
from definet_flows.model.inference.domain import outside
from definet_flows.schemas import INSERTED, VACANCY, Configuration, FloatArray, Gate, Host
from definet_flows.starts.proposals import Proposal

REJECT_DISTANCE, FLAG_DISTANCE = 0.72, 0.80
"""Shortest distance in units of the sum of covalent radii (Cordero, doi:10.1039/b801115j)."""
ON_TOP = 0.4
"""The same before any relaxation: an inserted atom this near another, or nearer than `CLOSEST`, is no start."""
REJECT_MOVE, FLAG_MOVE = 4.5, 1.0
"""Largest displacement of any atom, Å."""
FAR, REJECT_FAR_MOVE = 6.0, 0.7
"""An atom farther than the first from every defect may move by the second at most, Å."""
REJECT_UNCERTAINTY, FLAG_UNCERTAINTY = 0.35, 0.10
"""Expected mean |component| error, Å, where the model states it. On validation structures of the six hosts the
shipped model never states more than 0.18 Å: twice that is a configuration unlike any it learned from."""


def judge(
    checkpoint: Checkpoint,
    host: Host,
    configuration: Configuration,
    base: FloatArray,
    prediction: Proposal,
    *,
    allow_unseen_host: bool = False,
) -> Gate:
    """Return the verdict on a proposal of the network.

    Parameters
    ----------
    base
        Host positions that the displacements are added to, Å, [n_sites, 3].
    allow_unseen_host
        Let pass a host that the model never saw, or a model whose training domain is unknown.
    """
    impossible = _impossible(host, configuration, prediction)
    if impossible:
        return Gate(verdict="rejected", reason=impossible)
    unknown = "; ".join(outside(checkpoint.card, host, configuration, allow_unseen_host=allow_unseen_host))
    if unknown:
        return Gate(verdict="rejected", in_domain=False, reason=unknown)
    return judge_proposal(host, configuration, base, prediction)


def judge_proposal(host: Host, configuration: Configuration, base: FloatArray, proposal: Proposal) -> Gate:
    """Return the verdict on a proposal of any pre-relaxer, by its geometry and its uncertainty."""
    impossible = _impossible(host, configuration, proposal) or _on_top(host, configuration)
    if impossible:
        return Gate(verdict="rejected", reason=impossible)
    if proposal.displacements is None:
        return Gate(verdict="rejected", reason=f"no prediction: {proposal.error}")
    verdict = judge_geometry(host, configuration, base, proposal.displacements)
    return _doubted(verdict, proposal.uncertainty)


def _impossible(host: Host, configuration: Configuration, prediction: Proposal) -> str:
    """Return what is wrong with the input: edits that the host cannot have, a negative or infinite error."""
    try:
        nodes(host, configuration)
    except InputError as error:
        return str(error)
    if prediction.uncertainty is not None and not 0 <= prediction.uncertainty < np.inf:
        return f"its uncertainty is {prediction.uncertainty} Å: no expected error"
    return ""


def _on_top(host: Host, configuration: Configuration) -> str:
    """Return which inserted atom starts on top of another atom; empty if none does."""
    if not any(edit.marker == INSERTED for edit in configuration.edits):
        return ""
    least = CLOSEST / ON_TOP  # Å; hydrogen is so small that its sum of radii would let pass what no file may hold
    ratio, pair = shortest_distance(host, configuration, unrelaxed_positions(host, configuration), least)
    return f"unrelaxed {pair} on top of each other" if ratio < ON_TOP else ""


def _doubted(verdict: Gate, uncertainty: float | None) -> Gate:
    """Return a verdict on the geometry, made worse by a large uncertainty, Å."""
    if uncertainty is None or uncertainty <= FLAG_UNCERTAINTY or verdict.verdict == "rejected":
        return verdict
    rejected = uncertainty > REJECT_UNCERTAINTY
    limit = REJECT_UNCERTAINTY if rejected else FLAG_UNCERTAINTY
    doubt = f"expected mean error {uncertainty:.2f} Å, above {limit} Å"
    if rejected:
        return verdict.model_copy(update={"verdict": "rejected", "reason": doubt})
    return verdict.model_copy(update={"verdict": "flagged", "reason": "; ".join(filter(None, (verdict.reason, doubt)))})


def judge_geometry(host: Host, configuration: Configuration, base: FloatArray, moved: FloatArray) -> Gate:
    """Return the verdict on displacements alone, Å: base [n_sites, 3], displacements of all rows [n_rows, 3].

    Of 2,700 structures relaxed by DFT at high density and 1,000 at low it rejects none (`benchmarks/gate.py`).
    """
    if not (np.isfinite(base).all() and np.isfinite(moved).all()):
        return Gate(verdict="rejected", reason="positions or displacements are no finite numbers")
    positions = unrelaxed_positions(host, configuration)
    positions[: host.n_sites] = base
    positions[: len(moved)] += moved
    ratio, pair = shortest_distance(host, configuration, positions)
    atoms = nodes(host, configuration)[1] != VACANCY
    size = np.where(atoms[: len(moved)], np.linalg.norm(moved, axis=1), 0.0)
    far = np.where(distance_to_defects(host, configuration) > FAR, size[: host.n_sites], 0.0)
    close = f"{pair} at {ratio:.2f} of the sum of covalent radii"
    moves = f"site {size.argmax()} moves by {size.max():.2f} Å"
    if ratio < REJECT_DISTANCE:
        return Gate(verdict="rejected", reason=f"{close}, below {REJECT_DISTANCE}")
    if size.max() > REJECT_MOVE:
        return Gate(verdict="rejected", reason=f"{moves}, above {REJECT_MOVE} Å")
    if far.max() > REJECT_FAR_MOVE:
        reason = f"site {far.argmax()}, over {FAR:.0f} Å from every defect, moves by {far.max():.2f} Å"
        return Gate(verdict="rejected", reason=f"{reason}, above {REJECT_FAR_MOVE} Å")
    flags = [text for text, raised in ((close, ratio < FLAG_DISTANCE), (moves, size.max() > FLAG_MOVE)) if raised]
    return Gate(verdict="flagged" if flags else "accepted", reason="; ".join(flags))


def shortest_distance(
    host: Host, configuration: Configuration, positions: FloatArray, least: float = 0.0
) -> tuple[float, str]:
    """Return the shortest distance in units of the sum of covalent radii, and its pair in words.

    `positions` are Cartesian, placeholders and inserted atoms included, Å, [n_rows, 3]. A sum of radii below `least`
    counts as that, Å.
    """
    numbers, markers = nodes(host, configuration)
    atoms = np.flatnonzero(markers != VACANCY)
    radii = np.array([covalent_radius(z) for z in numbers[atoms].tolist()])
    search = NeighborList(cutoff=2 * FLAG_DISTANCE * float(radii.max()), full_list=False)
    i, j, d = search.compute(
        points=np.ascontiguousarray(positions[atoms]), box=np.array(host.lattice), periodic=True, quantities="ijd"
    )
    if len(d) == 0:
        return np.inf, ""
    ratio = d / np.maximum(radii[i] + radii[j], least)
    k = int(ratio.argmin())
    names = [f"{Element.from_Z(int(numbers[atoms[n]])).symbol} (site {atoms[n]})" for n in (i[k], j[k])]
    return float(ratio[k]), f"{names[0]} and {names[1]} {d[k]:.2f} Å apart,"


def distance_to_defects(host: Host, configuration: Configuration) -> FloatArray:
    """Return each pristine site's distance to the nearest edited site or inserted atom, Å, [n_sites]."""
    frac = np.array(host.frac_coords)
    defects = [frac[e.site] if e.site is not None else np.array(e.position) for e in configuration.edits]
    if not defects:
        return np.full(host.n_sites, np.inf)
    _, squared = pbc_shortest_vectors(Lattice(host.lattice), np.array(defects), frac, return_d2=True)
    nearest: FloatArray = np.asarray(squared, dtype=np.float64).min(0)
    return np.sqrt(nearest)
