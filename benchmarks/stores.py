"""Time and memory of the record stores at the sizes they are meant for.

    python benchmarks/stores.py [--records 5000] [--uri mongodb://... --database NAME]

Without --uri the laptop journal, in a temporary folder. Prints a table: writing one by one, opening
in a fresh process' state, each query, and the peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from maggma.stores import MongoStore

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
)
from definet_flows.stores import JournalStore, Records, journalfile, judge, savings, savings_by

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = "a" * 64
SETTINGS = "5" * 32


def make_record(host: Host, edits: Configuration, k: int, start: Start) -> DefectRecord:
    """Return a record of realistic size with random ends and costs; pairs agree by construction."""
    random = np.random.default_rng(k)
    numbers, markers = nodes(host, edits)
    positions = unrelaxed_positions(host, edits)
    steps = int(random.integers(20, 60)) if start == "unrelaxed" else int(random.integers(2, 8))
    note = PredictionNote(weights=WEIGHTS, seconds=0.05, device="cpu", gate=Gate(verdict="accepted"))
    return DefectRecord(
        id=DefectRecord.identity(f"c{k}", SETTINGS, start, WEIGHTS),
        configuration_id=f"c{k}",
        settings_hash=SETTINGS,
        engine="sevennet",
        start=start,
        status="done",
        host=HostNote(
            **host.model_dump(include={"formula", "lattice", "matrix", "dimensionality"}),
            hash=host.hash,
            n_sites=host.n_sites,
        ),
        name=edits.name,
        n_defects=len(edits.edits),
        configuration=edits,
        sites=SiteMap(
            numbers=tuple(numbers.tolist()),
            markers="".join(map(str, markers)),
            unrelaxed=positions,
            predicted=positions + 0.01,
            relaxed=positions + random.normal(scale=0.05, size=positions.shape),
            permutation=tuple(np.flatnonzero(markers != VACANCY).tolist()),
        ),
        prediction=note if start == "predicted" else None,
        ledger=Ledger(ionic_steps=steps, converged=True, force_criterion=0.01, energy=-1.0, core_hours=steps / 10),
    )


def documents(count: int) -> Iterator[DefectRecord | Pair]:
    """Yield `count` records in pairs at 192 sites, each pair followed by its verdict."""
    host = make_host("MoS2", (8, 8, 1))
    sites = {symbol: host.numbers.index(number) for symbol, number in (("Mo", 42), ("S", 16))}
    names = [("v", "S"), ("v", "Mo"), ("W", "Mo"), ("Se", "S")]
    kinds = [place(host, [f"{new}_{old}@{sites[old]}"]) for new, old in names]
    for k in range(count // 2):
        arms = [make_record(host, kinds[k % 4], k, start) for start in ("unrelaxed", "predicted")]
        yield from arms
        yield judge(*arms)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    begin = time.perf_counter()
    yield
    print(f"{what:40s} {time.perf_counter() - begin:8.2f} s")


def main() -> None:
    """Write, reopen and query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--uri")
    parser.add_argument("--database", default="definet_benchmark")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"

        def store() -> JournalStore | MongoStore:
            if options.uri:
                return MongoStore(options.database, "records", uri=options.uri)
            return JournalStore(str(path))

        writing = 0.0
        with Records(store()) as records:
            for document in documents(options.records):
                begin = time.perf_counter()
                records.put(document)
                writing += time.perf_counter() - begin
        print(f"{f'{options.records} records and their pairs, one by one':40s} {writing:8.2f} s")
        journalfile.forget()
        with timed("open"):
            records = Records(store())
        with timed("savings"):
            print(savings(records).message)
        for by in ("host", "name", "weights"):
            with timed(f"savings by {by}"):
                savings_by(records, by)
        with timed("ledgers"):
            print(sum(1 for _ in records.ledgers()), "ledgers")
        records.close()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
