"""A queue in a folder: files that name a server, made from those in `examples/cluster`, and workers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml
from fireworks import FWorker, LaunchPad

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "cluster"
DATABASE = "definet"
EVERYTHING = ["gpu", "cpu", "light"]
"""Categories of a worker that takes all jobs."""

_NEEDED = ("definet_flows.workflows.campaign.flow", "definet_flows.model.inference.predict", "standins.spring_engine")
"""Modules that the jobs of a worker need; its start."""

_LOGIN = ("username", "password", "auth_source", "authsource", "mongoclient_kwargs")


class Worker(FWorker):  # type: ignore[misc]  # fireworks has no types
    """Takes all jobs, and asks for them without `$or`.

    FireWorks' own workers ask for jobs that name this worker `$or` none. MongoDB answers that from an index on the
    state; SecantusDB 0.7.0b3 reads the whole collection, twice per job. Nothing here names a worker.
    """

    def __init__(self) -> None:
        super().__init__("all", EVERYTHING)

    @property
    def query(self) -> dict[str, Any]:
        """What a job must be."""
        return {"spec._category": {"$in": EVERYTHING}}


ONCE = {"retryWrites": False}
"""Option of a client that writes once. SecantusDB 0.7.0b3 looks through the writes of the last half hour at each write
that could be sent again, twice, and keeps what it answered: most of its time and memory after some minutes."""


def addressed(node: Any, port: int, options: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any YAML
    """Return an example's content with the server's address and options of its clients, without login and TLS."""
    if isinstance(node, list):
        return [addressed(one, port, options) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {key: addressed(value, port, options) for key, value in node.items() if key not in _LOGIN}
    if "host" not in kept:
        return kept
    named = {"mongoclient_kwargs": dict(options)} if options else {}
    return {**kept, "host": "127.0.0.1", "port": port, **named}


@dataclass
class Place:
    """A folder with the files of a queue.

    Attributes
    ----------
    folder
        Where they are, and where the jobs run.
    port
        Of the server.
    options
        Of all clients of the server, as pymongo has them.
    """

    folder: Path
    port: int
    options: Mapping[str, Any] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write the files and name them in the environment of this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("my_launchpad.yaml", "jobflow.yaml", "definet_flows.yaml"):
            self.write(name, addressed(yaml.safe_load((EXAMPLES / name).read_text()), self.port, self.options))
        self.write("my_fworker.yaml", {"name": "all", "category": EVERYTHING, "query": "{}"})
        self.environment = {
            "JOBFLOW_CONFIG_FILE": str(self.folder / "jobflow.yaml"),
            "DEFINET_FLOWS_CONFIG": str(self.folder / "definet_flows.yaml"),
            "DEFINET_FLOWS_DATA_DIR": str(self.folder / "data_dir"),
            "SPRING_LOG": str(self.folder / "engine.jsonl"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        os.environ.update(self.environment)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a YAML file."""
        (self.folder / name).write_text(yaml.safe_dump(dict(content)))

    @property
    def log(self) -> Path:
        """The engine's log."""
        return self.folder / "engine.jsonl"

    def launchpad(self) -> LaunchPad:
        """Return the LaunchPad, initialised if it never was."""
        launchpad = LaunchPad.from_file(str(self.folder / "my_launchpad.yaml"))
        if launchpad.fw_id_assigner.find_one() is None:
            launchpad.reset(None, require_password=False, max_reset_wo_password=10**6)
        return launchpad

    def rapidfire(self, number: int) -> psutil.Popen:
        """Start a worker that runs until it is killed, in a folder of its own."""
        place = self.folder / f"worker_{number}"
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "standins.queue_place", str(self.folder / "my_launchpad.yaml")]
        with (place / "log").open("ab") as log:
            return psutil.Popen(command, cwd=place, stdout=log, stderr=log, start_new_session=True)


if __name__ == "__main__":
    from fireworks.core.rocket_launcher import rapidfire

    for needed in _NEEDED:
        import_module(needed)
    from standins.metered import meter

    meter(0.0)
    rapidfire(LaunchPad.from_file(sys.argv[1]), Worker(), nlaunches=-1, sleep_time=1, strm_lvl="ERROR")
