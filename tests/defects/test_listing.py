"""Rows of an enumeration, labels of inequivalent sites, and names of files."""

from __future__ import annotations

import csv

import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from definet_flows.cli.app import app, console
from definet_flows.defects import Choices, enumerate_configurations, read_configurations, write_configurations
from definet_flows.defects.files import INDEX
from definet_flows.defects.labels import file_names, label_of, site_labels
from definet_flows.defects.listing import listed
from definet_flows.defects.sites.symmetry import site_operations
from definet_flows.hosts import make_host

GALLIA = Structure.from_spacegroup(
    "C2/m",
    Lattice.from_parameters(12.23, 3.04, 5.80, 90, 103.7, 90),
    ["Ga", "Ga", "O", "O", "O"],
    [[0.0905, 0, 0.7946], [0.1587, 0.5, 0.3143], [0.1645, 0, 0.1098], [0.1733, 0, 0.5632], [-0.0041, 0.5, 0.2566]],
)
ORDER = {"1": 1, "m": 2, "2": 2, "3": 3, "mm2": 4, "3m": 6, "-6m2": 12, "4mm": 8, "4/mmm": 16, "m-3m": 48}


@pytest.fixture(scope="module")
def gallia():
    return make_host(GALLIA, (1, 2, 1))


def rows(host, *defects, **limits):
    return list(listed(host, enumerate_configurations(host, Choices(defects=defects, **limits))))


def test_inequivalent_sites_have_a_row_and_a_number_each(gallia):
    found = rows(gallia, "v_O", "Mg_Ga", "v_Ga")
    assert sorted(row.name for row in found) == ["Mg_Ga1", "Mg_Ga2", "v_Ga1", "v_Ga2", "v_O1", "v_O2", "v_O3"]
    assert sum(row.multiplicity for row in found if row.name.startswith("v_O")) == gallia.numbers.count(8)
    labels = site_labels(gallia)
    for row in found:
        assert row.name.endswith(labels[int(row.sites)])


def test_sites_that_are_equivalent_have_no_number():
    host = make_host("MoS2", (3, 3, 1))
    assert set(site_labels(host)) == {"Mo", "S"}
    assert [row.name for row in rows(host, "v_S", "W_Mo")] == ["v_S", "W_Mo"]


@pytest.mark.parametrize(("name", "defects"), [("MoS2", ("v_S", "W_Mo")), ("BN", ("v_N", "C_B"))])
def test_symmetry_and_multiplicity_belong_together(name, defects):
    host = make_host(name, (3, 3, 1))
    for row in rows(host, *defects, max_defects=2):
        assert ORDER[row.site_symmetry] * row.multiplicity == len(site_operations(host))


def test_every_charge_has_its_value_and_its_id(gallia):
    found = rows(gallia, "v_O", charges={"v_O": (0, 1, 2)})
    assert [(row.name, row.charge) for row in found[:3]] == [("v_O1", 0), ("v_O1", 1), ("v_O1", 2)]
    assert len({row.id for row in found}) == len(found) == 9


def test_complexes_name_the_sites_of_both(gallia):
    labels = site_labels(gallia)
    names = {
        label_of(configuration, labels)
        for configuration in enumerate_configurations(gallia, Choices(defects=("v_O", "Mg_Ga"), max_defects=2))
    }
    assert {"v_O1+v_O3", "v_O2+Mg_Ga1", "Mg_Ga1+Mg_Ga2", "v_O2"} < names


def test_names_of_files_never_collide():
    ids = [f"{k:08x}{'0' * 24}" for k in range(6)]
    labels = ["v_S", "v_S+v_S", "v_S+v_S", "Co_i", "CO_i", "v_S+" * 60]
    found = file_names(labels, ids)
    assert found[0] == "v_S"
    assert found[1:5] == ["v_S+v_S_00000001", "v_S+v_S_00000002", "Co_i_00000003", "CO_i_00000004"]
    assert len({name.lower() for name in found}) == 6
    assert max(map(len, found)) < 200
    alike = ["0" * 31 + "1", "0" * 31 + "2"]
    assert len(set(file_names(["v_S", "v_S"], alike))) == 2


def test_a_configuration_that_is_given_twice_has_a_single_file(tmp_path, gallia):
    (first, *_) = enumerate_configurations(gallia, Choices(defects=("v_O",), charges=(2,)))
    assert write_configurations(tmp_path / "out", gallia, [first, first], "poscar") == 2
    assert len(list((tmp_path / "out").glob("v_O1_+2*.vasp"))) == 1
    assert list(read_configurations(tmp_path / "out" / INDEX)[1]) == [first, first]


def test_list_and_csv_from_the_shell(tmp_path):
    host = tmp_path / "Ga2O3.cif"
    GALLIA.to(filename=str(host))
    table = tmp_path / "rows.csv"
    arguments = ["enumerate", str(host), "--defect", "v_O", "--charge", "v_O=0,+2", "--csv", str(table)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 x 4 x 3, the smallest with periodic images at least 12 Å apart" in result.stdout
    assert "6 configurations listed in" in result.stdout
    assert "v_O1" not in result.stdout
    with table.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [(row["name"], row["charge"]) for row in found[:2]] == [("v_O1", "0"), ("v_O1", "+2")]
    result = CliRunner().invoke(app, [*arguments[:-2], "--list"])
    shown = [line.split("│")[1:-1] for line in result.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in shown] == [
        [row["name"], row["id"][:12], row["sites"], row["multiplicity"], "m", row["charge"]] for row in found
    ]
    refused = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "nowhere" / "rows.csv")])
    assert refused.exit_code == 2


def test_a_long_place_leaves_room_for_the_name(monkeypatch):
    monkeypatch.setattr(console, "_width", 80)
    options = ["--supercell", "2", "2", "1", "--defect", "Li_i", "--defect", "v_S", "--min-defects", "2"]
    result = CliRunner().invoke(app, ["enumerate", "MoS2", *options, "--max-defects", "2", "--list"])
    assert result.exit_code == 0, result.output
    names = {line.split("│")[1].strip() for line in result.stdout.splitlines() if line.startswith("│")}
    assert {"v_S+Li_i", "Li_i+Li_i"} <= names
