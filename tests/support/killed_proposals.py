"""Proposals of a potential for three configurations, in a process to be killed.

Where a file `slow` lies in the folder, the relaxation of the configuration with nickel, the second, hangs for a
minute. Prints `hanging` then.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ase.calculators.emt import EMT

from definet_flows.defects import place
from definet_flows.hosts import make_host
from definet_flows.starts import potential
from definet_flows.workflows.campaign.jobs import predict_batch
from definet_flows.workflows.campaign.prerelaxers import name_prerelaxers
from definet_flows.workflows.recording.cases import Pristine
from standins.copper import CU


class Hanging(EMT):
    """EMT that waits at nickel."""

    def calculate(self, atoms: Any = None, *arguments: Any) -> None:
        """Compute, later."""
        if Path("slow").exists() and "Ni" in atoms.symbols:
            print("hanging", flush=True)
            time.sleep(60)
        super().calculate(atoms, *arguments)


def emt(_name: str = "") -> potential.PotentialPreRelaxer:
    """Return the potential, whatever the name."""
    return potential.PotentialPreRelaxer("potential:emt", Hanging, "emt")


def proposed() -> dict[str, int]:
    """Run the job; return its counts."""
    host = make_host(CU, (2, 2, 2))
    return predict_batch.original(
        Pristine(host=host, base=host.cartesian, source="as given"),
        [place(host, [f"{name}@0"]) for name in ("v_Cu", "Ni_Cu", "Au_Cu")],
        model="none",
        weights="0" * 64,
        store="records.sqlite",
        allow_unseen_host=False,
        prerelaxers=name_prerelaxers(["potential:emt"], "none", "0" * 64),
    )


if __name__ == "__main__":
    potential.potential_named = emt
    proposed()
