"""The engine `gpaw`: what its absence says, spin and charge, and a relaxation of a tiny cell where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.ledger import read_document
from definet_flows.workflows.engines import gpaw as engine_module
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.gpaw import GpawRelaxMaker, with_moments
from definet_flows.workflows.engines.vasp.inputs import mark_defects

needs_gpaw = pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed: see docs/gpaw.md")
LOOSE = {"cutoff": 200.0, "convergence": {"energy": 1e-4, "density": 1e-3}}


pytestmark = pytest.mark.filterwarnings("ignore:Structure charge:UserWarning")  # charge beside neutral atoms


@pytest.fixture
def dimer():
    return Structure(Lattice.cubic(4.0), ["H", "Li"], [[0, 0, 0], [0.42, 0.1, 0]])


def test_without_gpaw_one_line_names_all_that_an_installation_needs(monkeypatch):
    monkeypatch.setattr(engine_module, "find_spec", lambda _: None)
    with pytest.raises(InputError) as caught:
        resolve_engine("gpaw")
    told = str(caught.value)
    assert "\n" not in told
    for part in (
        "apt-get install g++ libxc-dev",
        "GPAW_CONFIG=$PWD/examples/gpaw/siteconfig.py",
        "[gpaw]",
        "docs/gpaw",
    ):
        assert part in told


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"'fd'.*'pw'"):
        GpawRelaxMaker(mode="fd")


@pytest.mark.parametrize(("charge", "total"), [(0, 0.0), (1, 1.0), (-1, 1.0), (2, 0.0)])
def test_odd_electrons_start_with_one_bohr_magneton_beside_the_defect(dimer, charge, total):
    cell = dimer * (2, 1, 1)
    cell.set_charge(charge)
    moments = with_moments(mark_defects(cell, cell, np.array([[0.0, 0.0, 0.0]]))).site_properties["magmom"]
    assert sum(moments) == pytest.approx(total)
    far = [moment for moment, site in zip(moments, cell, strict=True) if site.distance(cell[0]) > 3]
    assert far
    assert not any(far)


@needs_gpaw
def test_the_settings_hash_knows_version_setups_and_mode(monkeypatch):
    first = resolve_engine(GpawRelaxMaker()).settings_hash
    assert first == resolve_engine("gpaw").settings_hash
    assert first != resolve_engine(GpawRelaxMaker(mode="lcao")).settings_hash
    monkeypatch.setattr(engine_module, "version", lambda _: "27.1.0")
    assert first != resolve_engine("gpaw").settings_hash
    monkeypatch.undo()
    monkeypatch.setattr(engine_module, "setups_hash", lambda _: "others")
    assert first != resolve_engine("gpaw").settings_hash


@pytest.mark.slow
@needs_gpaw
@pytest.mark.parametrize("mode", ["pw", "lcao"])
def test_a_relaxation_counts_every_force_evaluation_and_computes_no_stress(dimer, mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maker = GpawRelaxMaker(mode=mode, **LOOSE, relax_kwargs={"fmax": 0.05}, steps=2)
    job = resolve_engine(maker).relaxation(dimer)
    outputs = run_locally(job, create_folders=True, ensure_success=True, log=False)
    outcome = read_document(outputs[job.uuid][1].output)
    text = next(tmp_path.rglob("gpaw.txt")).read_text()
    assert outcome.ledger.ionic_steps == text.count("Force computation time") > 1
    assert "stress" not in text.lower()
    assert outcome.ledger.energy < 0


@pytest.mark.slow
@needs_gpaw
def test_forces_do_not_depend_on_where_a_layer_lies_between_grid_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = Structure(Lattice.hexagonal(2.5124, 6.0), ["B", "N"], [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
    across = []
    for shift in (0.02, 0.045, 0.07):  # planar: only the grid can push it along its normal; at 0.185 Å by 0.01 eV/Å
        structure = with_moments(layer.copy().translate_sites([0, 1], [0, 0, shift], frac_coords=False))
        atoms = structure.to_ase_atoms()
        atoms.calc = GpawRelaxMaker()._calculator_of(structure)
        across.append(abs(atoms.get_forces()[:, 2]).max())
    assert max(across) < 0.001


@pytest.mark.slow
@needs_gpaw
def test_the_charge_of_the_cell_reaches_gpaw(dimer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dimer.set_charge(1)
    maker = GpawRelaxMaker(mode="lcao", **LOOSE, relax_kwargs={"fmax": 10.0}, steps=2)
    job = resolve_engine(maker).relaxation(dimer)
    run_locally(job, create_folders=True, ensure_success=True, log=False)
    text = next(tmp_path.rglob("gpaw.txt")).read_text()
    assert "spinpol=True" in text
    assert "charge=1.0" in text
