import builtins
import itertools
import sys
from collections import Counter

import numpy as np
import pytest
from bulk_hosts import CDTE
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from definet_flows.defects import (
    Choices,
    build_structure,
    candidate_sites,
    canonical,
    count_by_class,
    enumerate_configurations,
    guess_charges,
    nodes,
    place,
    recover,
    sample_concentration,
    site_operations,
    stabilizer,
)
from definet_flows.defects.kinds import DefectKind
from definet_flows.defects.sites.interstitials import _candidates
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host

LI_S, NA_S = 1.28 + 1.05, 1.66 + 1.05  # Å; sums of covalent radii (Cordero)


def orbits(candidates):
    return sorted(Counter(candidates.orbit.tolist()).values())


def test_zinc_blende_has_two_tetrahedral_cages_and_the_hexagonal_windows():
    unit = candidate_sites(make_host(CDTE, (1, 1, 1)), "Li")
    assert orbits(unit) == [4, 4, 16]
    large = make_host(CDTE.get_primitive_structure(), (2, 2, 2))
    found = candidate_sites(large, "Li")
    assert orbits(found) == [8, 8, 32]
    assert not found.adatom.any()
    cages = [found.frac_coords[found.orbit == k][0] for k in range(2)]
    for cage in cages:  # the centre of a tetrahedron of either element, half a cell edge from the other one
        distances = np.sort(Lattice(large.lattice).get_all_distances(cage, large.frac_coords)[0])
        assert np.allclose(distances[:4], 6.48 * 3**0.5 / 4, atol=1e-6)


def test_adatoms_of_a_dichalcogenide_on_both_faces_touch_the_nearest_atoms():
    host = make_host("MoS2", (3, 3, 1))
    found = candidate_sites(host, "Li")
    lattice = Lattice(host.lattice)
    nearest = lattice.get_all_distances(found.frac_coords, host.frac_coords).min(axis=1)
    heights = (found.frac_coords @ np.array(host.lattice))[:, 2]
    top, bottom = host.cartesian[:, 2].max(), host.cartesian[:, 2].min()
    assert np.array_equal(found.adatom, (heights > top + 0.5) | (heights < bottom - 0.5))
    # on S, on Mo, over the empty hexagon (9 each on a face), on S-S bridges (27)
    assert sorted(Counter(found.orbit[found.adatom].tolist()).values()) == [18, 18, 18, 54]
    assert np.allclose(nearest[found.adatom], LI_S, atol=1e-3)
    taller = candidate_sites(host, "Na")
    nearest = lattice.get_all_distances(taller.frac_coords, host.frac_coords).min(axis=1)
    assert np.allclose(nearest[taller.adatom], NA_S, atol=1e-3)


def test_a_flat_layer_has_adatoms_only():
    host = make_host("BN", (2, 2, 1))
    found = candidate_sites(host, "Li")
    assert found.adatom.all()
    assert orbits(found) == [8, 8, 8, 24]  # hollow, on B, on N, on the bond; two faces of four cells


@pytest.mark.parametrize(("name", "supercell"), [("MoS2", (2, 2, 1)), ("P", (2, 2, 1)), ("GaSe", (2, 1, 1))])
def test_candidates_are_complete_orbits_with_exact_site_symmetry(name, supercell):
    host = make_host(name, supercell)
    found = candidate_sites(host, "Li")
    operations = site_operations(host)
    images = operations.points(host, found.frac_coords)
    delta = images[:, :, None] - found.frac_coords[None, None]
    distance = np.linalg.norm((delta - np.rint(delta)) @ np.array(host.lattice), axis=3)
    assert distance.min(axis=2).max() < 1e-6
    assert np.all(found.orbit[distance.argmin(axis=2)] == found.orbit)
    first = np.unique(found.orbit, return_index=True)[1]
    for row in first:
        configuration = place(host, [f"Li_i@{row}"])
        assert configuration.multiplicity == np.sum(found.orbit == found.orbit[row])
        assert len(stabilizer(host, configuration)) * configuration.multiplicity == len(operations)
    apart = Lattice(host.lattice).get_all_distances(found.frac_coords, found.frac_coords)
    assert (apart + 10 * np.eye(len(found))).min() > 0.5


