"""The command `definet`: thin shells around the package, a module for each group of commands.

Heavy libraries are imported inside the commands, so that `definet --help` answers at once.
"""

from __future__ import annotations

import os

# Each module registers its commands.
from definet_flows.cli.app import app
from definet_flows.cli.campaign import check, enumerate, launch, probe, retry, run, status  # noqa: A004, F401
from definet_flows.cli.models import learn, prediction, published, registry, training  # noqa: F401
from definet_flows.cli.records import export, ingest, query, report  # noqa: F401

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    # Threads that spin for milliseconds while they wait stand in each other's way on a shared machine; threads that
    # never do take 1.6 times as long for one structure. Some microseconds cost neither. Read when torch loads.
    if "OMP_WAIT_POLICY" not in os.environ:  # which a count would overrule
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    app()
