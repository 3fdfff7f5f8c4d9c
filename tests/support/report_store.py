"""A store with one configuration of every fate, for tests of the report; names and errors are hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import store_fixtures as make
from store_fixtures import WEIGHTS

from definet_flows.schemas import DefectRecord, FloatArray, Provenance, Start
from definet_flows.stores import Records, SqliteStore, judge

if TYPE_CHECKING:
    from pathlib import Path

OTHER_WEIGHTS = "b" * 64
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>&$x$ <b>'\"[bold]"
FATES = ("same", "worse", "better", "other", "unconverged", "gated", "failed", "control", "second")


def identity(fate: str) -> str:
    """Configuration id of the configuration with this fate."""
    return f"{FATES.index(fate):x}" * 32


def nudged(size: float = 0.02, rows: int = 27) -> FloatArray:
    """Displacements [rows, 3] of 3 x 3 MoS2 with v_S, the vacancy's row still, different for each size."""
    move = size * np.random.default_rng(int(size * 1000)).normal(size=(rows, 3))
    move[make.configuration().edits[0].site or 0] = 0.0
    return move


def pair(fate: str, *, steps: tuple[int, int], energies: tuple[float, float] = (-100.0, -100.0)) -> list[DefectRecord]:
    """Both arms of one configuration."""
    weights = OTHER_WEIGHTS if fate == "second" else WEIGHTS
    finished = Provenance(finished="2026-02-01T00:00:00Z" if fate == "second" else "2026-01-01T00:00:00Z")
    starts: tuple[Start, Start] = ("unrelaxed", "predicted")
    records = [
        make.record(
            start,
            configuration_id=identity(fate),
            steps=taken,
            energy=energy,
            move=nudged(rows=48 if fate == "worse" else 27),
            weights=weights,
            converged=fate != "unconverged" or start == "unrelaxed",
            costs=(10 * taken, 2.0 * taken),
            charge=1 if fate == "better" else 0,
            size=4 if fate == "worse" else 3,
        )
        for start, taken, energy in zip(starts, steps, energies, strict=True)
    ]
    return [record.model_copy(update={"provenance": finished}) for record in records]


def fill(records: Records) -> None:
    """Write every fate once; the configuration that failed has a hostile name and error; one has charge +1."""
    arms = {
        "same": pair("same", steps=(40, 10)),
        "worse": pair("worse", steps=(20, 25)),
        "better": pair("better", steps=(30, 30), energies=(-100.0, -101.0)),
        "other": pair("other", steps=(30, 12), energies=(-100.0, -99.0)),
        "unconverged": pair("unconverged", steps=(30, 99)),
        "second": pair("second", steps=(50, 5)),
    }
    for one in arms.values():
        records.put(*one, judge(one[0], one[1]))
    failed = make.record(configuration_id=identity("failed"), status="failed", steps=3)
    records.put(
        make.record(configuration_id=identity("gated"), steps=35, gated=True),
        failed.model_copy(update={"name": HOSTILE, "error": HOSTILE}),
        make.record("predicted", configuration_id=identity("control"), steps=8, move=nudged(0.05)),
    )


def filled_store(path: Path) -> str:
    """Make the store at `path` and return its name for --store."""
    with Records(SqliteStore(str(path))) as records:
        fill(records)
    return str(path)