def brute_force(host, choices, elements):
    """Orbits of all placements, images compared as point sets: no site indices, no canonical order."""
    operations = site_operations(host)
    vacant = 16 if "v_S" in choices.defects else None
    points = [("v", tuple(x)) for x, z in zip(host.frac_coords, host.numbers, strict=True) if z == vacant]
    for element in elements:
        points += [(element, tuple(x)) for x in candidate_sites(host, element).frac_coords]
    frac = np.array([x for _, x in points])
    images = operations.points(host, frac)
    delta = images[:, :, None] - frac[None, None]
    norm = np.linalg.norm((delta - np.rint(delta)) @ np.array(host.lattice), axis=3)
    same = np.array([[a == b for b, _ in points] for a, _ in points])
    permutations = np.where(same[None], norm, 99).argmin(axis=2)
    distance = Lattice(host.lattice).get_all_distances(frac, frac)
    radius = {"v": 0.0, "Li": 1.28, "Na": 1.66}
    found = Counter()
    for size in range(1, choices.limit() + 1):
        for chosen in itertools.combinations(range(len(points)), size):
            names = [points[k][0] for k in chosen]
            if any(names.count(e) > choices.max_per_kind.get(f"{e}_i", 9) for e in elements):
                continue
            pairs = list(itertools.combinations(chosen, 2))
            inserted = [(a, b) for a, b in pairs if "v" not in (points[a][0], points[b][0])]
            if any(distance[a, b] < 0.72 * (radius[points[a][0]] + radius[points[b][0]]) for a, b in inserted):
                continue
            if any(distance[a, b] > (choices.max_distance or 99) + 1e-4 for a, b in pairs):
                continue
            found[min(tuple(sorted(p[list(chosen)].tolist())) for p in permutations)] += 1
    return found


