"""How the server of the tests finds one document among many by an indexed field, in its own processor time.

    python benchmarks/find_and_modify.py

FireWorks takes most steps of a job by `findAndModify`. Prints milliseconds of the server for `find_one`, `update_one`
and `find_one_and_update`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from standins.server import Server, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.collection import Collection

SIZES = (100, 1000, 6000)
_REPEATS = 20
_SET = {"$set": {"state": "READY"}}


def measure(documents: Collection[dict[str, Any]], size: int, server: psutil.Process) -> list[float]:
    """Return the milliseconds of each way to reach one of `size` documents."""
    documents.create_index("fw_id", unique=True)
    documents.insert_many([{"fw_id": k, "state": "WAITING", "pad": "x" * 3000} for k in range(size)])
    ways: list[Callable[[dict[str, int]], object]] = [
        documents.find_one,
        lambda one: documents.update_one(one, _SET),
        lambda one: documents.find_one_and_update(one, _SET),
    ]
    return [_milliseconds(way, size // 2, server) for way in ways]


def _milliseconds(way: Callable[[dict[str, int]], object], first: int, server: psutil.Process) -> float:
    began = sum(server.cpu_times()[:2])
    for k in range(_REPEATS):
        way({"fw_id": first + k})
    return float(sum(server.cpu_times()[:2]) - began) / _REPEATS * 1e3


def main() -> None:
    """Measure and print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    table = Table("documents", "find_one, ms", "update_one, ms", "find_one_and_update, ms", header_style="bold")
    with tempfile.TemporaryDirectory() as folder, running(Server(Path(folder))) as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        with MongoClient[dict[str, Any]]("127.0.0.1", server.port) as client:
            for size in SIZES:
                table.add_row(f"{size:,}", *(f"{one:.1f}" for one in measure(client.x[str(size)], size, process)))
    Console().print(table)


if __name__ == "__main__":
    main()
