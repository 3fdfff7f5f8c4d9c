import itertools
import warnings
from collections import Counter

import numpy as np
import pytest
import spglib
from bulk_hosts import CDTE, Y2TI2S2O5
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Element, Lattice, Structure

from definet_flows.defects import (
    Choices,
    build_structure,
    canonical,
    count_by_class,
    enumerate_configurations,
    nodes,
    place,
    recover,
    site_operations,
    stabilizer,
)
from definet_flows.defects.sites.candidates import find_places
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host, to_structure
from definet_flows.schemas import Configuration, Edit

RECTANGULAR = Structure(  # a triangular lattice in a rectangular setting; the supercell of its test is hexagonal
    Lattice.orthorhombic(3.19, 3.19 * 3**0.5, 20), ["Mo", "Mo"], [[0, 0, 0.5], [0.5, 0.5, 0.5]]
)
MOS2 = Choices(defects=("v_Mo", "W_Mo", "v_S", "Se_S"), max_on={"Mo": 1, "S": 2})


def brute_force(host, choices):
    """Orbits of all placements under spglib's operations of the whole supercell: nothing shared with the package."""
    frac = np.array(host.frac_coords)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib announces how it will raise errors one day
        symmetry = spglib.get_symmetry((host.lattice, frac, host.numbers), symprec=1e-3)
    permutations = []
    for rotation, translation in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        delta = (frac @ rotation.T + translation)[:, None] - frac[None]
        delta -= np.rint(delta)
        permutations.append(np.linalg.norm(delta @ np.array(host.lattice), axis=2).argmin(axis=1))
    options = [[None, *(kind.name for kind in choices.kinds if kind.old == number)] for number in host.numbers]
    distance = Lattice(host.lattice).get_all_distances(frac, frac)
    orbits = Counter()
    for sites in itertools.chain.from_iterable(
        itertools.combinations(range(host.n_sites), n) for n in range(choices.min_defects, choices.limit() + 1)
    ):
        pairs = [distance[a, b] for a, b in itertools.combinations(sites, 2)]
        if (
            pairs
            and not (choices.min_distance or 0) - 1e-4
            <= min(pairs)
            <= max(pairs)
            <= (choices.max_distance or np.inf) + 1e-4
        ):
            continue
        for names in itertools.product(*(options[site][1:] for site in sites)):
            elements = Counter(name.split("_")[1] for name in names)
            if any(elements[e] > n for e, n in choices.max_on.items()):
                continue
            if any(Counter(names)[k] > n for k, n in choices.max_per_kind.items()):
                continue
            images = {tuple(sorted(zip(p[list(sites)].tolist(), names, strict=True))) for p in permutations}
            orbits[min(images)] += 1
    return orbits


def burnside(host, choices):
    """Number of configurations by Burnside's lemma: the mean over operations of the placements each leaves alone."""
    slots = find_places(host, choices).slots
    limits = [min(choices.max_on[Element.from_Z(slot.kind.old).symbol], 9) for slot in slots]
    total = 0
    permutations = site_operations(host).permutations
    for permutation in permutations:
        polynomial = {(0,) * len(slots): 1}
        unseen = set(range(host.n_sites))
        while unseen:
            site = unseen.pop()
            length, image = 1, int(permutation[site])
            while image != site:
                unseen.discard(image)
                image, length = int(permutation[image]), length + 1
            fits = [i for i, slot in enumerate(slots) if length <= limits[i] and site in slot.places]
            grown = Counter(polynomial)
            for counts, n in polynomial.items():
                for i in fits:
                    new = tuple(c + length * (j == i) for j, c in enumerate(counts))
                    if new[i] <= limits[i]:
                        grown[new] += n
            polynomial = grown
        for counts, n in polynomial.items():
            on = Counter()
            for slot, count in zip(slots, counts, strict=True):
                on[Element.from_Z(slot.kind.old).symbol] += count
            total += n if sum(counts) and all(on[e] <= m for e, m in choices.max_on.items()) else 0
    assert total % len(permutations) == 0
    return total // len(permutations)


# ------------------------------------------------------------------ counts

