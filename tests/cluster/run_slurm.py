"""Drive a Slurm with `qlaunch` and the files of `examples/cluster`, until a small campaign is recorded.

    tests/cluster/start_slurm.sh FOLDER    # once, as root
    python tests/cluster/run_slurm.py FOLDER

Of the examples only these are changed: address of the database (SecantusDB, started here), paths, number of cores and
nodes. Prints what was submitted and what ran where, from Slurm's own records and the LaunchPad's.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from standins.queue_place import EXAMPLES, Place
from standins.server import Server, running

BIN = Path(sys.executable).parent
OPEN = {"READY", "RESERVED", "RUNNING", "WAITING"}
SECONDS = 3600


def example(name: str) -> dict:
    return yaml.safe_load((EXAMPLES / name).read_text())


def write_adapters(place: Place) -> None:
    """Write worker and queue files as the examples have them, for one node of two cores."""
    for category in ("gpu", "cpu", "light"):
        place.write(f"my_fworker_{category}.yaml", example(f"my_fworker_{category}.yaml"))
    for category in ("gpu", "cpu"):
        adapter = example(f"my_qadapter_{category}.yaml")
        adapter["rocket_launch"] = adapter["rocket_launch"].replace("/home/you/.fireworks", str(place.folder))
        adapter["pre_rocket"] = f"source {BIN}/activate"
        if "ntasks_per_node" in adapter:
            adapter["ntasks_per_node"] = 1
        place.write(f"my_qadapter_{category}.yaml", adapter)
    placement = example("placement.yaml")
    placement["relax"]["queue"]["nodes"] = 1
    place.write("placement.yaml", placement)


def start_campaign(place: Place):
    from definet_flows import DefectFlowMaker  # noqa: PLC0415 - jobflow reads its settings when it is imported
    from definet_flows.workflows.queue.fireworks import launch_fireworks, make_plan  # noqa: PLC0415
    from definet_flows.workflows.queue.routing import read_placement  # noqa: PLC0415
    from standins.copper import CU, write_weights  # noqa: PLC0415
    from standins.spring_engine import SpringRelaxMaker  # noqa: PLC0415

    maker = DefectFlowMaker(
        supercell=(2, 2, 2),
        defects=("v_Cu", "Ni_Cu"),
        engine=SpringRelaxMaker(),
        control_fraction=1,
        model=str(write_weights(place.folder / "small.safetensors").path),
        relax_host=False,
        store="campaign",
    )
    plan, launchpad = make_plan(maker, CU), place.launchpad()
    launch_fireworks(plan, launchpad, read_placement(place.folder / "placement.yaml"))
    return plan, launchpad


def submit(place: Place, category: str) -> None:
    """Submit to Slurm what is ready for one kind of worker, a reservation for each."""
    folder = place.folder / f"queue_{category}"
    folder.mkdir(exist_ok=True)
    files = {"-l": "my_launchpad.yaml", "-w": f"my_fworker_{category}.yaml", "-q": f"my_qadapter_{category}.yaml"}
    options = [part for flag, name in files.items() for part in (flag, str(place.folder / name))]
    command = [str(BIN / "qlaunch"), *options, "-r", "-s", "rapidfire", "-m", "4", "--nlaunches", "0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-500:])


def tell(folder: Path, place: Place, launchpad) -> None:
    """Print Slurm's list of jobs, without the machine's names and paths, and which worker ran what."""
    wanted = ("JobId", "Name", "JobState", "Partition", "TimeLimit", "StartTime", "EndTime", "NodeList")
    for line in (folder / "jobs.txt").read_text().splitlines():
        said = dict(re.findall(r"(\w+)=(\S*)", line))
        print(" ".join(f"{key}={said[key]}" for key in wanted if said.get(key)))
    for category in ("gpu", "cpu"):
        script = next((place.folder / f"queue_{category}").rglob("FW_submit.script"))
        print(
            f"{category}:",
            *(line.split("#SBATCH ")[1] for line in script.read_text().splitlines() if "#SBATCH" in line),
        )
    ran = Counter()
    for raw in launchpad.fireworks.find({}, {"name": 1, "fw_id": 1, "state": 1, "spec._category": 1}):
        launch = launchpad.launches.find_one({"fw_id": raw["fw_id"]}, {"fworker.name": 1, "state_history": 1})
        held = any(step.get("reservation_id") for step in launch["state_history"])
        where = f"category {raw['spec'].get('_category')}, worker {launch['fworker']['name']}"
        ran[
            f"{' '.join(raw['name'].split()[:2])}: {where}, {'through Slurm' if held else 'rlaunch'}, {raw['state']}"
        ] += 1
    for text, count in sorted(ran.items()):
        print(f"{count} x {text}")


def run_campaign(place: Place):
    """Run the campaign to its end: light jobs by a worker here, the others through Slurm."""
    plan, launchpad = start_campaign(place)
    light = [BIN / "rlaunch", "-l", place.folder / "my_launchpad.yaml", "-s"]
    light += ["-w", place.folder / "my_fworker_light.yaml", "rapidfire", "--nlaunches", "infinite", "--sleep", "2"]
    (place.folder / "light").mkdir()
    with (place.folder / "light.log").open("w") as log:
        worker = subprocess.Popen(light, cwd=place.folder / "light", stdout=log, stderr=log)
    try:
        end = time.monotonic() + SECONDS
        while set(launchpad.fireworks.distinct("state")) & OPEN and time.monotonic() < end:
            for category in ("gpu", "cpu"):
                if launchpad.fireworks.count_documents({"state": "READY", "spec._category": category}):
                    submit(place, category)
            time.sleep(5)
    finally:
        worker.kill()
    return plan, launchpad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder given to start_slurm.sh")
    folder = parser.parse_args().folder.absolute()
    own = folder / f"campaign_{int(time.time())}"
    own.mkdir()
    with running(Server(own)) as server:
        place = Place(own, server.port)
        write_adapters(place)
        plan, launchpad = run_campaign(place)
        tell(folder, place, launchpad)
        from definet_flows import open_store  # noqa: PLC0415

        with open_store("campaign", read_only=True) as records:
            found = sorted((row.name, row.start, row.status) for row in records.ledgers())
        print(*("record: {} from {}: {}".format(*one) for one in found), sep="\n")
        sys.exit(0 if len(found) == 2 * len(plan.campaign.ids) and {one[2] for one in found} == {"done"} else 1)


if __name__ == "__main__":
    main()
