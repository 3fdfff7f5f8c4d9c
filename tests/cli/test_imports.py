"""Which heavy modules each command loads: a command waits for none that it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import store_fixtures as make
from file_helpers import HOST, configurations, shuffled, small_checkpoint, write

from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.stores import open_store

ROOT = Path(__file__).parents[2]

ENGINES = {"jobflow", "atomate2", "emmet", "sympy", "fireworks", "custodian", "jobflow_remote", "pymatgen.io.vasp"}
CLIENTS = {"maggma.stores", "botocore", "boto3", "paramiko", "montydb", "mongomock"}
GRAPHS = {"networkx", "pymatgen.core.graphs", "scipy.stats", "scipy.signal"}
LEARNING = {"torch", "torch_geometric", "torch._dynamo", "lightning", "safetensors"}
PLOTS = {"matplotlib", "plotly", "pandas"}
STORES = {"maggma", "pymongo"}
RADII = {"pymatgen.core.molecule_structure_comparator"}
STRUCTURES = {"scipy.spatial", "scipy.optimize", "ase", "spglib", "gemmi"}

ALL = ENGINES | CLIENTS | GRAPHS | PLOTS
QUERY = ALL | LEARNING | STRUCTURES
FORBIDDEN = {
    "--help": QUERY | STORES | {"numpy", "pymatgen"},
    "enumerate": ALL | LEARNING | STORES | RADII | {"ase.io", "scipy.optimize"},
    "records": QUERY | {"scipy"},
    "savings": QUERY,
    "status": QUERY | {"scipy"},
    "predict": ALL | STORES | RADII | LEARNING - {"torch", "safetensors"},
}
"""Of each command, what it must not load."""

RUN = """
import json, sys
from definet_flows.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def loaded(folder: Path, *arguments: str) -> set[str]:
    """Run a command in a process of its own and return the modules that it has loaded at its end."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DEFINET_FLOWS_CONFIG": str(folder / "none.yaml"),
        "DEFINET_FLOWS_DATA_DIR": str(folder / "data"),
    }
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert not code, done.stdout + done.stderr
    return set(modules)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("startup")
    small_checkpoint(found / "small.safetensors", "MoS2")
    write(found / "POSCAR", HOST.lattice, *shuffled(HOST, configurations()[0], 0)[1:])
    arms = [make.record(start) for start in ("unrelaxed", "predicted")]
    campaign = LaunchedCampaign(
        id="c" * 32,
        name="MoS2",
        engine="vasp",
        settings_hash=arms[0].settings_hash,
        weights=make.WEIGHTS,
        configuration_ids=(arms[0].configuration_id,),
        controls=(),
        launched="2026-01-01T00:00:00Z",
        queue="fireworks",
    )
    (found / "data").mkdir()
    with open_store(found / "data" / "records.sqlite") as store:
        store.put(*arms, campaign)
    return found


@pytest.mark.parametrize("command", FORBIDDEN)
def test_a_command_loads_nothing_heavy_that_it_does_not_use(command, folder):
    small = ("--host", "MoS2", "--supercell", "4", "4", "1", "--model", str(folder / "small.safetensors"))
    arguments = {
        "enumerate": ("MoS2", "--defect", "v_S", "--supercell", "3", "3", "1"),
        "predict": ("POSCAR", "-o", "out.extxyz", *small),
    }
    modules = loaded(folder, command, *arguments.get(command, ()))
    assert "definet_flows.cli" in modules
    assert sorted(FORBIDDEN[command] & modules) == []


GUARD = """
import importlib, pkgutil, sys
import definet_flows.workflows as room
from definet_flows.errors import InputError
for found in pkgutil.walk_packages(room.__path__, room.__name__ + ".", onerror=lambda name: None):
    try:
        importlib.import_module(found.name)
    except InputError as error:
        assert "secret" not in str(error)
        print("refused", found.name)
    except ModuleNotFoundError:
        pass
    except Exception as error:
        print("raw", found.name, type(error).__name__)
"""


def test_whichever_workflow_module_is_loaded_first_broken_settings_of_jobflow_end_in_a_line(tmp_path):
    broken = tmp_path / "jobflow.yaml"
    broken.write_text("JOB_STORE: secret\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOBFLOW_CONFIG_FILE": str(broken)}
    command = [sys.executable, "-c", GUARD]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("raw")] == []
    refused = {line.split()[1].removeprefix("definet_flows.workflows.") for line in lines}
    assert {"campaign.flow", "engines", "queue.fireworks", "recovery", "learning", "recording"} <= refused
    assert not {"campaign.models", "queue.status"} & refused


def test_public_names_are_listed_before_they_are_loaded():
    code = "import sys, definet_flows.stores as s; print(dir(s), 'definet_flows.stores.records' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert "'open_store'" in done.stdout
    assert done.stdout.strip().endswith("False")


def test_names_that_moved_to_other_modules_stay():
    from definet_flows.stores import opening, records  # noqa: PLC0415

    assert records.open_store is opening.open_store
    assert records.portable is opening.portable
    assert records.PATHS == opening.PATHS
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = records.nothing