BY_CLASS = {  # metal part, chalcogen part: configurations in the 8 x 8 cell
    ("M", ""): 1, ("", "v"): 1, ("", "X"): 1, ("", "vv"): 19, ("", "XX"): 19, ("", "vX"): 29,
    ("M", "v"): 15, ("M", "X"): 15, ("M", "vv"): 743, ("M", "XX"): 743, ("M", "vX"): 1415,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "metal", "other"),
    [("MoS2", ("v_Mo", "W_Mo"), ("v_S", "Se_S")), ("WSe2", ("v_W", "Mo_W"), ("v_Se", "S_Se"))],
)
def test_published_low_density_counts_by_class(name, metal, other):
    element, chalcogen = metal[0][2:], other[0][2:]
    host = make_host(name, (8, 8, 1))
    choices = Choices(defects=(*metal, *other), max_on={element: 1, chalcogen: 2})
    rows = count_by_class(host, choices)
    assert len(rows) == 17
    for row in rows:
        parts = row.name.split("+")
        key = (
            "M" * sum(p in metal for p in parts),
            "v" * parts.count(other[0]) + "X" * parts.count(other[1]),
        )
        assert row.configurations == BY_CLASS[key]
        pairs = 128 if len(set(key[1])) == 1 else 128 * 127
        plain = (64 if key[0] else 1) * (1, 128, 128 * 127 // 2 if len(set(key[1])) == 1 else pairs)[len(key[1])]
        assert row.placements == plain
    assert sum(row.configurations for row in rows) == 5933
    found = list(enumerate_configurations(host, choices))
    host_hash = host.hash
    assert len({c.id_in(host_hash) for c in found}) == 5933
    assert Counter(c.name for c in found) == {row.name: row.configurations for row in rows}
    assert sum(c.multiplicity for c in found) == sum(row.placements for row in rows)


@pytest.mark.parametrize(("repeat", "expected"), [(4, 469), (6, 1999)])
def test_smaller_cells_and_burnside(repeat, expected):
    host = make_host("MoS2", (repeat, repeat, 1))
    assert sum(row.configurations for row in count_by_class(host, MOS2)) == expected
    if repeat == 4:
        assert burnside(host, MOS2) == expected


CASES = {
    "MoS2 2x2": ("MoS2", (2, 2, 1), Choices(defects=("v_Mo", "W_Mo", "v_S", "Se_S"), max_defects=3)),
    "MoS2 3x2": ("MoS2", (3, 2, 1), Choices(defects=("W_Mo", "v_S"), max_defects=3)),
    "MoS2 sheared": ("MoS2", [[2, 1, 0], [-1, 3, 0], [0, 0, 1]], Choices(defects=("v_S", "Se_S"), max_defects=3)),
    "BN hexagonal": ("BN", [[2, 1, 0], [-1, 1, 0], [0, 0, 1]], Choices(defects=("v_B", "C_B", "C_N"), max_defects=4)),
    "P": ("P", (2, 2, 1), Choices(defects=("v_P", "N_P"), max_defects=3)),
    "CdTe": (CDTE, (1, 1, 1), Choices(defects=("v_Cd", "Te_Cd", "v_Te", "Cd_Te"), max_defects=4, max_on={"Cd": 3})),
    "CdTe primitive": (CDTE.get_primitive_structure(), (2, 2, 2), Choices(defects=("v_Cd", "Te_Cd"), max_defects=4)),
    "caps": ("MoS2", (3, 3, 1), Choices(defects=("v_S", "Se_S"), max_defects=3, max_per_kind={"v_S": 1})),
    "near": ("MoS2", (3, 3, 1), Choices(defects=("v_Mo", "v_S"), max_defects=3, max_distance=3.5)),
    "far": ("MoS2", (3, 3, 1), Choices(defects=("v_Mo", "v_S"), max_defects=3, min_distance=3.5)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_enumeration_against_brute_force(case):
    name, supercell, choices = CASES[case]
    host = make_host(name, supercell)
    expected = brute_force(host, choices)
    found = list(enumerate_configurations(host, choices))
    assert len(found) == len(expected)
    names = Counter((tuple(sorted(c.name.split("+"))), c.multiplicity) for c in found)
    assert names == Counter((tuple(sorted(n for _, n in orbit)), size) for orbit, size in expected.items())
    assert len({c.edits for c in found}) == len(found)
    for configuration in found[:: max(1, len(found) // 50)]:
        assert canonical(host, configuration) == configuration


def test_order_is_by_number_then_composition_and_repeatable():
    host = make_host("MoS2", (3, 3, 1))
    found = list(enumerate_configurations(host, MOS2))
    assert found == list(enumerate_configurations(host, MOS2))
    sizes = [len(c.edits) for c in found]
    assert sizes == sorted(sizes)
    groups = [name for name, _ in itertools.groupby(c.name for c in found)]
    assert len(groups) == len(set(groups)) == 17
    reordered = MOS2.model_copy(update={"defects": MOS2.defects[::-1]})
    assert list(enumerate_configurations(host, reordered)) == found


def intrinsic(host):
    symbols = [Element.from_Z(z).symbol for z in dict.fromkeys(host.numbers)]
    vacancies = Choices(defects=tuple(f"v_{e}" for e in symbols))
    antisites = Choices(defects=tuple(f"{a}_{b}" for a, b in itertools.permutations(symbols, 2)))
    return [len(list(enumerate_configurations(host, c))) for c in (vacancies, antisites)]


def test_singles_of_bulk_hosts():
    assert intrinsic(make_host(CDTE, 12.0)) == [2, 2]
    assert intrinsic(make_host(CDTE.get_primitive_structure(), (3, 3, 3))) == [2, 2]
    assert intrinsic(make_host(Y2TI2S2O5, (3, 3, 1))) == [5, 15]
    assert intrinsic(make_host(Y2TI2S2O5.get_primitive_structure(), 10.0)) == [5, 15]


def test_kinds_by_site_mean_the_sites_equivalent_to_it():
    host = make_host(Y2TI2S2O5, (2, 2, 1))
    oxygens = [i for i, z in enumerate(host.numbers) if z == 8]
    both = list(enumerate_configurations(host, Choices(defects=("v_O",))))
    one = [list(enumerate_configurations(host, Choices(defects=(f"v_O@{i}",)))) for i in (oxygens[0], oxygens[-1])]
    assert [len(c) for c in (both, *one)] == [2, 1, 1]
    assert {c.edits for c in both} == {c.edits for (c,) in one}


def test_a_million_placements_stream():
    host = make_host("MoS2", (8, 8, 1))
    stream = enumerate_configurations(host, Choices(defects=("v_S",), min_defects=5, max_defects=5))
    first = list(itertools.islice(stream, 2000))  # of 344,000 inequivalent ones
    assert len({c.edits for c in first}) == 2000
    assert all(canonical(host, c) == c for c in first[::200])


# ------------------------------------------------------------------ symmetry


@pytest.mark.parametrize(
    ("name", "supercell", "order"),
    [
        ("MoS2", (8, 8, 1), 768),
        ("MoS2", (4, 6, 1), 96 // 2),
        ("P", (6, 6, 1), 288),
        (CDTE, (2, 2, 2), 24 * 32),
        (CDTE.get_primitive_structure(), (3, 3, 3), 24 * 27),
        (CDTE, (2, 1, 1), 8 * 8),
        (RECTANGULAR, [[2, 0, 0], [1, 1, 0], [0, 0, 1]], 24 * 4),
    ],
)  # fmt: skip
def test_operations_form_the_whole_space_group(name, supercell, order):
    host = make_host(name, supercell)
    operations = site_operations(host)
    assert len(operations) == order
    assert np.array_equal(operations.permutations[0], np.arange(host.n_sites))
    inverse = np.linalg.inv(np.array(host.lattice))
    for g in range(0, order, max(1, order // 40)):
        image = host.cartesian @ operations.rotations[g].T + operations.translations[g]
        delta = (image - host.cartesian[operations.permutations[g]]) @ inverse
        assert np.abs(delta - np.rint(delta)).max() < 1e-6
    assert site_operations(host) is operations  # cached
    closed = {p.tobytes() for p in operations.permutations}
    for p in operations.permutations[:: max(1, order // 10)]:
        assert operations.permutations[order // 2][p].tobytes() in closed


def test_stabilizer_and_images_of_a_field():
    host = make_host("MoS2", (4, 4, 1))
    vacancy = place(host, ["v_Mo@5"])
    group = stabilizer(host, vacancy)
    assert (len(group), vacancy.multiplicity) == (12, 16)  # D3h of the metal site
    site = vacancy.edits[0].site
    distances = Lattice(host.lattice).get_all_distances(host.frac_coords[site], host.frac_coords)[0]
    breathing = to_structure(host).lattice.get_cartesian_coords(
        (np.array(host.frac_coords) - host.frac_coords[site] + 0.5) % 1 - 0.5
    ) * np.where(distances < 2.5, 0.1, 0)[:, None]  # fmt: skip
    assert np.allclose(group.images(breathing), breathing, atol=1e-9)
    shift = np.zeros_like(breathing)
    shift[:, 2] = 0.1
    assert {round(float(x), 6) for x in group.images(shift)[:, :, 2].ravel()} == {0.1, -0.1}


# ------------------------------------------------------------------ properties


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_symmetry_image_has_the_same_canonical_form(data):
    name, supercell = data.draw(st.sampled_from([("MoS2", (4, 4, 1)), ("P", (3, 2, 1)), ("GaSe", (3, 3, 1))]))
    host = make_host(name, supercell)
    sites = data.draw(st.lists(st.integers(0, host.n_sites - 1), min_size=1, max_size=6, unique=True))
    edits = [
        Edit(marker=2, site=s, old=host.numbers[s])
        if data.draw(st.booleans())
        else Edit(marker=1, site=s, old=host.numbers[s], new=7)
        for s in sites
    ]
    position = tuple(data.draw(st.tuples(*[st.floats(0, 0.999)] * 3)))
    inserted = [Edit(marker=3, new=3, position=position)] if data.draw(st.booleans()) else []
    operations = site_operations(host)
    g = data.draw(st.integers(0, len(operations) - 1))
    lattice = np.array(host.lattice)
    moved = [e.model_copy(update={"site": int(operations.permutations[g, e.site])}) for e in edits]
    for edit in inserted:
        image = operations.rotations[g] @ (np.array(edit.position) @ lattice) + operations.translations[g]
        moved.append(edit.model_copy(update={"position": tuple((image @ np.linalg.inv(lattice)).tolist())}))
    first = canonical(host, Configuration(edits=tuple(edits + inserted), charge=1))
    second = canonical(host, Configuration(edits=tuple(moved[::-1]), charge=1))
    assert first.model_copy(update={"edits": ()}) == second.model_copy(update={"edits": ()})
    on_sites = [[e for e in c.edits if e.site is not None] for c in (first, second)]
    assert on_sites[0] == on_sites[1]
    for a, b in zip(first.edits[len(edits) :], second.edits[len(edits) :], strict=True):
        delta = np.array(a.position) - b.position
        assert np.abs(delta - np.rint(delta)).max() < 2e-5  # a coordinate may be rounded up or down
    assert len(stabilizer(host, first)) * first.multiplicity == len(operations)


@settings(max_examples=15, deadline=None)
@given(
    angles=st.tuples(*[st.floats(0, 6.28)] * 3),
    shift=st.tuples(*[st.floats(-1, 1)] * 3),
    order=st.permutations(range(3)),
    shear=st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
)
def test_orbits_do_not_depend_on_how_the_host_is_written(angles, shift, order, shear):
    unit = load_structure("MoS2")
    matrix = np.diag([3, 3, 1])
    host = make_host(unit, matrix)
    choices = Choices(defects=("v_Mo", "W_Mo", "v_S"), max_defects=2)
    expected = set(enumerate_configurations(host, choices))

    cosines, sines = np.cos(angles), np.sin(angles)
    rotation = np.eye(3)
    for axis in range(3):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[[i, i, j, j], [i, j, i, j]] = cosines[axis], -sines[axis], sines[axis], cosines[axis]
        rotation = rotation @ turn
    change = np.array([[1, shear[0], 0], [0, 1, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [shear[1], 1, 0], [0, 0, 1]])
    shift = np.array([shift[0], shift[1], 0.2 * shift[2]])
    written = Structure(
        change @ unit.lattice.matrix @ rotation.T,
        [unit.species[i] for i in order],
        (unit.cart_coords[list(order)] + shift) @ rotation.T,
        coords_are_cartesian=True,
        to_unit_cell=True,
    )
    other = make_host(written, np.rint(matrix @ np.linalg.inv(change)).astype(int))
    assert np.allclose(np.array(other.lattice) @ rotation, np.array(host.lattice), atol=1e-8)
    back = set()
    for configuration in enumerate_configurations(other, choices):
        structure = build_structure(other, configuration)
        coords = structure.cart_coords @ rotation - shift
        moved = Structure(host.lattice, structure.species, coords, coords_are_cartesian=True)
        back.add(canonical(host, recover(host, moved).configuration))
    assert back == expected


# ------------------------------------------------------------------ nodes and structures


def test_nodes_keep_the_missing_element_and_structures_drop_it():
    host = make_host("MoS2", (2, 2, 1))
    edits = (
        Edit(marker=2, site=6, old=16),
        Edit(marker=1, site=1, old=42, new=74),
        Edit(marker=3, new=3, position=(0.5, 0.5, 0.9)),
    )
    configuration = Configuration(edits=edits, charge=-1)
    numbers, markers = nodes(host, configuration)
    assert markers.tolist() == [0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 3]
    assert (numbers[6], numbers[1], numbers[12]) == (16, 74, 3)
    structure = build_structure(host, configuration)
    with pytest.warns(UserWarning, match="Structure charge"):  # pymatgen: nobody set oxidation states
        assert structure.charge == -1
    assert recover(host, structure).configuration.charge == -1
    assert [s.specie.Z for s in structure] == [42, 74, 42, 42, *[16] * 7, 3]
    table = np.arange(39.0).reshape(13, 3)
    placed = build_structure(host, configuration, table)
    assert np.allclose(placed.cart_coords, np.delete(table, 6, axis=0))
    with pytest.raises(InputError, match="13 rows"):
        build_structure(host, configuration, table[:12])
    with pytest.raises(InputError, match="does not fit host"):
        nodes(host, Configuration(edits=(Edit(marker=2, site=0, old=16),)))


def test_a_configuration_is_small():
    host = make_host("MoS2", (8, 8, 1))
    found = enumerate_configurations(host, MOS2)
    assert max(len(c.model_dump_json(exclude_none=True)) for c in itertools.islice(found, 0, None, 50)) < 200