CASES = {
    "singles": ("MoS2", (2, 2, 1), Choices(defects=("Li_i",)), ("Li",)),
    "with vacancies": ("MoS2", (2, 1, 1), Choices(defects=("v_S", "Li_i"), max_defects=3), ("Li",)),
    "near": ("MoS2", (2, 2, 1), Choices(defects=("v_S", "Li_i"), max_defects=2, max_distance=3.5), ("Li",)),
    "two elements": (
        "MoS2",
        (1, 1, 1),
        Choices(defects=("v_S", "Na_i", "Li_i"), max_defects=3, max_per_kind={"Na_i": 1}),
        ("Li", "Na"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_enumeration_with_inserted_atoms_against_brute_force(case):
    name, supercell, choices, elements = CASES[case]
    host = make_host(name, supercell)
    expected = brute_force(host, choices, elements)
    found = list(enumerate_configurations(host, choices))
    assert len(found) == len(expected)
    assert Counter(c.multiplicity for c in found) == Counter(expected.values())
    assert sum(row.placements for row in count_by_class(host, choices)) == sum(expected.values())
    assert len({c.id_in(host.hash) for c in found}) == len(found)
    for configuration in found[:: max(1, len(found) // 60)]:
        assert canonical(host, configuration) == configuration


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_image_of_a_complex_with_candidates_has_one_identity(data):
    host = make_host("MoS2", (4, 4, 1))
    candidates = candidate_sites(host, "Li")
    rows = data.draw(st.lists(st.integers(0, len(candidates) - 1), min_size=1, max_size=3, unique=True))
    site = data.draw(st.integers(16, host.n_sites - 1))
    configuration = place(host, [f"v_S@{site}", *(f"Li_i@{row}" for row in rows)])
    operations = site_operations(host)
    g = data.draw(st.integers(0, len(operations) - 1))
    moved = []
    for edit in configuration.edits:
        if edit.site is not None:
            moved.append(edit.model_copy(update={"site": int(operations.permutations[g, edit.site])}))
        else:
            point = operations.points(host, np.array([edit.position]))[g, 0]
            moved.append(edit.model_copy(update={"position": tuple(point.tolist())}))
    image = canonical(host, configuration.model_copy(update={"edits": tuple(moved[::-1])}))
    assert image.id_in(host.hash) == configuration.id_in(host.hash)
    assert image.multiplicity == configuration.multiplicity


def test_the_orbits_do_not_depend_on_how_the_host_is_written():
    unit = load_structure("MoS2")
    turned = Structure(
        np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]) @ unit.lattice.matrix,
        unit.species[::-1],
        unit.cart_coords[::-1] + np.array([0.4, 0.2, 1.3]),
        coords_are_cartesian=True,
    )
    choices = Choices(defects=("Li_i", "v_S"), max_defects=2, max_distance=5.0)
    sizes = [
        sorted((c.name, c.multiplicity) for c in enumerate_configurations(make_host(*given_), choices))
        for given_ in ((unit, (2, 3, 1)), (turned, (1, 2, 3)), (unit * (2, 1, 1), (1, 3, 1)))
    ]
    assert sizes[0] == sizes[1] == sizes[2]


def test_inserted_atoms_are_rows_after_the_sites_and_are_read_back():
    host = make_host("MoS2", (4, 4, 1))
    choices = Choices(
        defects=("Li_i", "W_Mo"), max_defects=2, min_defects=2, max_distance=4.0, max_per_kind={"Li_i": 1}
    )
    found = [c for c in enumerate_configurations(host, choices) if "Li" in c.name]
    assert len(found) > 5
    for configuration in found:
        numbers, markers = nodes(host, configuration)
        assert (numbers[-1], markers[-1], len(markers)) == (3, 3, host.n_sites + 1)
        back = recover(host, build_structure(host, configuration)).configuration
        assert canonical(host, back).id_in(host.hash) == configuration.id_in(host.hash)


def test_by_candidate_and_in_random_configurations():
    host = make_host("MoS2", (4, 4, 1))
    (one,) = enumerate_configurations(host, Choices(defects=("Li_i@0",)))
    assert one == place(host, ["Li_i@0"])
    with pytest.raises(InputError, match="candidate positions, counted from 0"):
        list(enumerate_configurations(host, Choices(defects=("Li_i@9999",))))
    with pytest.raises(InputError, match="candidate position 9999 does not exist"):
        place(host, ["Li_i@9999"])
    choices = Choices(defects=("Li_i", "v_S"), max_on={"i": 1})
    drawn = list(sample_concentration(host, choices, (0.1,), 20))
    assert all(c.name.count("Li_i") <= 1 and len(c.edits) == 4 for c in drawn)
    assert any("Li_i" in c.name for c in drawn)
    assert [c.edits for c in drawn] == [c.edits for c in sample_concentration(host, choices, (0.1,), 20)]


def test_charges_of_inserted_atoms():
    host = make_host(CDTE, (1, 1, 1))
    guessed = {name: guess_charges(host, DefectKind.parse(name)) for name in ("Li_i", "Cd_i", "Te_i")}
    assert guessed == {"Li_i": (0, 1), "Cd_i": (0, 1, 2), "Te_i": (0, -1, -2)}
    choices = Choices(defects=("Li_i", "v_Cd"), charges="guess")
    assert {(c.name, c.charge) for c in enumerate_configurations(host, choices)} == {
        ("Li_i", 0), ("Li_i", 1), ("v_Cd", 0), ("v_Cd", -1), ("v_Cd", -2),
    }  # fmt: skip


def test_the_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("pymatgen.analysis.defects"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for module in [m for m in sys.modules if m.startswith("pymatgen.analysis.defects")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", absent)
    _candidates.cache_clear()
    host = make_host("MoS2", (2, 2, 1))
    with pytest.raises(InputError, match=r"pip install -e '\.\[defects\]' in the clone"):
        list(enumerate_configurations(host, Choices(defects=("Li_i",))))
    assert len(list(enumerate_configurations(host, Choices(defects=("v_S",))))) == 1


def test_a_vacancy_is_not_an_interstitial():
    with pytest.raises(InputError, match="named after the missing element"):
        DefectKind.parse("v_i")
