"""Exports hold what the records hold, and never half of it."""

from __future__ import annotations

import csv

import ase.io
import numpy as np
import pytest
from maggma.stores import MemoryStore
from store_fixtures import record

from definet_flows.errors import InputError
from definet_flows.stores import Filter, Records
from definet_flows.stores.export import write_csv, write_extxyz


@pytest.fixture
def records():
    moved = np.random.default_rng(1).normal(size=(27, 3))
    with Records(MemoryStore(key="id")) as opened:
        opened.put(record(move=moved), record("predicted", steps=5), record(configuration_id="r", status="running"))
        yield opened


def test_csv(records, tmp_path):
    assert write_csv(records, tmp_path / "t.csv") == 3
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["ionic_steps"] for row in rows) == ["", "20", "5"]
    assert {row["energy [eV]"] for row in rows} == {"-100.0", ""}
    assert {row["gate"] for row in rows if row["start"] == "predicted"} == {"accepted"}


def test_extxyz(records, tmp_path):
    assert write_extxyz(records, tmp_path / "t.xyz") == 2
    frames = {atoms.info["id"]: atoms for atoms in ase.io.read(tmp_path / "t.xyz", ":")}
    for stored in records.records(Filter(name="v_S")):
        if stored.status == "done":
            atoms, kept = frames[stored.id], [marker != "2" for marker in stored.sites.markers]
            assert len(atoms) == 26
            np.testing.assert_allclose(atoms.positions, stored.sites.relaxed[kept], atol=1e-6)
            np.testing.assert_allclose(atoms.arrays["unrelaxed"], stored.sites.unrelaxed[kept], atol=1e-6)
            assert atoms.info["final_energy"] == -100.0


@pytest.mark.parametrize("write", [write_csv, write_extxyz])
def test_nothing_to_write_leaves_the_file_alone(records, tmp_path, write):
    path = tmp_path / "out"
    path.write_text("before")
    with pytest.raises(InputError, match="nothing written"):
        write(records, path, Filter(host="BN"))
    assert path.read_text() == "before"
    with pytest.raises(InputError, match="cannot be written"):
        write(records, tmp_path / "no such folder" / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
