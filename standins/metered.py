"""`definet` with the spring engine, and with notes of the processor time of predictions and of the start.

    python -m standins.metered run MoS2 --preset 2dmd-low --engine spring ...

`SPRING_LOG` names the file of the notes (`engine_log.py`). `SCALE_SIZE` is the number of configurations, spread over
all that the options select.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from standins.copper import write_weights
from standins.engine_log import log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from definet_flows.schemas import Configuration, FloatArray, Host
    from definet_flows.starts.proposals import Proposal
    from definet_flows.workflows.campaign.contents import Campaign

ENGINE = "spring"
SIZE = "SCALE_SIZE"
ELEMENTS = (16, 34, 42, 74)
"""S, Se, Mo and W: all that the low-density preset of MoS2 puts anywhere."""


def small_weights(path: Path) -> Path:
    """Write a small untrained network that knows MoS2, unless it is there: real predictions of milliseconds."""
    from definet_flows.hosts.source import load_structure  # noqa: PLC0415 - jobflow's settings may not be set yet

    if not path.exists():
        write_weights(path, load_structure("MoS2"), elements=ELEMENTS)
    return path


def meter(began: float | None = None) -> None:
    """Note the processor time of every prediction from now on, and what this process took to start."""
    from definet_flows.starts.network import NetworkPreRelaxer  # noqa: PLC0415 - as above

    propose = NetworkPreRelaxer.propose

    def metered(
        self: NetworkPreRelaxer, host: Host, base: FloatArray, configurations: Sequence[Configuration]
    ) -> list[Proposal]:
        import definet_flows.model.inference.predict  # noqa: F401, PLC0415 - loads torch, which is no prediction

        first = time.process_time()
        made = propose(self, host, base, configurations)
        log("predicted", cpu=time.process_time() - first, configurations=len(configurations))
        return made

    NetworkPreRelaxer.propose = metered  # type: ignore[method-assign]  # of this process alone
    if began is not None:
        log("started", cpu=time.process_time() - began)


def portion(campaign: Campaign, size: int) -> Campaign:
    """Return a campaign of `size` of the configurations, spread over all classes; its controls are among them."""
    every = campaign.configurations
    return replace(campaign, configurations=tuple(every[k * len(every) // size] for k in range(size)))


def main() -> None:
    """Run a command of `definet`."""
    from definet_flows.cli import main as definet  # noqa: PLC0415
    from definet_flows.workflows import DefectFlowMaker  # noqa: PLC0415
    from definet_flows.workflows.campaign import local  # noqa: PLC0415
    from definet_flows.workflows.engines.base import ENGINES  # noqa: PLC0415
    from standins.spring_engine import SpringRelaxMaker  # noqa: PLC0415

    ENGINES[ENGINE] = SpringRelaxMaker
    whole, run_here = DefectFlowMaker.campaign, local.run_here
    size = int(os.environ[SIZE])
    DefectFlowMaker.campaign = lambda maker, host: portion(whole(maker, host), size)  # type: ignore[method-assign]

    def noted(*given: object) -> object:
        meter(0.0)
        return run_here(*given)  # type: ignore[arg-type]

    local.run_here = noted  # type: ignore[assignment]
    definet()


if __name__ == "__main__":
    main()
