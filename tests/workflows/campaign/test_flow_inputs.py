"""What the main flow refuses, and what travels with its jobs."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from flow_helpers import CU, engine, run
from jobflow import Flow, OnMissing
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Structure

import definet_flows
from definet_flows import Choices, DefectFlowMaker, InputError, defect_flow
from definet_flows.model.inference.checkpoint import DEFAULT_MODEL as SHIPPED_MODEL
from definet_flows.workflows.campaign.flow import DEFAULT_MODEL

pytest_plugins = ["flow_fixtures"]

# ------------------------------------------------------------------ what is refused

LAYER = Structure(
    Lattice.hexagonal(3.18, 11.13), ["Mo", "S", "S"], [[0, 0, 0.5], [1 / 3, 2 / 3, 0.64], [1 / 3, 2 / 3, 0.36]]
)
DISORDERED = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("host", "fields", "message"),
    [
        ("nothing.cif", {}, "'nothing.cif': no such file"),
        ("garbage.cif", {}, "'garbage.cif' cannot be read"),
        (DISORDERED, {}, "is disordered"),
        (CU, {"defects": ("v_S",)}, "host Cu has no such element"),
        (CU, {"defects": ("Cu_Cu",)}, "replaces an element by itself"),
        (CU, {"defects": ("S",)}, "'S' is not a name"),
        (CU, {"defects": "v_Cu"}, "give a tuple of names"),
        (CU, {"defects": ()}, "name at least 1"),
        (CU, {"max_defects": 0}, "max_defects"),
        (CU, {"defects": Choices(defects=("v_Cu",)), "max_defects": 0}, "max_defects"),
        (
            CU,
            {"defects": Choices(defects=("v_Cu",), min_defects=2, max_defects=2, max_distance=1)},
            "within the limits",
        ),
        (CU, {"supercell": (0, 2, 2)}, "'0 2 2': each repetition must be at least 1"),
        (CU, {"supercell": (1.5, 2, 2)}, "must be whole numbers"),
        (LAYER, {"supercell": (3, 3, 1), "defects": ("v_S",)}, "less than 10 Å"),
        (CU, {"engine": "quantum"}, "unknown engine 'quantum'"),
        (CU, {"model": "unheard-of"}, "no model 'unheard-of'"),
        (CU, {"model": "garbage.safetensors"}, "garbage.safetensors"),
        (CU, {"control_fraction": 1.5}, "control_fraction=1.5"),
        (CU, {"control_fraction": float("nan")}, "control_fraction=nan"),
        (CU, {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(host, fields, message, weights, workplace):
    for name in ("garbage.cif", "garbage.safetensors"):
        (workplace / name).write_text("garbage")
    before = sorted(workplace.rglob("*"))
    arguments = {"supercell": (2, 2, 2), "defects": ("v_Cu",), "engine": engine(), "model": str(weights.path)}
    with pytest.raises(InputError, match=message) as caught:
        defect_flow(host, **{**arguments, **fields})
    assert "\n" not in str(caught.value)
    assert sorted(workplace.rglob("*")) == before


def test_a_missing_engine_package_names_its_extra(maker, monkeypatch):
    monkeypatch.setattr("definet_flows.starts.universal.find_spec", lambda _: None)
    maker.engine = "chgnet"
    with pytest.raises(InputError, match=r"pip install -e '\.\[chgnet\]'"):
        maker.make(CU)


def test_little_vacuum_is_warned_of(maker):
    maker.supercell, maker.defects = (3, 3, 1), ("v_S",)
    layer = Structure(
        Lattice.hexagonal(3.18, 16), LAYER.species, [[0, 0, 0.5], [1 / 3, 2 / 3, 0.6], [1 / 3, 2 / 3, 0.4]]
    )
    with pytest.warns(UserWarning, match="less than 15 Å"):
        maker.make(layer)


def test_a_typing_error_is_refused():
    with pytest.raises(TypeError, match="max_defect"):
        defect_flow(CU, supercell=(2, 2, 2), defects=("v_Cu",), max_defect=2)


# ------------------------------------------------------------------ what travels


def test_the_maker_and_its_flow_survive_json(maker, jobs):
    maker.defects = Choices(defects=("v_Cu", "Ni_Cu"), max_defects=1)
    text = json.dumps(maker, cls=MontyEncoder)
    again = json.loads(text, cls=MontyDecoder)
    assert isinstance(again, DefectFlowMaker)
    assert again.campaign(CU) == maker.campaign(CU)
    assert again.as_dict()["engine"] == maker.as_dict()["engine"]
    flow = json.loads(json.dumps(maker.make(CU), cls=MontyEncoder), cls=MontyDecoder)
    assert isinstance(flow, Flow)
    output, _ = run(flow, jobs)
    assert output["relaxations_run"] == 4


def test_jobs_are_small_and_carry_no_credentials(maker, workplace, monkeypatch):
    (workplace / "settings.yaml").write_text(
        "record_stores:\n  lab:\n    '@module': maggma.stores\n    '@class': MongoStore\n"
        "    database: d\n    collection_name: c\n    password: hunter2\n"
    )
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(workplace / "settings.yaml"))
    maker.store, maker.engine, maker.supercell = "lab", "vasp", (4, 4, 4)
    flow = maker.make(CU)
    assert "hunter2" not in json.dumps(flow, cls=MontyEncoder)
    relaxations = [job for job in flow.jobs if job.name.startswith("relax ")]
    assert len(relaxations) == 2
    for job in relaxations:
        assert len(json.dumps(job, cls=MontyEncoder)) < 4000
        assert job.config.on_missing_references == OnMissing.NONE


def test_paths_are_absolute_in_the_jobs(maker, weights):
    maker.model = weights.path.name
    text = json.dumps(maker.make(CU), cls=MontyEncoder)
    assert f'"{weights.path}"' in text
    assert f'"{Path("records.sqlite").absolute()}"' in text


# ------------------------------------------------------------------ names


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, definet_flows; print({'torch', 'jobflow', 'pymatgen', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_making_jobs_needs_torch_only_to_check_the_model():
    code = "import sys, definet_flows as d; d.DefectFlowMaker(); d.defect_flow; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_public_names():
    assert definet_flows.__all__ == sorted(definet_flows.__all__)
    assert set(definet_flows.__all__) <= set(dir(definet_flows))
    assert all(hasattr(definet_flows, name) for name in definet_flows.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = definet_flows.nothing
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    assert definet_flows.__version__ == project["project"]["version"]
    assert DEFAULT_MODEL == SHIPPED_MODEL


def test_the_function_takes_the_fields_of_the_maker():
    fields = {field.name: field.default for field in dataclasses.fields(DefectFlowMaker) if field.name != "name"}
    parameters = {p.name: p.default for p in inspect.signature(defect_flow).parameters.values() if p.name != "host"}
    assert list(parameters) == list(fields)
    required = {"supercell", "defects"}
    assert {k: v for k, v in parameters.items() if k not in required} == {
        k: v for k, v in fields.items() if k not in required
    }
