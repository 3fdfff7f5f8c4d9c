"""Exports hold what the records hold, and never half of it."""

from __future__ import annotations

import csv

import ase.db
import ase.io
import numpy as np
import pytest
from maggma.stores import MemoryStore
from monty.serialization import loadfn
from store_fixtures import SETTINGS, host, record, relaxed_host

from definet_flows.errors import InputError
from definet_flows.model.data.archive import SetLayout, read_set
from definet_flows.schemas import VACANCY, dump
from definet_flows.stores import Filter, Records, update_pairs
from definet_flows.stores.export.entries import defect_entries, write_entries
from definet_flows.stores.export.layout import write_cif_folder
from definet_flows.stores.export.tables import pair_frame, record_frame, write_ase_db, write_csv, write_extxyz
from definet_flows.stores.learning.splits import split_of

MOVED = np.random.default_rng(1).normal(scale=0.1, size=(27, 3))


@pytest.fixture
def records():
    with Records(MemoryStore(key="id")) as opened:
        opened.put(
            record(move=MOVED),
            record("predicted", steps=5, move=MOVED, energy=-100.001),
            record(configuration_id="r", status="running"),
            record(defects=("v_S", "W_Mo"), move=MOVED, costs=(300, 1.5)),
        )
        update_pairs(opened, record().configuration_id, SETTINGS)
        yield opened


def test_csv(records, tmp_path):
    assert write_csv(records, tmp_path / "t.csv") == 4
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["ionic_steps"] for row in rows) == ["", "20", "20", "5"]
    assert {row["energy [eV]"] for row in rows} == {"-100.0", "-100.001", ""}
    assert [(row["electronic_steps"], row["core_hours [h]"]) for row in rows if row["name"] == "v_S+W_Mo"] == [
        ("300", "1.5")
    ]
    assert {row["gate"] for row in rows if row["start"] == "predicted"} == {"accepted"}
    assert {(row["start"], row["proposal_seconds [s]"], row["proposal_core_seconds [s]"]) for row in rows} == {
        ("unrelaxed", "", ""),
        ("predicted", "0.05", ""),  # the cores of this proposal are unknown: no zero
    }


def test_pandas(records):
    relaxations, ends = record_frame(records), pair_frame(records, Filter(name="v_S"))
    assert relaxations.groupby("name").ionic_steps.sum().to_dict() == {"v_S": 25, "v_S+W_Mo": 20}
    assert ends[["verdict", "steps_unrelaxed", "steps_predicted"]].to_numpy().tolist() == [["same minimum", 20, 5]]
    assert list(record_frame(records, Filter(host="BN")).columns) == list(relaxations.columns)
    assert relaxations.charge.tolist() == [0] * 4
    assert relaxations.wall_seconds.isna().all()
    assert (relaxations.core_hours.isna().sum(), ends.core_hours_predicted.isna().all()) == (3, True)
    assert {str(kind) for kind in ends.dtypes[["core_hours_unrelaxed", "electronic_predicted"]]} == {"float64"}


