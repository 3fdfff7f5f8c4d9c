"""A queue on the tests' server, set up from the files in `examples/cluster` with nothing but the address changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from fireworks import LaunchPad
from flow_helpers import engine, write_weights

from definet_flows import DefectFlowMaker

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "cluster"
PATHS = f"{Path(__file__).parent}{os.pathsep}{ROOT}"


def example(name):
    return yaml.safe_load((EXAMPLES / name).read_text())


def addressed(node, server, prefix):
    """Return an example's content with the server's address, login and collections of its own, without TLS."""
    if isinstance(node, list):
        return [addressed(one, server, prefix) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: addressed(value, server, prefix) for key, value in node.items()}
    if "host" in node and "database" in node:
        spec = server.spec(collection=f"{prefix}_{node['collection_name']}")
        keep = {key: value for key, value in node.items() if key in {"@module", "@class", "type"}}
        return {**{key: value for key, value in spec.items() if not key.startswith("@")}, **keep}
    return node


def launchpad_spec(server):
    spec = server.spec()
    if "uri" in spec:
        return {"host": spec["uri"], "name": spec["database"], "uri_mode": True, "strm_lvl": "WARNING"}
    spec = {"name": spec["database"], "authsource": spec["database"], **spec, "strm_lvl": "WARNING"}
    return {key: spec[key] for key in ("host", "port", "name", "username", "password", "authsource", "strm_lvl")}


class Queue:
    """A LaunchPad, a job store and a record store on one server, and a folder with the files that name them."""

    def __init__(self, server, folder, monkeypatch):
        self.folder, prefix = folder, f"q{time.monotonic_ns()}"
        self.write(
            "my_launchpad.yaml", example("my_launchpad.yaml") | launchpad_spec(server) | {"mongoclient_kwargs": {}}
        )
        for name in ("jobflow.yaml", "definet_flows.yaml"):
            self.write(name, addressed(example(name), server, prefix))
        for category in ("gpu", "cpu", "light"):
            self.write(f"my_fworker_{category}.yaml", example(f"my_fworker_{category}.yaml"))
        self.environment = {
            "JOBFLOW_CONFIG_FILE": str(folder / "jobflow.yaml"),
            "DEFINET_FLOWS_CONFIG": str(folder / "definet_flows.yaml"),
            "DEFINET_FLOWS_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": PATHS,
            "OMP_NUM_THREADS": "1",
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        self.launchpad = LaunchPad.from_file(str(folder / "my_launchpad.yaml"))
        self.launchpad.reset(None, require_password=False, max_reset_wo_password=100_000)

    def write(self, name, content):
        (self.folder / name).write_text(yaml.safe_dump(content))

    @contextmanager
    def worker(self, category):
        """Run `rlaunch rapidfire` for one category in a process and a folder of its own."""
        place = self.folder / f"worker_{category}"
        place.mkdir(exist_ok=True)
        command = [Path(sys.executable).with_name("rlaunch"), "-l", self.folder / "my_launchpad.yaml"]
        command += ["-w", self.folder / f"my_fworker_{category}.yaml", "rapidfire"]
        command += ["--nlaunches", "infinite", "--sleep", "1"]
        with (place / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=os.environ | self.environment)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def wait(self, seconds=900):
        """Wait until no Firework is left that is yet to run."""
        end = time.monotonic() + seconds
        while self.states() & {"READY", "RESERVED", "RUNNING", "WAITING"}:
            if time.monotonic() > end:
                pytest.fail(f"the workers have not finished: {sorted(self.states())}")
            time.sleep(1)

    def states(self):
        return set(self.launchpad.fireworks.distinct("state"))

    def ran(self):
        """Yield (name, category, names of the workers that launched it) of every Firework."""
        where = {}
        for launch in self.launchpad.launches.find({}, {"fw_id": 1, "fworker.name": 1}):
            where.setdefault(launch["fw_id"], set()).add(launch["fworker"]["name"])
        for raw in self.launchpad.fireworks.find({}, {"fw_id": 1, "name": 1, "spec._category": 1}):
            yield raw["name"], raw["spec"].get("_category"), where.get(raw["fw_id"], set())


@pytest.fixture
def queue(mongo_server, tmp_path, monkeypatch):
    return Queue(mongo_server, tmp_path, monkeypatch)


@pytest.fixture
def cluster_maker(queue):
    weights = write_weights(queue.folder / "small.safetensors")
    return DefectFlowMaker(
        supercell=(2, 2, 2),
        defects=("v_Cu", "Ni_Cu"),
        engine=engine(),
        control_fraction=1,
        model=str(weights.path),
        store="campaign",
    )
