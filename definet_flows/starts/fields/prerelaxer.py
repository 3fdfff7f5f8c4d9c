"""The pre-relaxer `fields`: starts from recorded relaxations of the same crystal, in any supercell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from definet_flows.defects import nodes
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Gate, Host, content_hash
from definet_flows.starts.fields.errors import mean_size
from definet_flows.starts.fields.library import Library
from definet_flows.starts.fields.propose import propose
from definet_flows.starts.gate import judge_proposal
from definet_flows.starts.proposals import Evidence, Proposal


class FieldsPreRelaxer:
    """Lays recorded displacement fields onto new configurations of the same crystal.

    Each field is carried by the operation of the space group that maps its site. A configuration that was recorded as
    a whole, in any supercell, gets that record's field; any other the sum over its defects, and over its pairs what
    recorded pairs have beyond their two defects. The displacements have no mean over the atoms.

    Parameters
    ----------
    evidence
        Finished relaxations with the same settings. Those of another crystal are ignored.
    pairs
        Whether recorded pairs count beside single defects.
    """

    name = "fields"
    slow = False

    def __init__(self, evidence: Sequence[Evidence], *, pairs: bool = True) -> None:
        self._evidence, self._pairs = tuple(evidence), pairs
        self._libraries: dict[str, Library] = {}

    @property
    def key(self) -> str:
        """The same whatever the evidence: more records do not make relaxations be repeated."""
        return content_hash("fields", *(() if self._pairs else ("singles",)))

    @property
    def state(self) -> str:
        """Hash of the evidence."""
        return content_hash(self.key, sorted(evidence.record_id for evidence in self._evidence))

    def propose(self, host: Host, base: FloatArray, configurations: Sequence[Configuration]) -> list[Proposal]:
        """Return a proposal for each configuration, in order; see `PreRelaxer`."""
        del base  # displacements are those of defects; the host's own motion is none of them
        begun = time.perf_counter()
        library = self._library(host)
        proposals = [propose(library, host, configuration) for configuration in configurations]
        seconds = (time.perf_counter() - begun) / max(1, len(proposals))  # the fit too; scipy solves it on a core
        return [replace(proposal, seconds=seconds, core_seconds=seconds) for proposal in proposals]

    def judge(self, host: Host, configuration: Configuration, base: FloatArray, proposal: Proposal) -> Gate:
        """Return the verdict on a proposal: rejected, too, if its expected error is as large as its motion."""
        gate = judge_proposal(host, configuration, base, proposal)
        error = proposal.uncertainty
        if gate.verdict == "rejected" or error is None or proposal.displacements is None:
            return gate
        motion = mean_size(proposal.displacements, nodes(host, configuration)[1] != VACANCY)
        if error < motion or motion == 0:
            return gate
        reason = f"expected mean error {error:.4f} Å is not below the mean motion of {motion:.4f} Å"
        return Gate(verdict="rejected", reason=reason)

    def _library(self, host: Host) -> Library:
        if host.hash not in self._libraries:
            self._libraries[host.hash] = Library(host, self._evidence, pairs=self._pairs)
        return self._libraries[host.hash]
