import csv
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from archive_data import data  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Structure

from definet_flows.defects import (
    Choices,
    build_structure,
    canonical,
    enumerate_configurations,
    nodes,
    place,
    preset,
    recover,
    sample_concentration,
    unrelaxed_positions,
)
from definet_flows.defects.sites.symmetry import primitive_cell
from definet_flows.errors import InputError
from definet_flows.hosts import make_host, to_structure
from definet_flows.schemas import Configuration, Edit


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(["MoS2", "GaSe", "P"]), amplitude=st.floats(0, 0.6))
def test_shuffled_relaxed_structures_in_any_image_are_recovered(seed, name, amplitude):
    host = make_host(name, (4, 4, 1))
    rng = np.random.default_rng(seed)
    caps = preset("2dmd-high", name).choices.defects
    (configuration,) = sample_concentration(host, Choices(defects=caps), (0.06,), 1, seed=seed)
    numbers, markers = nodes(host, configuration)
    moved = rng.normal(size=(len(numbers), 3))
    moved *= amplitude * rng.random(len(numbers))[:, None] / np.linalg.norm(moved, axis=1)[:, None]
    moved[markers == 2] = 0
    table = unrelaxed_positions(host, configuration) + moved
    structure = build_structure(host, configuration, table)
    rows = np.flatnonzero(markers != 2)
    order = rng.permutation(len(rows))
    images = rng.integers(-2, 3, size=(len(rows), 3))
    written = Structure(structure.lattice, [structure.species[k] for k in order], structure.frac_coords[order] + images)
    found = recover(host, written)
    assert canonical(host, found.configuration) == configuration
    assert set(found.configuration.edits) == set(configuration.edits)
    assert found.configuration.multiplicity == configuration.multiplicity
    assert np.array_equal(found.permutation, rows[order])
    assert np.allclose(found.positions, table, atol=1e-8)
    assert np.array_equal(found.numbers_and_markers(host)[0], numbers)


def test_one_atom_far_from_others_may_move_by_almost_the_tolerance():
    host = make_host("MoS2", (4, 4, 1))
    configuration = place(host, ["Se_S@20"])
    table = host.cartesian.copy()
    table[configuration.edits[0].site] += [0, 0, -1.45 if table[configuration.edits[0].site, 2] < 10 else 1.45]
    assert recover(host, build_structure(host, configuration, table)).configuration == configuration
    with pytest.raises(InputError, match=r"atom \d+ \(Se\) is 1\.45 Å from the nearest free site"):
        recover(host, build_structure(host, configuration, table), tolerance=1.0)


def test_inserted_atoms_are_recovered():
    host = make_host("MoS2", (4, 4, 1))
    edits = (Edit(marker=2, site=3, old=42), Edit(marker=3, new=3, position=(0.31, 0.52, 0.66)))
    structure = build_structure(host, Configuration(edits=edits))
    found = recover(host, structure)
    assert [e.name for e in found.configuration.edits] == ["v_Mo", "Li_i"]
    assert found.configuration.edits[1].position == pytest.approx((0.31, 0.52, 0.66))
    assert found.permutation[-1] == host.n_sites
    assert np.allclose(build_structure(host, found.configuration, found.positions).cart_coords, structure.cart_coords)


def halfway(host: Configuration, fraction: float) -> Structure:
    """A vacancy in h-BN with a neighbour (N) on the way to it."""
    vacancy = place(host, ["v_B@0"])
    site = vacancy.edits[0].site
    structure = to_structure(host)
    neighbor = min(structure.get_neighbors(structure[site], 1.6), key=lambda n: n.index)
    table = host.cartesian.copy()
    table[neighbor.index] += fraction * (structure[site].coords - np.array(neighbor.coords))
    return build_structure(host, vacancy, table)


def test_ambiguous_structures_are_refused_and_the_atoms_named():
    host = make_host("BN", (4, 4, 1))
    assert recover(host, halfway(host, 0.3)).configuration.name == "v_B"
    with pytest.raises(InputError, match=r"atoms \d+ \(N\) fit more than one site"):
        recover(host, halfway(host, 0.6))
    assert recover(host, halfway(host, 0.6), kinds=("v_B", "C_N")).configuration.name == "v_B"
    assert recover(host, halfway(host, 1.0)).configuration.name == "v_N+N_B"  # it has arrived: another configuration


