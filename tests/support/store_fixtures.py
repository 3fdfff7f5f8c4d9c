"""Documents for tests of the stores: real geometry, made-up ledgers."""

from __future__ import annotations

from functools import cache

import numpy as np

from definet_flows.defects import nodes, place, unrelaxed_positions
from definet_flows.hosts import make_host
from definet_flows.schemas import (
    Attempt,
    Configuration,
    DefectRecord,
    FloatArray,
    Gate,
    Host,
    HostNote,
    Ledger,
    Prediction,
    PredictionNote,
    Provenance,
    RelaxedHost,
    SiteMap,
    Start,
    Status,
)

WEIGHTS = "a" * 64
SETTINGS = "5" * 32


@cache
def host(size: int = 3) -> Host:
    return make_host("MoS2", (size, size, 1))


@cache
def configuration(defects: tuple[str, ...] = ("v_S",), size: int = 3) -> Configuration:
    return place(host(size), [f"{name}@{site}" for name, site in zip(defects, _sites(defects, size), strict=True)])


def _sites(defects: tuple[str, ...], size: int) -> list[int]:
    """One site of its own for each defect, the first free one of its element."""
    numbers = list(host(size).numbers)
    chosen: list[int] = []
    for name in defects:
        wanted = {"S": 16, "Mo": 42}[name.split("_")[1]]
        chosen.append(next(i for i, z in enumerate(numbers) if z == wanted and i not in chosen))
    return chosen


def site_map(of: Host, edits: Configuration, move: FloatArray | None = None) -> SiteMap:
    """Site map whose relaxed end is the unrelaxed start moved by `move` [n_rows, 3], Å."""
    numbers, markers = nodes(of, edits)
    start = unrelaxed_positions(of, edits)
    atoms = np.flatnonzero(markers != 2)
    return SiteMap(
        numbers=tuple(numbers.tolist()),
        markers="".join(map(str, markers)),
        unrelaxed=start,
        predicted=start + 0.01,
        relaxed=start if move is None else start + move,
        permutation=tuple(atoms.tolist()),
    )


def note(verdict: str = "accepted", weights: str = WEIGHTS) -> PredictionNote:
    return PredictionNote(weights=weights, seconds=0.05, device="cpu", gate=Gate(verdict=verdict, reason=""))


def record(  # noqa: PLR0913 - one name for each thing a test changes
    start: Start = "unrelaxed",
    *,
    configuration_id: str | None = None,
    steps: int = 20,
    energy: float = -100.0,
    converged: bool = True,
    status: Status = "done",
    defects: tuple[str, ...] = ("v_S",),
    size: int = 3,
    move: FloatArray | None = None,
    verdict: str = "accepted",
    weights: str = WEIGHTS,
    gated: bool = False,
    costs: tuple[int | None, float | None] = (None, None),
    charge: int = 0,
) -> DefectRecord:
    of, edits = host(size), configuration(defects, size).model_copy(update={"charge": charge})
    configuration_id = configuration_id or edits.id_in(of.hash)
    electronic, core_hours = costs
    ledger = Ledger(
        ionic_steps=steps,
        electronic_steps=electronic,
        core_hours=core_hours,
        attempts=(Attempt(ionic_steps=steps, optimizer="FIRE"),),
        converged=converged,
        force_criterion=0.01,
        start_max_force=0.5,
        max_force=0.009,
        energy=energy,
    )
    return DefectRecord(
        id=DefectRecord.identity(configuration_id, SETTINGS, start, weights),
        configuration_id=configuration_id,
        settings_hash=SETTINGS,
        engine="sevennet",
        start=start,
        status=status,
        host=HostNote.of(of),
        name=edits.name,
        n_defects=len(edits.edits),
        configuration=edits,
        sites=site_map(of, edits, move),
        prediction=note("rejected" if gated else verdict, weights) if start == "predicted" or gated else None,
        ledger=None if status == "running" else ledger,
        provenance=Provenance(versions={"definet_flows": "0.1.0"}, started="2025-01-01T00:00:00Z"),
    )


def prediction(configuration_id: str = "c" * 32) -> Prediction:
    return Prediction(
        id=Prediction.identity(configuration_id, WEIGHTS, "b" * 32),
        configuration_id=configuration_id,
        weights=WEIGHTS,
        base="b" * 32,
        displacements=np.full((27, 3), 0.0123456),
        gate=Gate(verdict="accepted"),
        seconds=0.01,
        device="cpu",
    )


def relaxed_host(steps: int = 7) -> RelaxedHost:
    of = host()
    return RelaxedHost(
        id=RelaxedHost.identity(of.hash, SETTINGS),
        host=HostNote.of(of),
        settings_hash=SETTINGS,
        relaxed=of.cartesian,
        ledger=Ledger(ionic_steps=steps, converged=True, force_criterion=0.01),
    )
