"""What the commands take until they answer: processor seconds (user and system) of fresh processes, medians.

    python benchmarks/startup.py                     # five runs of each command
    python benchmarks/startup.py --runs 9 --path ..  # of the package in another folder

Prints a table: each command on a record store of sixty records, one campaign and one structure file, beside an empty
Python and the imports that no command can do without.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.support.store_documents import documents
from definet_flows.defects import build_structure, place
from definet_flows.hosts import make_host
from definet_flows.schemas import DefectRecord, Pair
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.stores import open_store
from definet_flows.stores.versions import parse

COMMAND = "from definet_flows.cli import main; main()"
IMPORTS = ("pymatgen.core", "torch")
COMMANDS = {
    "definet enumerate": ["enumerate", "MoS2", "--defect", "v_S", "--supercell", "4", "4", "1"],
    "definet records": ["records"],
    "definet savings": ["savings"],
    "definet status": ["status"],
    "definet predict": ["predict", "POSCAR", "--host", "MoS2", "--supercell", "4", "4", "1", "-o", "out.extxyz"],
}


def prepare(folder: Path) -> None:
    """Write what the commands read: a record store, and a vacancy in a POSCAR."""
    host = make_host("MoS2", (4, 4, 1))
    site = host.numbers.index(16)
    build_structure(host, place(host, [f"v_S@{site}"])).to(str(folder / "POSCAR"), fmt="poscar")
    found = [parse(raw, Pair if raw["kind"] == "pair" else DefectRecord) for raw in documents(60, 4)]
    records = [one for one in found if isinstance(one, DefectRecord)]
    ids = tuple({one.configuration_id: None for one in records})
    campaign = LaunchedCampaign(
        id="c" * 32,
        name="MoS2",
        engine="vasp",
        settings_hash=records[0].settings_hash,
        weights="a" * 64,
        configuration_ids=ids,
        controls=(),
        launched="2026-01-01T00:00:00",
        queue="fireworks",
    )
    with open_store() as store:
        store.put(*found, campaign)


def seconds(command: list[str], folder: Path, environment: dict[str, str], runs: int) -> float:
    """Return the median processor seconds of a command, after a run that is not counted."""
    taken = []
    for _ in range(runs + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(  # noqa: S603 - Python itself
            [sys.executable, *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(taken[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each command")
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--path", type=Path, default=here, help="folder that holds the package")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {
            "DEFINET_FLOWS_CONFIG": str(folder / "none.yaml"),
            "DEFINET_FLOWS_DATA_DIR": str(folder / "data"),
            "OMP_NUM_THREADS": "1",
        }
        prepare(folder)
        environment = {**os.environ, "PYTHONPATH": str(given.path.resolve())}
        print("| | user + system, s |\n|---|---|", flush=True)
        for what, code in {"python": "pass", **{f"import {one}": f"import {one}" for one in IMPORTS}}.items():
            print(f"| `{what}` | {seconds(['-c', code], folder, environment, given.runs):.2f} |", flush=True)
        for what, arguments in COMMANDS.items():
            command = ["-c", COMMAND, *arguments]
            print(f"| `{what}` | {seconds(command, folder, environment, given.runs):.2f} |", flush=True)


if __name__ == "__main__":
    main()