def test_antisite_beside_a_vacancy_is_not_a_vacancy_of_the_other_kind():
    host = make_host("BN", (4, 4, 1))
    structure = to_structure(host)
    boron = 0
    nitrogen = min(structure.get_neighbors(structure[boron], 1.6), key=lambda n: n.index).index
    configuration = place(host, [f"v_B@{boron}", f"B_N@{nitrogen}"])
    found = recover(host, build_structure(host, configuration))
    assert canonical(host, found.configuration) == configuration


def test_impossible_structures_are_refused():
    host = make_host("MoS2", (4, 4, 1))
    structure = build_structure(host, place(host, ["v_S@20"]))
    with pytest.raises(InputError, match="is not the host's supercell"):
        recover(make_host("MoS2", (4, 3, 1)), structure)
    with pytest.raises(InputError, match="not a defect structure of host MoS2"):
        recover(host, Structure(structure.lattice, structure.species, structure.frac_coords * [1, 0.5, 1]))
    with pytest.raises(InputError, match="disordered"):
        recover(host, Structure(Lattice(host.lattice), [{"Mo": 0.5, "W": 0.5}], [[0, 0, 0]]))


@pytest.mark.parametrize("shift", [(0, 0, 5.0), (0.7, -0.4, 0.2), (1.6, 1.1, -3.0), (11.0, 2.0, 25.0)])
@pytest.mark.parametrize("name", ["MoS2", "BN", "P"])
def test_a_rigid_shift_is_found_and_taken_off(name, shift):
    host = make_host(name, (4, 4, 1))
    kinds = preset("2dmd-high", name).choices.defects
    (configuration,) = sample_concentration(host, Choices(defects=kinds), (0.05,), 1, seed=3)
    rng = np.random.default_rng(1)
    table = unrelaxed_positions(host, configuration) + rng.normal(scale=0.03, size=(host.n_sites, 3))
    vacant = nodes(host, configuration)[1] == 2
    table[vacant] = host.cartesian[vacant]
    found = recover(host, build_structure(host, configuration, table + shift))
    assert canonical(host, found.configuration) == configuration
    still = recover(host, build_structure(host, configuration, table))
    assert np.array_equal(still.shift, np.zeros(3))
    assert np.allclose(still.positions, table, atol=1e-8)
    residue = found.shift - shift  # a translation of the host is no shift of the structure
    assert np.abs(residue).max() < 0.05 or count_translations(host, residue) > 0


def count_translations(host, vector):
    """Primitive translations within 0.1 Å of a vector."""
    unit = primitive_cell(host).lattice
    frac = unit.get_fractional_coords(vector)
    return int(np.linalg.norm((frac - np.rint(frac)) @ unit.matrix) < 0.1)


def test_an_atom_on_its_way_to_another_elements_vacant_site_is_not_an_antisite():
    host = make_host("WSe2", (4, 4, 1))
    vacancy = place(host, ["v_W@0"])
    structure = to_structure(host)
    center = structure[vacancy.edits[0].site]
    neighbor = min(structure.get_neighbors(center, 3.0), key=lambda n: n.index)
    for fraction in (0.55, 0.65, 0.8):  # 1.4, 1.7 and 2.0 Å of 2.5 Å
        table = host.cartesian.copy()
        table[neighbor.index] += fraction * (center.coords - neighbor.coords)
        relaxed = build_structure(host, vacancy, table)
        with pytest.raises(InputError, match=r"atoms .*\d+ \(Se\).* fit more than one site"):
            recover(host, relaxed)
        if fraction < 0.6:
            assert recover(host, relaxed, kinds=("v_W", "v_Se")).configuration == vacancy
    antisite = place(host, [f"v_Se@{neighbor.index}", "Se_W@0"])  # unrelaxed, it can be told
    found = recover(host, build_structure(host, antisite)).configuration
    assert canonical(host, found) == antisite


