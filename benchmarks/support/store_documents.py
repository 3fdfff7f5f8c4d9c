"""Records of realistic size with random ends and costs, as a store holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from definet_flows.defects import nodes, place, unrelaxed_positions
from definet_flows.hosts import make_host
from definet_flows.schemas import (
    VACANCY,
    Configuration,
    DefectRecord,
    Gate,
    Host,
    HostNote,
    Ledger,
    Pair,
    PredictionNote,
    SiteMap,
    Start,
    content_hash,
    dump,
)
from definet_flows.stores import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = "5" * 32
TEMPLATES = 100
HOSTS = ("MoS2", "WSe2", "BN")
KINDS = {"MoS2": ("v_S", "v_Mo", "W_Mo"), "WSe2": ("v_Se", "v_W"), "BN": ("v_B", "v_N", "C_B")}


def make_record(host: Host, edits: Configuration, seed: int, start: Start) -> DefectRecord:
    """Return a record of realistic size with random ends and costs; the two arms of a seed end in the same minimum."""
    random = np.random.default_rng([seed, start == "predicted"])
    numbers, markers = nodes(host, edits)
    positions = unrelaxed_positions(host, edits)
    steps = int(random.integers(20, 60)) if start == "unrelaxed" else int(random.integers(2, 8))
    note = PredictionNote(weights="ab"[seed % 2] * 64, seconds=0.05, device="cpu", gate=Gate(verdict="accepted"))
    return DefectRecord(
        id="",
        configuration_id="",
        settings_hash=SETTINGS,
        engine=("vasp", "sevennet")[seed % 2],
        start=start,
        status="done",
        host=HostNote.of(host),
        name=edits.name,
        n_defects=len(edits.edits),
        configuration=edits,
        sites=SiteMap(
            numbers=tuple(numbers.tolist()),
            markers="".join(map(str, markers)),
            unrelaxed=positions,
            predicted=positions + 0.01,
            relaxed=positions + np.random.default_rng(seed).normal(scale=0.05, size=positions.shape),
            permutation=tuple(np.flatnonzero(markers != VACANCY).tolist()),
        ),
        prediction=note if start == "predicted" else None,
        ledger=Ledger(
            ionic_steps=steps,
            electronic_steps=12 * steps,
            core_hours=round(steps * float(random.uniform(0.8, 1.2)), 4),
            converged=True,
            force_criterion=0.01,
            energy=-1.0,
        ),
    )


def templates(size: int) -> list[tuple[DefectRecord, DefectRecord, Pair]]:
    """Return pairs of records of all hosts and kinds, with their verdicts."""
    found = []
    for k in range(TEMPLATES):
        formula = HOSTS[k % len(HOSTS)]
        host, kinds = make_host(formula, (size, size, 1)), KINDS[formula]
        kind = kinds[k // len(HOSTS) % len(kinds)]
        site = host.numbers.index({"S": 16, "Mo": 42, "Se": 34, "W": 74, "B": 5, "N": 7}[kind.split("_")[1]])
        edits = place(host, [f"{kind}@{site}"])
        arms = [make_record(host, edits, k, start) for start in ("unrelaxed", "predicted")]
        found.append((arms[0], arms[1], judge(arms[0], arms[1])))
    return found


def documents(count: int, size: int = 8) -> Iterator[dict[str, Any]]:
    """Yield `count` stored records in pairs, each pair followed by its verdict; no two cost the same core-hours."""
    known, random = [tuple(map(dump, one)) for one in templates(size)], np.random.default_rng(0)
    for k in range(count // 2):
        configuration_id = content_hash("benchmark", k)
        hours = [round(float(random.uniform(*span)), 4) for span in ((20, 60), (2, 8))]
        *arms, pair = known[k % TEMPLATES]
        ids = [content_hash("benchmark", k, start) for start in ("unrelaxed", "predicted")]
        for arm, identity, cost in zip(arms, ids, hours, strict=True):
            ledger = {**arm["ledger"], "core_hours": cost}
            yield {**arm, "id": identity, "configuration_id": configuration_id, "ledger": ledger}
        costs = {"core_hours_unrelaxed": hours[0], "core_hours_predicted": hours[1]}
        yield {**pair, "id": Pair.identity(*ids), "configuration_id": configuration_id, **costs}
