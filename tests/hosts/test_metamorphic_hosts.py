"""The same crystal described otherwise gives the same host: supercell, enumeration, gate, default supercell."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from descriptions import WAYS, across_a, describe, samples
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.vasp import Poscar

from definet_flows.cli.campaign.recipe import _preset
from definet_flows.defects import Choices, enumerate_configurations, site_operations, write_configurations
from definet_flows.errors import InputError
from definet_flows.hosts import for_layer, make_host, to_structure
from definet_flows.hosts.frame import REVERSED, frames, same_rows
from definet_flows.hosts.layer import cell_height, layer_axis, place_layer
from definet_flows.model.inference.domain import knows_host, unit_cell
from definet_flows.workflows import DefectFlowMaker
from definet_flows.workflows.engines.vasp.inputs import is_asymmetric_slab

HOSTS = tuple(samples())


def enumerated(host):
    elements = sorted({Element.from_Z(number).symbol for number in host.numbers})
    choices = Choices(defects=tuple(f"v_{symbol}" for symbol in elements), max_defects=2)
    return Counter((one.name, one.multiplicity) for one in enumerate_configurations(host, choices))


@cache
def as_given(name):
    host = samples()[name].host
    return host, enumerated(host), (unit_cell(host),)


@pytest.mark.parametrize("way", [*WAYS, "doubled"])
@pytest.mark.parametrize("name", HOSTS)
def test_a_host_described_otherwise_has_the_same_configurations(name, way):
    sample = samples()[name]
    plain, configurations, known = as_given(name)
    other = describe(sample.unit, way, sample.axis)
    host = make_host(other.structure, other.matrix(sample.matrix))
    assert np.linalg.det(host.lattice) > 0
    assert (host.n_sites, host.dimensionality) == (plain.n_sites, plain.dimensionality)
    assert host.vacuum == (plain.vacuum if plain.vacuum is None else pytest.approx(plain.vacuum, abs=1e-3))
    assert len(site_operations(host)) == len(site_operations(plain))
    assert enumerated(host) == configurations
    assert knows_host(known, host)
    left = np.linalg.det(other.structure.lattice.matrix) < 0
    assert ("axes" in host.provenance) == left
    if left:
        assert host.provenance["axes"].startswith(REVERSED)
    if way == "reversed":
        assert host.hash == plain.hash


def test_conventional_and_primitive_cells_make_one_host():
    sample = samples()["fcc"]
    cube = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    host = make_host(cube, (2, 2, 2))
    assert host.n_sites == sample.host.n_sites
    assert enumerated(host) == as_given("fcc")[1]
    assert knows_host((unit_cell(host),), sample.host)


def test_left_handed_rows_keep_every_atom_and_the_meaning_of_a_supercell():
    rows = [[-1.3, 2.251666, 0], [2.6, 0, 0], [0, 0, 4.2]]
    unit = Structure(Lattice(rows), ["Cu", "Ni"], [[0.1, 0.2, 0.3], [0.6, 0.4, 0.8]])
    host = make_host(unit, (3, 2, 1), symprec=1e-5)
    assert np.linalg.norm(host.lattice, axis=1) == pytest.approx([7.8, 5.2, 4.2], abs=1e-5)
    made = to_structure(host)
    for site in unit:
        assert min(other.distance_from_point(site.coords) for other in periodic_images(made, site)) < 1e-4


def periodic_images(structure, site):
    return structure.get_sites_in_sphere(site.coords, 0.1)


def test_what_is_written_for_vasp_is_right_handed_and_the_same_crystal(tmp_path):
    other = describe(samples()["wurtzite"].unit, "left-handed")
    host = make_host(other.structure, (2, 2, 2))
    choices = Choices(defects=("v_N",))
    assert write_configurations(tmp_path / "out", host, enumerate_configurations(host, choices), "poscar") == 1
    (path,) = (tmp_path / "out").glob("*.vasp")
    written = Poscar.from_file(path).structure
    assert np.allclose(written.lattice.matrix, host.lattice, atol=1e-6)
    kept = to_structure(host)
    for site in written:
        (same,) = kept.get_sites_in_sphere(site.coords, 1e-3)
        assert same.specie.symbol == site.specie.symbol


# ------------------------------------------------------------------ a layer's normal


@pytest.mark.parametrize(("axis", "expected"), [(0, (1, 8, 6)), (1, (6, 1, 8)), (2, (8, 6, 1))])
def test_a_size_for_a_layer_across_c_leaves_the_vacuum_alone(axis, expected):
    layer = describe(samples()["BN across a"].unit, "images", axis=0).structure
    order = np.roll(np.arange(3), axis)
    turned = Structure(Lattice(layer.lattice.matrix[order]), layer.species, layer.frac_coords[:, order])
    assert layer_axis(turned) == axis
    assert for_layer((8, 6, 1), turned) == expected
    assert for_layer((8, 6, 1), samples()["rutile"].unit) == (8, 6, 1)


def test_a_campaign_and_a_preset_of_a_layer_across_a_repeat_its_plane(tmp_path):
    across_a("MoS2").to(str(tmp_path / "MoS2.vasp"), fmt="poscar")
    assert _preset("2dmd-low", str(tmp_path / "MoS2.vasp"), 0).supercell == (1, 8, 8)
    maker = DefectFlowMaker(defects=("v_S",), engine="sevennet")
    campaign = maker.campaign(across_a("MoS2"))
    assert np.array_equal(campaign.host.matrix, np.diag([1, 4, 4]))


@pytest.mark.parametrize("name", ["MoS2", "P", "GaSe"])
def test_vacuum_height_and_faces_are_told_along_any_axis(name):
    plain, turned = make_host(name, (2, 2, 1)), make_host(across_a(name), (1, 2, 2))
    assert turned.vacuum == pytest.approx(plain.vacuum, abs=1e-6)
    assert cell_height(to_structure(turned)) == pytest.approx(cell_height(to_structure(plain)), abs=1e-6)
    assert is_asymmetric_slab(to_structure(turned)) == is_asymmetric_slab(to_structure(plain)) == False  # noqa: E712
    wide = place_layer(across_a(name), vacuum=25.0, center=True)
    assert make_host(wide, (1, 2, 2)).vacuum == pytest.approx(25.0, abs=1e-4)


# ------------------------------------------------------------------ cells


def test_a_strained_cell_is_carried_and_another_is_refused():
    cell = np.array(samples()["triclinic"].host.lattice)
    frame = same_rows(
        1.008 * describe(to_structure(samples()["triclinic"].host), "rotated").structure.lattice.matrix, cell
    )
    assert frame.turned == pytest.approx(1.008 * cell, abs=1e-9)
    with pytest.raises(InputError, match="keep the cell fixed"):
        same_rows(1.03 * cell, cell)
    assert frames(1.03 * cell, cell) == []


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e300, 1e30])
def test_a_cell_that_is_none_fits_no_host(wrong):
    cell = 3.6 * np.eye(3)
    cell[2, 0] = wrong  # a sheared cell of the same volume
    assert frames(cell, 3.6 * np.eye(3)) == []