def test_more_than_the_tolerance_needs_the_kinds():
    host = make_host("MoS2", (4, 4, 1))
    configuration = place(host, ["Se_S@20"])
    table = host.cartesian.copy()
    table[configuration.edits[0].site, 2] += 1.9 * np.sign(table[configuration.edits[0].site, 2] - 10)
    structure = build_structure(host, configuration, table)
    with pytest.raises(InputError, match="from the nearest free site"):
        recover(host, structure)
    with pytest.raises(InputError, match=r"tolerance=2 Å: .* name the kinds"):
        recover(host, structure, tolerance=2.0)
    assert recover(host, structure, tolerance=2.0, kinds=("Se_S",)).configuration == configuration
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="tolerance"):
            recover(host, structure, tolerance=wrong)


# ------------------------------------------------------------------ the published data


def sample(folder: Path, n: int) -> list[Path]:
    files = sorted(path for path in folder.glob("CIF*/*_unrelaxed.cif"))
    return files[:: max(1, len(files) // n)][:n]


def read(path: Path, c: float | None = None) -> Structure:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fractional coordinates rounded")  # 5 decimals
        structure = Structure.from_file(path)
    if c is not None:
        matrix = structure.lattice.matrix.copy()
        matrix[2] = [0, 0, c]
        structure = Structure(matrix, structure.species, structure.cart_coords, coords_are_cartesian=True)
    return structure


@pytest.mark.filterwarnings("ignore:2D host .* Å of vacuum, less than 15 Å")  # low density: c = 14.879 Å; InSe: 14.63
@pytest.mark.parametrize("name", ["MoS2", "WSe2"])
def test_low_density_structures_are_distinct_orbits_of_the_enumeration(data, name):  # noqa: F811
    root = data / "low_density_defects"
    host = make_host(read(root / f"{name}.cif"), (8, 8, 1))
    recipe = preset("2dmd-low", name)
    orbits = set(enumerate_configurations(host, recipe.choices))
    assert len(orbits) == 5933
    tables = [(root / name / f"{split}.csv").read_text().splitlines() for split in ("train", "val")]
    assert len({row["atoms_id"] for table in tables for row in csv.DictReader(table)}) == 5338
    files = sample(root / name, 40)
    found = {canonical(host, recover(host, read(path)).configuration) for path in files}
    assert len(found) == len(files) > 20
    assert found <= orbits


@pytest.mark.filterwarnings("ignore:2D host InSe has 14.63 Å")
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("MoS2_500", "MoS2"), ("WSe2_500", "WSe2"), ("hBN_spin_500", "BN"),
        ("GaSe_spin_500", "GaSe"), ("InSe_spin_500", "InSe"), ("BP_spin_500", "P"),
    ],
)  # fmt: skip
def test_high_density_structures_map_back_to_their_markers(data, folder, name):  # noqa: F811
    root = data / "high_density_defects"
    recipe = preset("2dmd-high", name)
    host = make_host(read(root / f"{name}.cif", c=20.0), recipe.supercell)
    caps = recipe.choices.max_per_kind
    files = sample(root / folder, 12)
    assert len(files) > 3
    for path in files:
        structure = read(path)
        found = recover(host, structure)
        kinds = [edit.name for edit in found.configuration.edits]
        assert all(kinds.count(kind) <= caps[kind] for kind in set(kinds))
        assert len(kinds) in {int(c * host.n_sites) for c in recipe.sampling.concentrations}
        formula = re.match(r"[^_]+_([A-Za-z0-9]+)_", path.name)[1]
        assert Composition(formula) == structure.composition
        numbers, markers = found.numbers_and_markers(host)
        assert np.array_equal(numbers[found.permutation], structure.atomic_numbers)
        assert np.all(markers[found.permutation] != 2)
        assert np.abs(found.positions - unrelaxed_positions(host, found.configuration)).max() < 2e-3


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e-3, 50.0, 1.03])
def test_a_cell_of_another_size_or_of_no_numbers_is_refused(factor):
    host = make_host("MoS2", (3, 3, 1))
    whole = to_structure(host)
    matrix = whole.lattice.matrix * factor if np.isfinite(factor) else np.full((3, 3), factor)
    other = Structure(matrix, whole.species[1:], whole.frac_coords[1:])
    with pytest.raises(InputError, match="is not the host's supercell"), np.errstate(invalid="ignore"):
        recover(host, other)
