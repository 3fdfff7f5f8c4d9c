"""Chains of two pre-relaxers: the second begins where the first ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from definet_flows.schemas import Configuration, FloatArray, Gate, Host, content_hash
from definet_flows.starts.proposals import PreRelaxer, Proposal


class Continuing(PreRelaxer, Protocol):
    """A pre-relaxer that can begin where another ends."""

    def propose_from(
        self,
        host: Host,
        base: FloatArray,
        configurations: Sequence[Configuration],
        starts: Sequence[FloatArray | None],
    ) -> list[Proposal]:
        """Return a proposal for each configuration, in order.

        Parameters
        ----------
        host, base, configurations
            See `PreRelaxer.propose`.
        starts
            Of each configuration, displacements to begin with, Å, [n_rows, 3]; None: unrelaxed. The displacements
            proposed contain them.
        """


@dataclass(frozen=True, eq=False)
class ChainPreRelaxer:
    """Two pre-relaxers in a row, such as `fields+potential`.

    A configuration that the first cannot propose for, or whose proposal its gate rejects, gets no proposal: the second
    alone is another pre-relaxer.

    Parameters
    ----------
    first
        Any pre-relaxer.
    second
        Goes on from the displacements of the first.
    """

    first: PreRelaxer
    second: Continuing

    @property
    def name(self) -> str:
        """Both names, such as "definet+potential:sevennet"."""
        return f"{self.first.name}+{self.second.name}"

    @property
    def key(self) -> str:
        """Hash of both keys, in order."""
        return content_hash("chain", self.first.key, self.second.key)

    @property
    def slow(self) -> bool:
        """Whether one of the two is slow."""
        return self.first.slow or self.second.slow

    @property
    def state(self) -> str:
        """Hash of both states, in order."""
        return content_hash("chain", self.first.state, self.second.state)

    def propose(self, host: Host, base: FloatArray, configurations: Sequence[Configuration]) -> list[Proposal]:
        """Return a proposal for each configuration; see `PreRelaxer`."""
        begun = [
            self._judged(host, base, configuration, proposal)
            for configuration, proposal in zip(
                configurations, self.first.propose(host, base, configurations), strict=True
            )
        ]
        fit = [k for k, proposal in enumerate(begun) if proposal.displacements is not None]
        ends = self.second.propose_from(
            host, base, [configurations[k] for k in fit], [begun[k].displacements for k in fit]
        )
        for k, end in zip(fit, ends, strict=True):
            begun[k] = _joined(begun[k], end)
        return begun

    def judge(self, host: Host, configuration: Configuration, base: FloatArray, proposal: Proposal) -> Gate:
        """Return the second's verdict; the first's gate has let pass what the second began from."""
        return self.second.judge(host, configuration, base, proposal)

    def _judged(self, host: Host, base: FloatArray, configuration: Configuration, proposal: Proposal) -> Proposal:
        """Return a proposal of the first, without displacements if its gate rejects it."""
        name = self.first.name
        if proposal.displacements is None:
            return replace(proposal, error=f"{name}: {proposal.error}")
        gate = self.first.judge(host, configuration, base, proposal)
        if gate.verdict != "rejected":
            return proposal
        return replace(proposal, displacements=None, uncertainty=None, error=f"{name}: {gate.reason}")


def _joined(begun: Proposal, end: Proposal) -> Proposal:
    """Return the end of a chain, with what is to be known of its beginning."""
    note = "; ".join(filter(None, (begun.note, end.note)))
    return replace(
        end,
        seconds=_both(begun.seconds, end.seconds),
        core_seconds=_both(begun.core_seconds, end.core_seconds),
        note=note,
        learned_from=begun.learned_from,
    )


def _both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
