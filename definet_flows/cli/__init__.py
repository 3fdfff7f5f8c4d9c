"""The command `definet`: thin shells around the package, one module per group of commands.

Heavy libraries are imported inside the commands, so that `definet --help` answers at once.
"""

from __future__ import annotations

import os

from definet_flows.cli import (  # noqa: F401 - each registers its commands
    campaign,
    check,
    enumerate,  # noqa: A004
    export,
    ingest,
    launch,
    learn,
    models,
    prediction,
    probe,
    published,
    records,
    report,
    retry,
    training,
)
from definet_flows.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    # Two threads that spin while they wait stand in each other's way on a shared machine; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
