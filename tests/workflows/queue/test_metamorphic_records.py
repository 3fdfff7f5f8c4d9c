"""Relaxations of one crystal described otherwise become one record: ingest, an engine's own cell, export and back."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from descriptions import WAYS, describe, relaxed, relaxed_field, samples, unlike
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar
from runs import write_run
from typer.testing import CliRunner
from vasp_helpers import WARNINGS

from definet_flows.cli import app
from definet_flows.defects import build_structure, canonical, nodes, place, recover
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.ledger import Outcome
from definet_flows.schemas import VACANCY
from definet_flows.stores import open_store
from definet_flows.stores.export.tables import write_extxyz
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.inputs import group_species
from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine, settings_hash_of
from definet_flows.workflows.recording.ends import completed, place_rows
from definet_flows.workflows.recording.resume import next_structure
from definet_flows.workflows.recovery.ingest import read_record

pytest_plugins = ["flow_fixtures"]
pytestmark = WARNINGS
HOSTS = tuple(samples())
runner = CliRunner()


def write(folder, sample, way="as it is"):
    """A relaxation of the sample's configuration, its cell described in some way."""
    start = describe(build_structure(sample.host, sample.configuration), way, sample.axis)
    end = describe(relaxed(sample.host, sample.configuration), way, sample.axis)
    write_run(folder, start.structure, end.structure)


def displacements(record):
    """Relaxed minus unrelaxed rows, Å, [n_rows, 3]."""
    return record.sites.relaxed - record.sites.unrelaxed


def error(sample, record):
    """Largest error of a record's displacements, Å."""
    atoms = nodes(sample.host, record.configuration)[1] != VACANCY
    expected = relaxed_field(sample.host, sample.configuration)
    return unlike(sample.host, expected, displacements(record), atoms)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HOSTS)
def test_a_run_gives_the_same_record(tmp_path, name, way):
    sample = samples()[name]
    write(tmp_path / "run", sample, way)
    record = read_record(sample.host, tmp_path / "run")
    assert (record.status, record.error) == ("done", None)
    assert record.configuration_id == sample.configuration.id_in(sample.host.hash)
    assert error(sample, record) < (1e-3 if way in {"noise", "all"} else 1e-5)
    expected = np.linalg.norm(relaxed_field(sample.host, sample.configuration), axis=1).max()
    assert np.linalg.norm(displacements(record), axis=1).max() == pytest.approx(expected, abs=1e-3)


# ------------------------------------------------------------------ the host described otherwise


def copper():
    """A vacancy in copper, its run, and the host in the frame of the run."""
    unit = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.55), ["Cu"], [[0, 0, 0]]).get_primitive_structure()
    bulk = unit.make_supercell((3, 3, 3), in_place=False)
    start = bulk.copy()
    start.remove_sites([5])
    end = start.copy()
    end.translate_sites([3], [0.02, 0.02, 0.0151], frac_coords=False)
    return bulk, start, end


def test_a_cif_of_the_host_is_as_good_as_its_poscar(workplace):
    bulk, start, end = copper()
    turned = describe(bulk, "rotated", seed=4).structure
    turned.to(str(workplace / "bulk.cif"))
    bulk.to(str(workplace / "bulk.vasp"), fmt="poscar")
    write_run(workplace / "run", start, end)
    found = []
    for name in ("bulk.vasp", "bulk.cif"):
        arguments = ["ingest", "run", "--host", name, "--store", f"{name}.jsonl"]
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, result.output
        with open_store(f"{name}.jsonl", read_only=True) as records:
            (record,) = records.records()
        found.append(np.sort(np.linalg.norm(displacements(record), axis=1)))
    expected = np.linalg.norm([0.02, 0.02, 0.0151])
    assert found[0][-1] == pytest.approx(expected, abs=1e-5)
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.filterwarnings("ignore:host TiO2 is Pnnm:UserWarning")  # that a strained host nearly has a higher symmetry
@pytest.mark.parametrize("strain", [(1.008, 1.008, 1.008), (1.008, 0.995, 1.0)])
@pytest.mark.parametrize("name", ["MoS2", "rutile", "triclinic"])
def test_a_host_a_little_larger_keeps_the_displacements_of_the_run(tmp_path, name, strain):
    sample = samples()[name]
    write(tmp_path / "run", sample, "rotated")
    factors = strain if name != "MoS2" else (strain[0], strain[0], 1.0)
    rows = sample.unit.lattice.matrix * np.array(factors)[:, None]
    host = make_host(Structure(Lattice(rows), sample.unit.species, sample.unit.frac_coords), sample.matrix.tolist())
    record = read_record(host, tmp_path / "run")
    found = np.sort(np.linalg.norm(displacements(record), axis=1))
    expected = np.sort(np.linalg.norm(relaxed_field(sample.host, sample.configuration), axis=1))
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_host_of_another_size_and_a_cell_that_changed_are_refused(tmp_path):
    sample = samples()["rutile"]
    write(tmp_path / "run", sample)
    large = sample.unit.copy()
    large.scale_lattice(1.1 * large.volume)
    with pytest.raises(InputError, match="is not the host's supercell"):
        read_record(make_host(large, sample.matrix.tolist()), tmp_path / "run")
    start = build_structure(sample.host, sample.configuration)
    write_run(tmp_path / "swollen", start, relaxed(sample.host, sample.configuration), swelling=1.04)
    record = read_record(sample.host, tmp_path / "swollen")
    assert record.status == "failed"
    assert record.sites.relaxed is None


