"""What a pre-relaxer is: it says where the atoms of a configuration end, how well it knows, or why it cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from definet_flows.schemas import Configuration, FloatArray, Gate, Host


@dataclass(frozen=True, eq=False)
class Proposal:
    """Where a pre-relaxer expects the atoms of a configuration, before the gate.

    Attributes
    ----------
    displacements
        Per row (pristine sites, placeholders included, then inserted atoms), Å, [n_rows, 3]: what to add to the
        unrelaxed positions on the relaxed host. None without a proposal.
    seconds
        Wall time that the proposal took, a batch's shared out evenly; None if unknown.
    core_seconds
        The same times the processor cores that were busy; None if unknown.
    device
        Device that computed it, such as "cpu".
    uncertainty
        Expected mean |component| error, Å; None where the pre-relaxer knows none.
    error
        Why there is no proposal.
    note
        What a reader must know about the proposal, such as "charge 0 taken for charge 1".
    learned_from
        Hash of what this proposal was learned from, such as the records behind a field; empty where the key says it.
    """

    displacements: FloatArray | None
    seconds: float | None = None
    core_seconds: float | None = None
    device: str = "cpu"
    uncertainty: float | None = None
    error: str | None = None
    note: str = ""
    learned_from: str = ""


class PreRelaxer(Protocol):
    """A way to a start: the network, recorded fields, a universal potential, or a chain of them."""

    @property
    def name(self) -> str:
        """Name that a user gives, such as "definet", "fields" or "potential:sevennet"."""

    @property
    def key(self) -> str:
        """Identity in the ids of predictions and records: what must change if relaxations shall be repeated."""

    @property
    def state(self) -> str:
        """Hash of everything that proposals and verdicts depend on, what was learned from included."""

    @property
    def slow(self) -> bool:
        """Whether a proposal takes seconds or more: each is stored before the next begins."""

    def propose(self, host: Host, base: FloatArray, configurations: Sequence[Configuration]) -> list[Proposal]:
        """Return a proposal for each configuration, in order.

        Parameters
        ----------
        host
            The bulk supercell as given.
        base
            Its sites as relaxed by the engine, Å, [n_sites, 3].
        configurations
            What is edited. A configuration that cannot be proposed for is a Proposal with an `error`.
        """

    def judge(self, host: Host, configuration: Configuration, base: FloatArray, proposal: Proposal) -> Gate:
        """Return the verdict on a proposal."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A finished relaxation that a pre-relaxer may learn from.

    Attributes
    ----------
    record_id
        Id of its record.
    host
        The bulk supercell as given, which may be another than that of the configuration to be proposed for.
    configuration
        What was edited in it.
    displacements
        Relaxed minus unrelaxed positions on the relaxed host, per row, Å, [n_rows, 3]; zero for vacancies.
    energy
        Energy of the end, eV; the lowest of several ends counts.
    """

    record_id: str
    host: Host
    configuration: Configuration
    displacements: FloatArray
    energy: float | None = None
