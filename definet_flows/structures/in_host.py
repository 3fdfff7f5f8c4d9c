"""Prediction for crystals as they come: any host, any order of atoms, any frame and image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from definet_flows.defects import Recovered
from definet_flows.errors import InputError
from definet_flows.schemas import Configuration, FloatArray, Gate, Host
from definet_flows.starts.proposals import PreRelaxer, Proposal
from definet_flows.starts.samples import Sampled
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.match import Found, HostFinder

Sampler = Callable[[Host, Configuration, Proposal], list[Sampled]]
"""Returns a proposal and its alternatives."""

_DISPLACED = 0.3  # Å; atoms that start farther from their sites are worth a note


@dataclass(frozen=True, eq=False)
class PredictedCrystal:
    """What became of one crystal.

    Attributes
    ----------
    frac
        New fractional coordinates in the crystal's own frame and image, [n, 3]; None if there is no prediction.
    reason
        Why there is none, or why the gate objects.
    largest
        Largest displacement of an atom, Å.
    start
        Largest distance of an atom from its site before, Å.
    remark
        What a reader must know of the crystal as it was read.
    members
        Number of samples that lead to this prediction.
    alternatives
        What else samples lead to and the gate does not reject, most members first.
    """

    frac: FloatArray | None
    reason: str
    gate: Gate | None = None
    found: Found | None = None
    defects: str = ""
    uncertainty: float | None = None
    largest: float | None = None
    start: float | None = None
    remark: str = ""
    members: int = 1
    alternatives: tuple[PredictedCrystal, ...] = ()

    @property
    def rejected(self) -> bool:
        """Whether the gate rejects the prediction."""
        return self.gate is not None and self.gate.verdict == "rejected"

    @property
    def note(self) -> str:
        """What a reader must know."""
        if self.start is None or self.start <= _DISPLACED:
            return self.remark
        away = f"atoms start up to {self.start:.2f} Å from the host's sites; displacements were added to that"
        return "; ".join(filter(None, (self.remark, away)))


def predict_crystals(
    prerelaxer: PreRelaxer, finder: HostFinder, crystals: Sequence[Crystal], sampler: Sampler | None = None
) -> list[PredictedCrystal]:
    """Predict crystals of any hosts, in order; what cannot be predicted is a result with its reason.

    The displacements, those of the pre-relaxer, are added to the positions that the atoms have. Without a sampler
    there are no alternatives.
    """
    results: list[PredictedCrystal | None] = [None] * len(crystals)
    groups: dict[int, list[tuple[int, Found, Recovered]]] = {}
    for k, crystal in enumerate(crystals):
        try:
            found, recovered = finder.find(crystal)
        except InputError as error:
            results[k] = PredictedCrystal(None, str(error))
            continue
        groups.setdefault(id(found), []).append((k, found, recovered))
    for group in groups.values():
        host = group[0][1].host
        configurations = [recovered.configuration for _, _, recovered in group]
        proposals = prerelaxer.propose(host, host.cartesian, configurations)
        for (k, found, recovered), proposal in zip(group, proposals, strict=True):
            samples = [Sampled(proposal)]
            if sampler is not None:
                samples = sampler(host, recovered.configuration, proposal)
            first, *others = (_judged(prerelaxer, crystals[k], found, recovered, one) for one in samples)
            results[k] = replace(first, alternatives=tuple(one for one in others if not one.rejected))
    return [result for result in results if result is not None]


def _judged(
    prerelaxer: PreRelaxer, crystal: Crystal, found: Found, recovered: Recovered, sample: Sampled
) -> PredictedCrystal:
    """Return what a proposal makes of a crystal."""
    base = recovered.positions[: found.host.n_sites]
    gate = prerelaxer.judge(found.host, recovered.configuration, base, sample.proposal)
    return replace(_moved(crystal, found, recovered, sample.proposal, gate), members=sample.members)


def _moved(crystal: Crystal, found: Found, recovered: Recovered, raw: Proposal, gate: Gate) -> PredictedCrystal:
    """Put displacements of sites on the atoms of the crystal, in its own frame."""
    host, name = found.host, recovered.configuration.name
    if raw.displacements is None:
        return PredictedCrystal(None, raw.error or "", gate=gate, found=found, defects=name)
    moved = np.zeros_like(recovered.positions)
    moved[: len(raw.displacements)] = raw.displacements
    step = moved[recovered.permutation]
    frac = crystal.moved(recovered.frame.back(step))
    step = (frac - crystal.frac) @ crystal.lattice
    offset = recovered.positions[: host.n_sites] - host.cartesian
    return PredictedCrystal(
        frac=frac,
        reason=gate.reason,
        gate=gate,
        found=found,
        defects=name,
        uncertainty=raw.uncertainty,
        largest=float(np.linalg.norm(step, axis=1).max(initial=0.0)),
        start=float(np.linalg.norm(offset, axis=1).max()),
        remark="; ".join(filter(None, (_remark(crystal), raw.note))),
    )


def _remark(crystal: Crystal) -> str:
    """Return what a reader must know of a crystal as it was read."""
    held = f"{crystal.held.atoms} atoms are fixed and stay where they are" if crystal.held else ""
    return "; ".join(filter(None, (crystal.note, held)))
