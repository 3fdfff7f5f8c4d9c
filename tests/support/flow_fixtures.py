"""Fixtures of a campaign on a small metal."""

from __future__ import annotations

import pytest
from flow_helpers import engine, write_weights
from jobflow import JobStore
from maggma.stores import MemoryStore

from definet_flows import DefectFlowMaker


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def weights(workplace):
    return write_weights(workplace / "small.safetensors")


@pytest.fixture
def jobs():
    return JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})


@pytest.fixture
def maker(weights):
    return DefectFlowMaker(
        supercell=(2, 2, 2),
        defects=("v_Cu", "Ni_Cu"),
        engine=engine(),
        control_fraction=1,
        model=str(weights.path),
        store="records.sqlite",
    )
