"""The defects of Fig. 6: how many atoms they lack, where, and the symmetry of the trefoil."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from ase.geometry import find_mic

from definet_flows.defects import nodes
from definet_flows.hosts import make_host

BUILDERS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "support" / "stem_defects.py"))
double, row, single, trefoil = (BUILDERS[name] for name in ("double", "row", "single", "trefoil"))
A = {"MoS2": 3.18, "WSe2": 3.32}


@pytest.fixture(scope="module")
def layer():
    return make_host("WSe2", (6, 6, 1))


def nearest(picture) -> float:
    """Shortest distance of two atoms, Å."""
    there = picture.placed(picture.host.cartesian)[picture.atoms]
    first, second = np.triu_indices(len(there), 1)
    return float(find_mic(there[first] - there[second], picture.host.lattice)[1].min())


@pytest.mark.parametrize(("make", "n"), [(single, 1), (double, 2), (lambda h: row(h, 4), 4), (trefoil, 6)])
def test_each_lacks_as_many_chalcogens_as_it_says(layer, make, n):
    picture = make(layer)
    assert len(set(picture.vacant)) == n == len(picture.configuration.edits)
    assert {layer.numbers[site] for site in picture.vacant} == {34}
    assert int((nodes(layer, picture.configuration)[1] == 2).sum()) == n
    assert nearest(picture) > 2.3  # W to Se is 2.54 Å: no atom is pushed into another


def test_a_row_is_straight_in_one_plane_and_its_members_are_neighbours():
    host = make_host("MoS2", (6, 6, 1))
    places = host.cartesian[list(row(host, 4).vacant)]
    steps = find_mic(np.diff(places, axis=0), host.lattice)[0]
    assert steps == pytest.approx(np.tile(steps[0], (3, 1)), abs=1e-3)
    assert np.linalg.norm(steps[0]) == pytest.approx(A["MoS2"], abs=0.02)
    assert steps[0][2] == pytest.approx(0, abs=1e-3)


def test_a_double_vacancy_is_a_column(layer):
    upper, lower = layer.cartesian[list(double(layer).vacant)]
    assert find_mic([upper - lower], layer.lattice)[0][0][:2] == pytest.approx([0, 0], abs=1e-3)


def test_the_trefoil_is_its_own_image_when_it_is_turned_by_120_degrees_and_mirrored(layer):
    picture = trefoil(layer)
    there, numbers = picture.placed(layer.cartesian)[picture.atoms], np.array(layer.numbers)[picture.atoms]
    middle = layer.cartesian[picture.centre]
    third = np.array([[-0.5, -(3**0.5) / 2, 0], [3**0.5 / 2, -0.5, 0], [0, 0, 1]])
    for turn in (third, np.diag([1.0, 1.0, -1.0])):
        image = middle + (there - middle) @ turn.T
        apart = [
            find_mic(there[numbers == z] - place, layer.lattice)[1].min()
            for place, z in zip(image, numbers, strict=True)
        ]
        assert max(apart) < 1e-3
    half = middle + (there - middle) @ np.diag([-1.0, -1.0, 1.0])
    assert max(find_mic(there - place, layer.lattice)[1].min() for place in half) > 1  # and not by 180 degrees


def test_the_turned_atoms_of_the_trefoil_keep_the_bond_to_the_centre_and_find_another_metal(layer):
    picture = trefoil(layer)
    before, after = layer.cartesian, picture.placed(layer.cartesian)
    assert len(picture.turned) == 6
    assert picture.arms(after) == pytest.approx(picture.arms(before), abs=1e-6)
    metals = np.flatnonzero(np.array(layer.numbers) == 74)
    bond = picture.arms(before)
    for site in picture.turned:
        bonded = [
            set(metals[np.isclose(find_mic(p[metals] - p[site], layer.lattice)[1], bond, atol=0.02)])
            for p in (before, after)
        ]
        assert [len(found) for found in bonded] == [3, 3]
        assert len(bonded[0] & bonded[1] - {picture.centre}) == 1  # a neighbouring hollow shares an edge
        assert picture.centre in bonded[0] & bonded[1]
    assert picture.turned_host.cartesian[list(picture.turned)] != pytest.approx(before[list(picture.turned)], abs=0.5)


def test_distances_across_a_vacancy_are_those_of_its_three_metals(layer):
    picture = single(layer)
    assert picture.across(layer.cartesian) == pytest.approx(A["WSe2"], abs=0.02)
    moved = layer.cartesian.copy()
    for site in picture.rims[0]:
        (way,), _ = find_mic([moved[picture.vacant[0]] - moved[site]], layer.lattice)
        moved[site, :2] += 0.1 * way[:2] / np.linalg.norm(way[:2])
    assert picture.across(moved) == pytest.approx(picture.across(layer.cartesian) - 0.1 * 3**0.5, abs=1e-3)
    assert picture.arms(moved) is None
