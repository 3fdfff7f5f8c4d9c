"""Published pairs become records, and their fields predict the same defect in a larger cell: all from the shell."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from definet_flows.cli import app

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


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (("--prerelaxer", "fields", "--store", "s.sqlite"), "name the host with --host"),
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
