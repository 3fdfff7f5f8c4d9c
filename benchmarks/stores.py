"""Time and memory of the record stores at the sizes they are meant for.

    python benchmarks/stores.py --records 100000                 # the laptop's SQLite file
    python benchmarks/stores.py --records 400 --monty            # maggma's MontyStore, if montydb is installed
    python benchmarks/stores.py --records 100000 --secantus      # MongoDB's protocol on a socket, authentication on
    python benchmarks/stores.py --records 100000 --uri mongodb://... --database NAME

Writes records (192 sites of MoS2 and WSe2, 128 of BN) and their pairs, the first 2,000 one by one, the rest in bulk;
has four processes write at once; then starts a fresh process that opens the store and asks. An acknowledged write waits
for the disk: the time of an appended record alone is printed beside it. Prints a table: wall and processor seconds of
each, and the peak memory of the process that asks, after its savings and at its end (on Linux). SecantusDB is
found as in the tests (SECANTUS_BIN).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from maggma.stores import MemoryStore, MongoStore

from benchmarks.support.store_documents import documents, templates
from definet_flows.schemas import DefectRecord, Pair, content_hash
from definet_flows.stores import counts_by, open_store, savings, savings_by
from definet_flows.stores.analysis.figures import GroupBy
from definet_flows.stores.versions import parse
from standins.server import with_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Barrier

    from definet_flows.stores import Records

ONE_BY_ONE = 2000
WRITERS = 4
MANY = 10_000  # structures that are not exported
BATCH = 1000
APPENDS = 200
RECORD = 41_000  # bytes in the log: ten pages


def write(records: Records, count: int, size: int) -> None:
    """Write the first records singly, as jobs do; the rest in bulk, with the pages made at the end."""
    source = documents(count, size)
    single = min(count, ONE_BY_ONE)
    first = [parse(raw, Pair if raw["kind"] == "pair" else DefectRecord) for raw in islice(source, single * 3 // 2)]
    with timed(f"write {single} records and their pairs, one by one"):
        for document in first:
            records.put(document)
    if single < count:
        with timed(f"write {count - single} more in bulk"):
            while batch := list(islice(source, BATCH)):
                if not isinstance(records.store, MongoStore) or isinstance(records.store, MemoryStore):
                    records.store.update(batch)
                else:
                    records.store._collection.insert_many(batch)  # noqa: SLF001 - without looking for each id
        with timed("make the pages (MongoDB)"):
            records.rebuild_pages()


def write_at_once(count: int) -> None:
    """Have four processes write `count` records each, singly; they wait for each other."""
    context = multiprocessing.get_context("spawn")
    began, start = context.Barrier(WRITERS + 1), time.perf_counter()
    writers = [context.Process(target=_writer, args=(k, count, began)) for k in range(WRITERS)]
    for writer in writers:
        writer.start()
    began.wait()
    start = time.perf_counter()
    for writer in writers:
        writer.join()
    took = time.perf_counter() - start
    failed = sum(writer.exitcode != 0 for writer in writers)
    rate = WRITERS * count / took
    what = f"{WRITERS} processes at once, {count} records each"
    print(f"{what:52s} {took:8.2f} s: {rate:.0f} a second, {failed} failed", flush=True)


def measure_disk(folder: Path) -> None:
    """Print what the disk takes to keep as many bytes as a record is in the store's log."""
    with (folder / "disk").open("wb") as file:
        start = time.perf_counter()
        for _ in range(APPENDS):
            file.write(bytes(RECORD))
            file.flush()
            os.fsync(file.fileno())
        took = time.perf_counter() - start
    print(f"{f'the disk alone keeps {RECORD // 1000} kB':52s} {1000 * took / APPENDS:8.2f} ms", flush=True)


def _writer(number: int, count: int, began: Barrier) -> None:
    arm = templates(8)[number][0]
    with open_store("measured") as records:
        began.wait()
        for k in range(count):
            identity = content_hash("writer", number, k)
            records.put(arm.model_copy(update={"id": identity, "configuration_id": identity}))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took, and how much of that this process worked."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{what:52s} {time.perf_counter() - wall:8.2f} s {time.process_time() - cpu:8.2f} s", flush=True)


def peak_memory() -> int:
    """Return the peak memory of this program, MB; `ru_maxrss` would count the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def ask(store: str, folder: Path, structures: int) -> None:
    """Open the store as a fresh process does, and ask everything that the command line can."""
    with timed("open"):
        records = open_store(store, read_only=True)
    with timed("savings"):
        total = savings(records)
    print(f"peak memory so far {peak_memory()} MB")
    from definet_flows.stores.export.tables import write_csv, write_extxyz  # noqa: PLC0415 - pandas: what savings do without

    questions: list[tuple[str, Callable[..., Any]]] = [("savings", savings_by), ("records", counts_by)]
    for name, question in questions:
        for by in get_args(GroupBy):
            with timed(f"{name} by {by}"):
                question(records, by)
    with timed("export CSV"):
        write_csv(records, folder / "all.csv")
    if structures:
        with timed(f"export extxyz ({structures} structures)"):
            write_extxyz(records, folder / "all.xyz")
    records.close()
    print(total.message)
    print(f"peak memory {peak_memory()} MB")


@contextmanager
def specification(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the store to measure as it stands in the settings."""
    if options.uri:
        mongo = {"@module": "maggma.stores", "@class": "MongoStore", "collection_name": "records"}
        yield {**mongo, "database": options.database, "uri": options.uri}
    elif options.secantus:
        with with_users(folder) as server:
            yield server.spec(collection="records")
    else:
        file = str(folder / "records.sqlite")
        yield {"@module": "definet_flows.stores", "@class": "SqliteStore", "path": file}


def measure_monty(folder: str, count: int) -> None:
    """Write into maggma's MontyStore; it has no indexes (montydb 2.5.6), so it can be no record store of ours."""
    from maggma.stores import MontyStore  # noqa: PLC0415 - montydb is not among our packages

    store = MontyStore("records", database_path=folder, key="id")
    store.connect()
    source = documents(count)
    for part in (100, count * 3 // 2 - 100):
        with timed(f"MontyStore: {part} documents more"):
            store.update(list(islice(source, part)))


def main() -> None:
    """Write, then ask in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--size", type=int, default=8, help="of the supercell, n x n x 1; 8 is 192 sites of MoS2")
    parser.add_argument("--secantus", action="store_true")
    parser.add_argument("--monty", action="store_true")
    parser.add_argument("--writes", type=int, default=250, help="of each of four processes at once; 0: none")
    parser.add_argument("--folder", type=Path, help="where the store is made; else a temporary folder")
    parser.add_argument("--uri")
    parser.add_argument("--database", default="definet_benchmark")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(
            "measured", options.ask, 0 if options.secantus or options.uri or options.records > MANY else options.records
        )
        return
    if options.monty:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            measure_monty(name, options.records)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name, specification(options, Path(name)) as spec:
        folder = Path(name)
        (folder / "settings.yaml").write_text(json.dumps({"record_stores": {"measured": spec}}))
        os.environ["DEFINET_FLOWS_CONFIG"] = str(folder / "settings.yaml")
        print(f"{'':52s} {'wall':>8s}   {'cpu':>8s}")
        with open_store("measured") as records:
            write(records, options.records, options.size)
        if options.writes:
            measure_disk(folder)
            write_at_once(options.writes)
        subprocess.run([sys.executable, *sys.argv, "--ask", str(folder)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