def test_charges_and_unknown_costs_in_tables(records, tmp_path):
    charged = [record(start, configuration_id="q", charge=-2, steps=9) for start in ("unrelaxed", "predicted")]
    records.put(*charged)
    update_pairs(records, "q", SETTINGS)
    assert pair_frame(records).charge.tolist() == [-2, 0]
    assert pair_frame(records, Filter(charge=-2)).steps_predicted.tolist() == [9]
    assert write_csv(records, tmp_path / "q.csv", Filter(charge=-2)) == 2
    with (tmp_path / "q.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["charge [e]"] for row in rows} == {"-2"}
    unknown = ("core_hours [h]", "electronic_steps", "cores", "wall_seconds [s]")
    assert {row[name] for row in rows for name in unknown} == {""}


def check_atoms(atoms, stored, tables):
    kept = [marker != "2" for marker in stored.sites.markers]
    assert len(atoms) == 26
    np.testing.assert_allclose(atoms.positions, stored.sites.relaxed[kept], atol=1e-6)
    np.testing.assert_allclose(tables["unrelaxed"], stored.sites.unrelaxed[kept], atol=1e-6)
    np.testing.assert_allclose(tables["predicted"], stored.sites.predicted[kept], atol=1e-6)
    assert atoms.get_potential_energy() == pytest.approx(stored.ledger.energy)


def test_extxyz(records, tmp_path):
    assert write_extxyz(records, tmp_path / "t.xyz") == 3
    frames = {atoms.info["id"]: atoms for atoms in ase.io.read(tmp_path / "t.xyz", ":")}
    for stored in records.records():
        if stored.status == "done":
            check_atoms(frames[stored.id], stored, frames[stored.id].arrays)


def test_ase_db(records, tmp_path):
    assert write_ase_db(records, tmp_path / "t.db") == 3
    with ase.db.connect(tmp_path / "t.db") as database:
        rows = list(database.select())
        assert [row.ionic_steps for row in database.select("start=predicted")] == [5]
        assert database.count(name="v_S+W_Mo", host="MoS2", converged=True) == 1
    for row in rows:
        check_atoms(row.toatoms(), records.record(row.data["id"]), row.data)


def test_cif_folders_are_read_back_as_the_archive(records, tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(tmp_path / "cache"))
    written = write_cif_folder(records, tmp_path / "out")
    assert (written.structures, written.left_out) == (2, 0)
    (pristine,) = (tmp_path / "out").glob("*.cif")
    layout = SetLayout(pristine.stem, "CIF", pristine.name, (1, 1, 1))
    pairs = read_set(tmp_path / "out", layout, workers=1)
    assert pairs.malformed == ()
    of = host()
    assert list(pairs.host.numbers) == list(of.numbers)
    lowest = {r.id: r for r in records.records() if r.status == "done" and (r.start == "predicted" or r.n_defects == 2)}
    assert {entry.rsplit("_", 1)[1] for entry in pairs.ids} == set(lowest)
    for k, entry in enumerate(pairs.ids):
        one = lowest[entry.rsplit("_", 1)[1]]
        assert "".join(map(str, pairs.markers[k])) == one.sites.markers
        assert tuple(pairs.numbers[k]) == one.sites.numbers
        atoms = np.array([int(marker) != VACANCY for marker in one.sites.markers])
        np.testing.assert_allclose((pairs.relaxed[k] - pairs.unrelaxed[k])[atoms], MOVED[atoms], atol=4e-4)
        assert pairs.splits[k] == split_of(of, one.configuration)


def test_charges_do_not_fit_the_layout(records, tmp_path):
    charged = record(configuration_id="charged", move=MOVED)
    charged = charged.model_copy(update={"configuration": charged.configuration.model_copy(update={"charge": -1})})
    records.put(charged, record(configuration_id="slow", move=MOVED, converged=False))
    written = write_cif_folder(records, tmp_path / "out")
    assert (written.structures, written.left_out) == (2, 2)


def test_entries_of_pymatgen_and_doped(records, tmp_path):
    pytest.importorskip("pymatgen.analysis.defects", reason="the extra `defects` is not installed")
    bulk = relaxed_host()
    records.put(bulk)
    assert {entry.bulk_entry for entry in defect_entries(records).values()} == {None}  # its energy is unknown, not 0
    bulk = bulk.model_copy(update={"ledger": bulk.ledger.model_copy(update={"energy": -90.0})})
    records.put(bulk)
    assert write_entries(records, tmp_path / "entries.json") == 2
    entries = loadfn(tmp_path / "entries.json")
    assert sorted(entries) == ["v_S+W_Mo_0", "v_S_0"]
    vacancy = entries["v_S_0"]
    assert type(vacancy.defect).__name__ == "Vacancy"
    assert vacancy.sc_entry.energy == pytest.approx(-100.001)  # the lower of the two ends
    assert vacancy.get_ediff() == pytest.approx(-10.001)
    assert (vacancy.charge_state, len(vacancy.sc_entry.structure), len(vacancy.bulk_entry.structure)) == (0, 26, 27)
    stored = records.record(vacancy.entry_id)
    at = np.array(vacancy.sc_defect_frac_coords) @ np.array(stored.host.lattice)
    np.testing.assert_allclose(at, stored.sites.unrelaxed[stored.sites.markers.index("2")], atol=1e-6)
    assert defect_entries(records, Filter(name="v_S")).keys() == {"v_S_0"}
    records.put(record(configuration_id="q", charge=-2, move=MOVED))
    assert write_entries(records, tmp_path / "q.json", Filter(charge=-2)) == 1
    (charged,) = defect_entries(records, Filter(charge=-2)).values()
    assert (charged.charge_state, charged.sc_entry.structure._charge) == (-2, -2)
    assert not charged.bulk_entry.structure._charge


WRITERS = [write_csv, write_extxyz, write_ase_db, write_entries]


@pytest.mark.parametrize("write", [*WRITERS, write_cif_folder])
def test_nothing_to_write_leaves_the_place_alone(records, tmp_path, write):
    path = tmp_path / "out"
    with pytest.raises(InputError, match="nothing written"):
        write(records, path, Filter(host="BN"))
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    with pytest.raises(InputError, match="nothing written" if write in WRITERS else "nothing written|there already"):
        write(records, path, Filter(host="BN"))
    assert path.read_text() == "before"
    with pytest.raises(InputError, match="cannot be written"):
        write(records, tmp_path / "no such folder" / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("write", [write_extxyz, write_ase_db, write_entries, write_cif_folder])
def test_a_record_that_cannot_be_read_leaves_nothing_half_written(records, tmp_path, write):
    records.store.update(dump(record(configuration_id="zz")) | {"id": "zz", "schema_version": 99}, key="id")
    with pytest.raises(InputError, match="schema version 99"):
        write(records, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_takes_the_place_of_an_older_file(records, tmp_path):
    path = tmp_path / "t.db"
    write_ase_db(records, path)
    assert write_ase_db(records, path, Filter(name="v_S")) == 2
    with ase.db.connect(path) as database:
        assert database.count() == 2
    with pytest.raises(InputError, match="is there already"):
        write_cif_folder(records, path)
