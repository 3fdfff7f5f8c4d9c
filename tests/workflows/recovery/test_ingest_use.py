"""What ingested relaxations are good for: training sets, in any setting of the host, and bulk entries."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Structure
from typer.testing import CliRunner
from vasp_files import CU, HOST, vacancy, write_run
from vasp_helpers import SHARED, WARNINGS, real_output

from definet_flows.cli import app
from definet_flows.schemas import Gate, RelaxedHost, Supercell
from definet_flows.starts.evidence import recorded
from definet_flows.stores import open_store
from definet_flows.stores.learning.training_set import settings_in, training_set
from definet_flows.structures.match import HostFinder
from definet_flows.workflows.recovery.ingest import ingest

pytestmark = WARNINGS
STORE = "records.sqlite"
ROTATED = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
BREATHED = 0.03  # Å; how far every second atom of the "relaxed" pristine host moves

runner = CliRunner()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()


def passes(*_):
    return Gate(verdict="accepted", reason="", in_domain=True)


def definet(*words):
    result = runner.invoke(app, [*map(str, words), "--store", STORE])
    assert result.exit_code == 0, result.output
    return result.output


def learned():
    """Return the training sets of the store."""
    with open_store(STORE, read_only=True) as records:
        return [training_set(records, settings, passes) for settings in settings_in(records)]


def pristine(moved=0.0):
    cell = CU * (2, 2, 2)
    cell.translate_sites(list(range(1, len(cell), 2)), [0, 0, moved], frac_coords=False)
    return cell


def unit_cell(path="POSCAR"):
    CU.to(filename=path, fmt="poscar")
    return path


# ------------------------------------------------------------------ to learn from


def test_vasp_runs_become_a_training_set(tmp_path):
    write_run(tmp_path / "runs" / "v_Cu_0", [0.0, 0.05, 0.1])
    write_run(tmp_path / "runs" / "v_Cu_1", [0.0, 0.1], charge=1)
    definet("ingest", "runs", "--host", unit_cell())
    (found,) = learned()
    assert sorted((entry.name, entry.charge) for entry in found.entries) == [("v_Cu", 0), ("v_Cu", 1)]
    assert found.refused == ()
    for entry in found.entries:
        assert entry.host.n_sites == 32
        lengths = np.sort(np.linalg.norm(entry.moved, axis=1))
        np.testing.assert_allclose(lengths[-12:], 0.1, atol=1e-6)
        np.testing.assert_allclose(lengths[:-12], 0.0, atol=1e-6)


def test_labels_are_relative_to_the_relaxed_host(tmp_path):
    """The pristine host moves by itself; what a vacancy adds to that is learned."""
    cells = [vacancy(0.0), vacancy(0.1)]
    cells[1].translate_sites(list(range(0, 31, 2)), [0, 0, BREATHED], frac_coords=False)
    write_run(tmp_path / "runs" / "v_Cu_0", cells=cells)
    definet("ingest", "runs", "--host", unit_cell())
    (before,) = learned()
    write_run(tmp_path / "runs" / "bulk", cells=[pristine(), pristine(BREATHED)], energy=-104.0)
    told = definet("ingest", "runs", "--host", "POSCAR")
    assert "1 records and 1 pristine hosts in" in told
    (after,) = learned()
    with_motion, without = (np.sort(np.linalg.norm(found.entries[0].moved, axis=1)) for found in (before, after))
    assert np.abs(with_motion[-12:] - 0.1).max() > 0.01
    np.testing.assert_allclose(without[-12:], 0.1, atol=1e-6)
    with open_store(STORE, read_only=True) as records:
        (evidence,) = recorded(records, "Cu", after.settings_hash)
    np.testing.assert_allclose(np.sort(np.linalg.norm(evidence.displacements, axis=1))[-12:], 0.1, atol=1e-6)


def test_frames_become_a_training_set():
    unit = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    ase.io.write("MgO.vasp", unit, format="vasp")
    frame = unit.repeat((2, 2, 2))
    del frame[9]
    frame.arrays["relaxed_positions"] = frame.positions.copy()
    frame.arrays["relaxed_positions"][0, 0] += 0.2
    frame.info = {"functional": "PBE", "relaxed_energy": -1.0}
    whole = unit.repeat((2, 2, 2))
    whole.arrays["relaxed_positions"] = whole.positions.copy()
    whole.info = {"functional": "PBE", "relaxed_energy": -9.0}
    ase.io.write("all.extxyz", [frame, whole], format="extxyz", write_results=False)
    definet("ingest", "all.extxyz", "--host", "MgO.vasp")
    (found,) = learned()
    assert [(entry.name, entry.host.n_sites) for entry in found.entries] == [("v_O", 64)]
    assert np.linalg.norm(found.entries[0].moved, axis=1).max() == pytest.approx(0.2 * 62 / 63)
    with open_store(STORE, read_only=True) as records:
        (host,) = records.find(RelaxedHost)
    assert (host.settings_hash, host.ledger.energy) == (found.settings_hash, -9.0)


# ------------------------------------------------------------------ settings of the host


def turned(cell):
    """Return a cell turned, its origin moved, its axes exchanged in a cycle."""
    frac = (cell.frac_coords + np.array([0.11, 0.07, 0.23]))[:, [1, 2, 0]]
    return Structure((cell.lattice.matrix @ ROTATED)[[1, 2, 0]], cell.species, frac)


@pytest.mark.parametrize("setting", ["conventional", "primitive", "supercell"])
def test_runs_in_other_settings_of_the_host_are_the_same_records(tmp_path, setting):
    host = {"conventional": CU, "primitive": CU.get_primitive_structure(), "supercell": CU * (2, 2, 2)}[setting]
    path = tmp_path / "runs" / "v_Cu"
    write_run(path, cells=[turned(vacancy(shift)) for shift in (0.0, 0.05, 0.1)])
    write_run(tmp_path / "plain" / "v_Cu", [0.0, 0.05, 0.1])
    found = [ingest(HostFinder([host], given=True, own_origin=True), tmp_path / name) for name in ("runs", "plain")]
    (one,), (plain,) = (ingested.records.values() for ingested in found)
    assert (one.name, one.status, one.ledger.ionic_steps) == ("v_Cu", "done", 3)
    assert one.id == plain.id
    moved = [np.sort(np.linalg.norm(r.sites.relaxed - r.sites.unrelaxed, axis=1)) for r in (one, plain)]
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-6)
    assert [ingested.hosts[one.host.hash].host.n_sites for ingested in found] == [32, 32]


def test_another_host_is_left_out_with_the_reason(tmp_path):
    write_run(tmp_path / "runs" / "v_Cu", [0.0, 0.1])
    silver = Structure.from_spacegroup("Fm-3m", CU.lattice, ["Ag"], [[0, 0, 0]])
    found = ingest(HostFinder([silver], given=True, own_origin=True), tmp_path / "runs")
    assert found.records == {}
    ((_, why),) = found.left_out.items()
    assert "Ag" in why


# ------------------------------------------------------------------ the pristine host


@pytest.mark.parametrize("tags", [{}, {"NSW": 0}, {"IBRION": -1}])
def test_a_bulk_run_is_the_pristine_host_of_its_settings(tmp_path, tags):
    write_run(tmp_path / "runs" / "v_Cu", [0.0, 0.1])
    write_run(tmp_path / "runs" / "bulk", cells=[pristine()], energy=-104.5, **tags)
    write_run(tmp_path / "runs" / "higher", cells=[pristine(0.2)], energy=-104.0, **tags)
    definet("ingest", "runs", "--host", unit_cell())
    with open_store(STORE, read_only=True) as records:
        (record,), (host,) = records.records(), records.find(RelaxedHost)
        assert host.id == RelaxedHost.identity(record.host.hash, record.settings_hash)
        assert next(records.find(Supercell)).host.hash == record.host.hash
    assert host.ledger.energy == -104.5
    np.testing.assert_allclose(host.relaxed, HOST.cartesian, atol=1e-6)


def test_a_bulk_run_that_is_no_end_is_left_out(tmp_path):
    write_run(tmp_path / "runs" / "v_Cu", [0.0, 0.1])
    write_run(tmp_path / "runs" / "unfinished", cells=[pristine()], last_force=0.5, ended=False)
    write_run(tmp_path / "runs" / "charged", cells=[pristine()], charge=1)
    found = ingest(HOST, tmp_path / "runs")
    assert (len(found.records), found.pristine) == (1, {})
    assert "without a converged end" in found.left_out[str(tmp_path / "runs" / "unfinished")]
    assert "with charge +1" in found.left_out[str(tmp_path / "runs" / "charged")]


@real_output
def test_exported_entries_have_their_bulk_entry(tmp_path):
    pytest.importorskip("pymatgen.analysis.defects", reason="pip install -e '.[defects]'")
    from definet_flows.stores.export.entries import defect_entries  # noqa: PLC0415 - an extra

    source = SHARED / "GaN_Mg_Ga"
    (tmp_path / "POSCAR").write_bytes(gzip.decompress((source / "bulk" / "POSCAR.gz").read_bytes()))
    definet("ingest", source, "--host", "POSCAR")
    entries = defect_entries(STORE)
    assert sorted(entry.charge_state for entry in entries.values()) == [0, 1]
    for entry in entries.values():
        assert entry.bulk_entry.energy == pytest.approx(-207.78, abs=5)
        assert (len(entry.bulk_entry.structure), entry.bulk_entry.structure.charge) == (32, 0)
        assert entry.bulk_entry.structure.composition.reduced_formula == "GaN"
    (found,) = learned()
    assert sorted((entry.name, entry.charge) for entry in found.entries) == [("Mg_Ga", 0), ("Mg_Ga", 1)]
