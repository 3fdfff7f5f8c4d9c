"""The network as a pre-relaxer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from definet_flows.schemas import DEFINET, content_hash
from definet_flows.starts.proposals import Proposal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.model.network.network import DefiNet
    from definet_flows.schemas import Configuration, FloatArray, Gate, Host


@dataclass(frozen=True, eq=False)
class NetworkPreRelaxer:
    """A checkpoint's network; see `definet_flows.starts.proposals.PreRelaxer`.

    Attributes
    ----------
    checkpoint
        The network with its card.
    allow_unseen_host
        Let the gate pass a host that the network was not trained on.
    """

    checkpoint: Checkpoint
    allow_unseen_host: bool = False
    name: str = DEFINET
    slow: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The sha256 of the weights."""
        return self.checkpoint.sha256

    @property
    def state(self) -> str:
        """Hash of the weights and of what the gate lets pass."""
        return content_hash(self.checkpoint.sha256, self.allow_unseen_host)

    def propose(self, host: Host, base: FloatArray, configurations: Sequence[Configuration]) -> list[Proposal]:
        """Return a proposal for each configuration; the network is shown the host as given."""
        del base
        return self._proposals(host, configurations, None)

    def propose_from(
        self,
        host: Host,
        base: FloatArray,
        configurations: Sequence[Configuration],
        starts: Sequence[FloatArray | None],
    ) -> list[Proposal]:
        """Return a proposal for each configuration that goes on from a start; see `Continuing`."""
        from definet_flows.defects import nodes  # noqa: PLC0415 - pymatgen

        del base
        still = [np.zeros((len(nodes(host, c)[0]), 3)) for c in configurations]
        begun = [none if start is None else start for none, start in zip(still, starts, strict=True)]
        return self._proposals(host, configurations, begun)

    def sample(self, host: Host, configuration: Configuration, starts: Sequence[FloatArray]) -> list[Proposal]:
        """Return a proposal from each start, Å, [n_rows, 3]: the networks that predict for the host in turn."""
        from definet_flows.model.network.network import DefiNet  # noqa: PLC0415 - torch

        asked = self.checkpoint.network.of(host.formula)
        members = [asked] if isinstance(asked, DefiNet) else asked.single
        found: dict[int, Proposal] = {}
        for k, member in enumerate(members):
            rows = range(k, len(starts), len(members))
            begun = [starts[row] for row in rows]
            found |= zip(rows, self._proposals(host, [configuration] * len(rows), begun, member), strict=True)
        return [found[row] for row in range(len(starts))]

    def _proposals(
        self,
        host: Host,
        configurations: Sequence[Configuration],
        starts: Sequence[FloatArray] | None,
        network: DefiNet | None = None,
    ) -> list[Proposal]:
        from definet_flows.model.inference.device import busy_cores  # noqa: PLC0415 - torch
        from definet_flows.model.inference.predict import predict  # noqa: PLC0415

        return [
            Proposal(
                raw.displacements,
                seconds=raw.seconds,
                core_seconds=raw.seconds * busy_cores(raw.device),
                device=raw.device,
                uncertainty=raw.uncertainty,
                error=raw.error,
            )
            for raw in predict(self.checkpoint, host, configurations, starts=starts, network=network)
        ]

    def judge(self, host: Host, configuration: Configuration, base: FloatArray, proposal: Proposal) -> Gate:
        """Return the gate's verdict, the domain of the weights included."""
        from definet_flows.starts.gate import judge  # noqa: PLC0415 - torch

        return judge(self.checkpoint, host, configuration, base, proposal, allow_unseen_host=self.allow_unseen_host)