# ------------------------------------------------------------------ what an engine does to a cell


def described_ends(structure):
    """The same end as an engine may return it: as given, turned, mirrored as pymatgen writes left-handed rows."""
    yield structure
    yield describe(structure, "rotated").structure
    yield describe(structure, "images").structure
    yield Structure(Lattice(-structure.lattice.matrix), structure.species, structure.frac_coords)


@pytest.mark.parametrize("name", HOSTS)
def test_rows_come_back_from_any_cell_of_the_engine(name):
    sample = samples()[name]
    end = relaxed(sample.host, sample.configuration)
    _, markers = nodes(sample.host, sample.configuration)
    rows = np.flatnonzero(markers != VACANCY)
    expected = relaxed_field(sample.host, sample.configuration)
    for returned in described_ends(end):
        table = place_rows(sample.host.cartesian, rows.tolist(), returned, sample.host.lattice)
        assert np.allclose(table - sample.host.cartesian, expected, atol=1e-8)
    other = Structure(Lattice(1.04 * end.lattice.matrix), end.species, end.frac_coords)
    with pytest.raises(InputError, match="keep the cell fixed"):
        place_rows(sample.host.cartesian, rows.tolist(), other, sample.host.lattice)


@pytest.mark.parametrize("name", HOSTS)
def test_a_stopped_relaxation_goes_on_from_where_it_was(name):
    sample = samples()[name]
    engine = resolve_engine("sevennet")
    pristine = Pristine(host=sample.host, base=sample.host.cartesian, source="as given")
    planned = PlannedConfiguration(pristine, sample.configuration, engine, "0" * 64, None)
    running = planned.running("unrelaxed", "0" * 36)
    end = relaxed(sample.host, sample.configuration)
    stopped = completed(running, Outcome(describe(end, "rotated").structure, None, None, "killed"))
    assert (stopped.status, stopped.settings_hash) == ("failed", settings_hash_of(engine, relaxed_host=False))
    again = next_structure(stopped, engine)
    assert np.allclose(again.lattice.matrix, sample.host.lattice)
    assert np.allclose(again.distance_matrix, end.distance_matrix, atol=1e-8)


@pytest.mark.parametrize("name", HOSTS)
def test_an_exported_record_is_read_back_as_itself(tmp_path, name):
    sample = samples()[name]
    write(tmp_path / "run", sample, "all")
    record = read_record(sample.host, tmp_path / "run")
    with open_store(str(tmp_path / "records.jsonl")) as records:
        records.put(record)
        write_extxyz(records, tmp_path / "out.extxyz")
    atoms = ase.io.read(tmp_path / "out.extxyz")
    back = Structure(np.array(atoms.cell), atoms.get_chemical_symbols(), atoms.positions, coords_are_cartesian=True)
    found = recover(sample.host, back)
    assert canonical(sample.host, found.configuration).id_in(sample.host.hash) == record.configuration_id
    moved = found.positions - sample.host.cartesian
    assert unlike(sample.host, displacements(record), moved, np.array(list(record.sites.markers)) != "2") < 1e-5


LEFT = Structure(
    Lattice([[-1.3, 2.251666, 0], [2.6, 0, 0], [0, 0, 4.2]]), ["Cu", "Cu"], [[0, 0, 0], [2 / 3, 1 / 3, 0.5]]
)


def test_vasp_gets_a_left_handed_host_right_handed_and_its_end_is_read_where_it_is():
    host = make_host(LEFT, (2, 2, 2))
    engine = resolve_engine("vasp")
    pristine = Pristine(host=host, base=host.cartesian, source="as given")
    planned = PlannedConfiguration(pristine, canonical(host, place(host, ["v_Cu@3"])), engine, "0" * 64, None)
    written = Poscar.from_str(str(Poscar(group_species(planned.structure("unrelaxed"))))).structure
    assert np.linalg.det(written.lattice.matrix) > 0
    assert np.allclose(written.lattice.matrix, host.lattice, atol=1e-6)
    end = written.copy()
    end.translate_sites([2], [0.0, 0.02, 0.015], frac_coords=False)
    record = completed(planned.running("unrelaxed", "0" * 36), Outcome(end, None, None))
    assert np.linalg.norm(displacements(record), axis=1).max() == pytest.approx(0.025, abs=1e-6)


def test_a_left_handed_host_of_an_older_store_is_read_right_too():
    """pymatgen writes left-handed rows reversed, with the fractional coordinates as they are: the mirror image."""
    right = make_host(LEFT, (2, 2, 2))
    frac = tuple((-x % 1.0, -y % 1.0, -z % 1.0) for x, y, z in right.frac_coords)
    rows = tuple(tuple(-x for x in row) for row in right.lattice)
    host = right.model_copy(update={"lattice": rows, "frac_coords": frac})
    written = Poscar.from_str(str(Poscar(build_structure(host, place(host, ["v_Cu@3"]))))).structure
    end = written.copy()
    end.translate_sites([2], [0.0, 0.02, 0.015], frac_coords=False)
    kept = [row for row in range(host.n_sites) if row != place(host, ["v_Cu@3"]).edits[0].site]
    table = place_rows(host.cartesian, kept, end, host.lattice)
    assert np.linalg.norm(table - host.cartesian, axis=1).max() == pytest.approx(0.025, abs=1e-6)
