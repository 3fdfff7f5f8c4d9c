"""Published pairs become records, and their fields predict the same defect in a larger cell: all from the shell."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from typer.testing import CliRunner

from definet_flows import InputError, prerelax
from definet_flows.cli import app
from definet_flows.starts import potential

A, INWARD = 3.6, 0.08  # Å


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    write("POSCAR", bulk("Cu", cubic=True, a=A), format="vasp")
    return tmp_path


def vacancy(cells: int, **info):
    """Return copper without its first atom; the twelve neighbours relax towards the hole."""
    atoms = bulk("Cu", cubic=True, a=A) * (cells, cells, cells)
    hole = atoms.positions[0]
    vectors = atoms.get_distances(0, range(len(atoms)), mic=True, vector=True)
    del atoms[0]
    vectors = vectors[1:]
    lengths = np.linalg.norm(vectors, axis=1)
    near = lengths < 0.75 * A
    moved = np.where(near[:, None], -INWARD * vectors / lengths[:, None], 0.0)
    assert near.sum() == 12
    assert np.allclose(hole, 0)
    atoms.arrays["relaxed_positions"] = atoms.positions + moved
    atoms.info |= info
    return atoms


def command(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def ingested(*frames):
    write("small.extxyz", list(frames))
    result = command("ingest", "small.extxyz", "--host", "POSCAR", "--store", "s.sqlite")
    assert result.exit_code == 0, result.output


pytestmark = pytest.mark.usefixtures("place")
FIELDS = ("--host", "POSCAR", "--prerelaxer", "fields", "--store", "s.sqlite", "-o", "out.extxyz")


def test_the_field_of_a_small_cell_is_laid_onto_a_larger_one():
    ingested(vacancy(2, functional="PBE", charge=0))
    large = vacancy(3)
    write("large.extxyz", large)
    result = command("predict", "large.extxyz", *FIELDS)
    assert result.exit_code == 0, result.output
    out = read("out.extxyz")
    error = out.positions - large.arrays["relaxed_positions"]
    assert np.abs(error - error.mean(axis=0)).max() < 1e-3
    assert out.info["verdict"] == "accepted"


def test_several_settings_are_refused_until_one_is_chosen():
    ingested(vacancy(2, functional="PBE", charge=0), vacancy(2, functional="PBEsol", charge=0))
    write("large.extxyz", vacancy(3))
    result = command("predict", "large.extxyz", *FIELDS)
    assert result.exit_code == 2
    assert "several settings" in result.output
    assert "PBEsol" in result.output
    prefix = result.output.split("PBEsol (")[1][:6]
    assert command("predict", "large.extxyz", *FIELDS, "--settings", prefix).exit_code == 0


def test_the_function_and_the_command_agree():
    ingested(vacancy(2, functional="PBE", charge=1))
    large = vacancy(3, charge=1)
    write("large.extxyz", large)
    assert command("predict", "large.extxyz", *FIELDS).exit_code == 0
    (result,) = prerelax(large, "POSCAR", prerelaxer="fields", store="s.sqlite")
    theirs = read("out.extxyz")
    assert (result.verdict, result.defects) == (theirs.info["verdict"], "v_Cu") == ("accepted", "v_Cu")
    np.testing.assert_allclose(result.structure.cart_coords, theirs.positions, atol=1e-6)
    assert result.uncertainty == pytest.approx(theirs.info["uncertainty"])


def test_the_function_takes_potentials_and_chains(monkeypatch):
    emt = potential.PotentialPreRelaxer("potential:emt", EMT, "emt")
    monkeypatch.setattr(potential, "potential_named", lambda _: emt)
    ingested(vacancy(2, functional="PBE", charge=0))
    large = vacancy(3)
    alone, chain = (
        prerelax(large, "POSCAR", prerelaxer=name, store="s.sqlite")[0] for name in (emt.name, f"fields+{emt.name}")
    )
    assert alone.verdict == chain.verdict == "accepted"
    assert np.abs(alone.structure.cart_coords - chain.structure.cart_coords).max() < 0.01
    assert np.abs(alone.structure.cart_coords - large.positions).max() > 0.005


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ({"prerelaxer": "fields"}, "name the host"),
        ({"prerelaxer": "auto", "host": "POSCAR"}, "auto is of campaigns"),
        ({"prerelaxer": "magic", "host": "POSCAR"}, "prerelaxer='magic'"),
        ({"prerelaxer": 3, "host": "POSCAR"}, "prerelaxer=3"),
        ({"prerelaxer": "fields", "host": "POSCAR", "store": "nowhere.sqlite"}, "nowhere.sqlite"),
        ({"prerelaxer": "fields", "host": "POSCAR", "store": "s.sqlite", "settings": "zz"}, "no settings 'zz'"),
    ],
)
def test_what_the_function_refuses(options, saying):
    ingested(vacancy(2, functional="PBE", charge=0))
    with pytest.raises(InputError, match=saying):
        prerelax(vacancy(3), **options)


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (("--prerelaxer", "fields", "--store", "s.sqlite"), "name the host (--host)"),
        (("--prerelaxer", "auto", "--host", "POSCAR"), "auto is of campaigns"),
        (("--prerelaxer", "magic", "--host", "POSCAR"), "prerelaxer='magic'"),
        (("--prerelaxer", "fields", "--host", "POSCAR", "--store", "s.sqlite", "--settings", "zz"), "no settings 'zz'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(place, options, saying):
    ingested(vacancy(2, functional="PBE", charge=0))
    write("large.extxyz", vacancy(3))
    result = command("predict", "large.extxyz", "-o", "out.extxyz", *options)
    assert result.exit_code == 2
    assert saying in result.output
    assert not (place / "out.extxyz").exists()
