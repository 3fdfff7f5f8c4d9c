"""Relaxations that were run elsewhere become records."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner
from vasp_helpers import SHARED, WARNINGS, real_output

from definet_flows.cli import app
from definet_flows.hosts import make_host
from definet_flows.ledger import read_relaxation, read_vasp_run
from definet_flows.stores import open_store
from definet_flows.workflows.recovery.ingest import ingest

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

runner = CliRunner()


@real_output
@pytest.mark.parametrize(
    ("name", "bulk", "expected"),
    [
        ("GaN_Mg_Ga", "POSCAR.gz", [("Mg_Ga", 0, 5, -206.957934), ("Mg_Ga", 1, 5, -211.383950)]),
        ("GaN_v_N", "CONTCAR.gz", [("v_N", -1, 9, -193.407666), ("v_N", 0, 8, -200.601114)]),
    ],
)
def test_real_relaxations_become_records(name, bulk, expected):
    host = make_host(Structure.from_file(SHARED / name / "bulk" / bulk), (1, 1, 1))
    found = ingest(host, SHARED / name)
    assert found.left_out == {}
    (bulk,) = found.pristine.values()
    assert bulk.settings_hash in {record.settings_hash for record in found.records.values()}
    assert bulk.ledger.energy == pytest.approx(read_relaxation(SHARED / name / "bulk").ledger.energy)
    records = sorted(found.records.values(), key=lambda record: record.configuration.charge)
    told = [(r.name, r.configuration.charge, r.ledger.ionic_steps, r.ledger.energy) for r in records]
    assert told == [(*one[:3], pytest.approx(one[3], abs=1e-6)) for one in expected]
    assert len({record.settings_hash for record in records}) == 1
    for record in records:
        assert (record.status, record.ledger.converged) == ("done", True)
        folder = SHARED / name / f"q={record.configuration.charge}"
        end = read_relaxation(folder).structure
        rows = record.sites.relaxed[list(record.sites.permutation)]
        placed = Structure(record.host.lattice, end.species, rows, coords_are_cartesian=True)
        np.testing.assert_allclose(placed.distance_matrix, end.distance_matrix, atol=2e-3)  # the host is symmetrised


@real_output
def test_settings_and_cut_off_runs_are_kept_apart(tmp_path):
    source = SHARED / "GaN_Mg_Ga"
    host = make_host(Structure.from_file(source / "bulk" / "POSCAR.gz"), (1, 1, 1))
    text = gzip.decompress((source / "q=0" / "vasprun.xml.gz").read_bytes()).decode()
    for name, made in {
        "first": text,
        "again": text,
        "other": text.replace('<i name="ENMAX">    500.0', '<i name="ENMAX">    400.0'),
        "zcut": text[: text.rindex("<calculation>") + 500].replace('"ENMAX">    500.0', '"ENMAX">    300.0'),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vasprun.xml").write_text(made)
    found = ingest(host, tmp_path)
    assert len({record.settings_hash for record in found.records.values()}) == 3
    assert len({record.configuration_id for record in found.records.values()}) == 1
    assert len(found.left_out) == 1
    (cut,) = (record for record in found.records.values() if record.status == "failed")
    assert cut.ledger.ionic_steps == 4
    assert cut.sites.last is not None
    assert cut.sites.relaxed is None


def zinc_blende():
    """Return the pristine cell of the runs in ZnS_outcar: their sites, put back on the ideal ones."""
    run = read_vasp_run(SHARED / "ZnS_outcar" / "sub_1_Al_on_Zn_0.OUTCAR.gz")
    ideal = np.rint(run.initial.frac_coords * 16) / 16
    species = [site.specie.symbol.replace("Al", "Zn") for site in run.initial]
    return make_host(Structure(run.initial.lattice, species, ideal), (1, 1, 1))


@real_output
def test_outcars_alone_become_records(tmp_path):
    found = ingest(zinc_blende(), SHARED / "ZnS_outcar")
    assert found.left_out == {}
    told = {
        (r.name, r.configuration.charge): (r.status, r.ledger.ionic_steps, r.ledger.electronic_steps, r.ledger.energy)
        for r in found.records.values()
    }
    assert told == {
        ("Al_Zn", 0): ("done", 7, 24, pytest.approx(-269.216202, abs=1e-6)),
        ("v_Zn", -1): ("done", 14, 59, pytest.approx(-260.065464, abs=1e-6)),
        ("v_S", 1): ("done", 10, 31, pytest.approx(-261.394646, abs=1e-6)),
    }
    assert len({record.settings_hash for record in found.records.values()}) == 1
    whole = gzip.decompress((SHARED / "ZnS_outcar" / "vac_2_S_1.OUTCAR.gz").read_bytes())
    for name, share in (("cut", 0.6), ("head", 0.01)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "OUTCAR").write_bytes(whole[: int(share * len(whole))])
    found = ingest(zinc_blende(), tmp_path)
    (cut,) = found.records.values()
    assert (cut.status, cut.error) == ("failed", "the output is cut off")
    assert 0 < cut.ledger.ionic_steps < 10
    assert cut.sites.last is not None
    assert "breaks off before the first structure" in found.left_out[str(tmp_path / "head")]


@real_output
def test_two_runs_in_one_folder_are_left_out(tmp_path):
    source = SHARED / "GaN_v_N" / "q=0" / "vasprun.xml.gz"
    for name in ("vasprun.xml.relax1.gz", "vasprun.xml.relax2.gz"):
        shutil.copy(source, tmp_path / name)
    host = make_host(Structure.from_file(SHARED / "GaN_v_N" / "bulk" / "CONTCAR.gz"), (1, 1, 1))
    found = ingest(host, tmp_path)
    assert found.records == {}
    assert "a folder of its own" in found.left_out[str(tmp_path)]


@real_output
def test_ingest_from_the_shell(workplace):
    host = workplace / "POSCAR"
    host.write_bytes(gzip.decompress((SHARED / "GaN_Mg_Ga" / "bulk" / "POSCAR.gz").read_bytes()))
    arguments = ["ingest", str(SHARED / "GaN_Mg_Ga"), "--host", str(host), "--store", "records.sqlite"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with open_store("records.sqlite", read_only=True) as records:
        assert len(list(records.records())) == 2
    assert runner.invoke(app, ["ingest", str(workplace), "--host", str(host)]).exit_code == 2
