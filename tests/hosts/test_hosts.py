import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
from bulk_hosts import CDTE
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host, shipped_hosts, to_structure
from definet_flows.hosts.cell import near_images, shortest_vector, smallest_repetitions
from definet_flows.schemas import Host

BULK_MOS2 = Structure.from_spacegroup(
    "P6_3/mmc", Lattice.hexagonal(3.16, 12.3), ["Mo", "S"], [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.621]]
)


def layer(c: float = 20.0, shift: float = 0.0) -> Structure:
    unit = load_structure("MoS2")
    matrix = unit.lattice.matrix.copy()
    matrix[2] = [0, 0, c]
    coords = unit.cart_coords + np.array([0, 0, c / 2 - 10 + shift])
    return Structure(matrix, unit.species, coords, coords_are_cartesian=True, to_unit_cell=True)


@pytest.mark.parametrize("name", shipped_hosts())
def test_shipped_hosts_are_layers_with_the_published_cells(name):
    cells = {  # Å: the supercell table of doi:10.1038/s41524-025-01728-w
        "MoS2": (8, 25.52, 25.52),
        "WSe2": (8, 26.62, 26.62),
        "BN": (8, 20.10, 20.10),
        "GaSe": (6, 22.91, 22.91),
        "InSe": (6, 24.58, 24.58),
        "P": (6, 19.80, 27.61),
    }
    repeat, a, b = cells[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="2D host InSe has 14.63 Å")  # c = 20 Å is the published cell
        host = make_host(name, (repeat, repeat, 1))
    lattice = Lattice(host.lattice)
    assert (lattice.a, lattice.b, lattice.c) == pytest.approx((a, b, 20), abs=0.012)
    assert host.dimensionality == 2
    assert host.provenance["functional"] == "PBE"
    assert "symmetry" in host.provenance
    group = {"P": "Pmna"}.get(name, "P-6m2")
    assert host.provenance["symmetry"].startswith(group)


def test_site_order_is_unit_sites_then_translations():
    host = make_host("MoS2", (3, 2, 1))
    assert host.numbers == (42,) * 6 + (16,) * 12
    heights = host.cartesian[:, 2]
    assert np.ptp(heights[6:12]) < 1e-9  # one unit site after the other: the lower S plane, then the upper
    assert heights[12] - heights[6] == pytest.approx(3.13)
    assert make_host("MoS2", (3, 2, 1)).hash == host.hash
    again = Host.model_validate_json(host.model_dump_json())
    assert again == host
    assert again.hash == host.hash


def test_to_structure_keeps_order_and_takes_positions():
    host = make_host("MoS2", (2, 2, 1))
    moved = to_structure(host, host.cartesian + np.array([0.1, 0, 0]))
    assert [s.specie.Z for s in moved] == list(host.numbers)
    assert np.allclose(moved.cart_coords - to_structure(host).cart_coords, [0.1, 0, 0])


@pytest.mark.parametrize("matrix", [(2, 3, 1), [[2, 1, 0], [-1, 3, 0], [0, 0, 1]], [[1, -1, 0], [1, 2, 0], [0, 0, 1]]])
def test_supercell_is_the_same_crystal(matrix):
    host = make_host("MoS2", matrix)
    unit = load_structure("MoS2")
    assert host.n_sites == len(unit) * round(np.linalg.det(np.array(host.matrix)))
    frac = host.cartesian @ np.linalg.inv(unit.lattice.matrix)
    for number, coords in zip(host.numbers, frac, strict=True):
        delta = coords - unit.frac_coords
        near = np.linalg.norm(delta - np.rint(delta), axis=1) < 1e-6
        assert [unit[int(i)].specie.Z for i in np.flatnonzero(near)] == [number]
    distances = to_structure(host).distance_matrix + 10 * np.eye(host.n_sites)
    assert distances.min() == pytest.approx(2.417, abs=1e-3)


def test_supercell_by_minimum_image_distance():
    host = make_host("MoS2", 15.0)
    assert host.matrix == ((5, 0, 0), (0, 5, 0), (0, 0, 1))
    primitive = make_host(CDTE.get_primitive_structure(), 12.0)
    conventional = make_host(CDTE, 12.0)
    for bulk in (primitive, conventional):
        assert shortest_vector(np.array(bulk.lattice), [0, 1, 2]) >= 12.0
    assert primitive.n_sites == 2 * 27


def test_a_small_whole_number_is_no_distance_in_silence():
    with pytest.raises(InputError, match="supercell '3': give three repetitions such as 3 3 3, or"):
        make_host("MoS2", 3)
    assert make_host("MoS2", 3.0).n_sites == 3
    assert make_host("MoS2", 15).n_sites == 75


def test_near_images_are_told_with_the_supercell_that_keeps_them_apart():
    told = near_images(make_host("MoS2", (2, 2, 1)))
    assert told == (
        "periodic images of the supercell are 6.4 Å apart in the plane, less than 8 Å; "
        "4 x 4 x 1 is the smallest supercell with 12 Å"
    )
    flat = near_images(make_host(CDTE, (8, 8, 1)))
    assert flat is not None
    assert "6.5 Å apart, less than" in flat
    assert "2 x 2 x 2 is the smallest" in flat
    assert near_images(make_host("MoS2", (3, 3, 1))) is None  # 9.6 Å
    for cell, dimension in ((load_structure("MoS2"), 2), (CDTE.get_primitive_structure(), 3)):
        repeat = smallest_repetitions(12.0, cell, dimension)
        assert near_images(make_host(cell, repeat)) is None


def test_the_proposed_supercell_repeats_the_unit_cell_whatever_the_matrix_and_the_layer_axis():
    unit = load_structure("MoS2")
    across_a = Structure(
        Lattice(unit.lattice.matrix[[2, 0, 1]]), unit.species, unit.cart_coords, coords_are_cartesian=True
    )
    assert "4 x 4 x 1 is" in str(near_images(make_host("MoS2", [[1, 1, 0], [-1, 2, 0], [0, 0, 1]])))
    assert "1 x 4 x 4 is" in str(near_images(make_host(across_a, (1, 2, 2))))


@pytest.mark.parametrize(
    "supercell",
    [
        (0, 1, 1), (8, 8), (1.5, 2, 1), (-1, 2, 1), "8 8 1", 0.0, -3.0, float("nan"), True, (1, 1, 999),
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0], [0, 0, 1]], [[1, 2], [3, 4]],
    ],
)  # fmt: skip
def test_bad_supercells_are_refused_in_one_line(supercell):
    with pytest.raises(InputError, match="supercell") as error:
        make_host("MoS2", supercell)
    assert "\n" not in str(error.value)


def test_vacuum_is_checked_set_and_centred():
    with pytest.raises(InputError, match=r"6\.87 Å of vacuum, less than 10 Å"):
        make_host(layer(c=10.0), (2, 2, 1))
    with pytest.warns(UserWarning, match=r"11\.87 Å of vacuum, less than 15 Å"):
        make_host(layer(c=15.0), (2, 2, 1))
    for start in (layer(c=10.0), layer(c=20.0, shift=9.5)):  # too thin; folded across the boundary
        host = make_host(start, (2, 2, 1), vacuum=18.0, center=True)
        heights = host.cartesian[:, 2]
        assert host.vacuum == pytest.approx(18.0, abs=1e-5)
        assert (heights.max() + heights.min()) / 2 == pytest.approx((18 + 3.13) / 2)
        assert to_structure(host).distance_matrix[0, 4:].min() == pytest.approx(2.417, abs=1e-3)
    with pytest.raises(InputError, match="3-dimensional"):
        make_host(CDTE, (1, 1, 1), vacuum=15.0)


def test_dimensionality():
    assert make_host(CDTE, (1, 1, 1)).dimensionality == 3
    bulk = make_host(BULK_MOS2, (2, 2, 1))  # stacked by van der Waals forces: a crystal, not a layer in vacuum
    assert (bulk.dimensionality, bulk.vacuum) == (3, None)
    turned = layer().copy()
    turned = Structure(turned.lattice.matrix[[2, 0, 1]], turned.species, turned.cart_coords, coords_are_cartesian=True)
    host = make_host(turned, 12.0)
    assert (host.dimensionality, host.matrix[0]) == (2, (1, 0, 0))


def test_rounding_noise_is_symmetrized_and_told():
    unit = load_structure("WSe2")
    noise = np.array([[0, 0, 0], [3e-4, 0, 0], [0, 0, 0]])
    noisy = Structure(unit.lattice, unit.species, np.round(unit.frac_coords + noise, 4))
    host = make_host(noisy, (2, 2, 1))
    assert host.provenance["symmetry"].startswith("P-6m2 within 0.01 Å, largest shift 0.00")
    upper, lower = host.cartesian[4], host.cartesian[8]
    assert np.allclose(upper[:2], lower[:2], atol=1e-9)
    assert np.linalg.norm(host.cartesian[4] - noisy.cart_coords[1]) < 0.005
    with pytest.warns(UserWarning, match=r"but P-6m2 within 0\.02 Å"):
        exact = make_host(noisy, (2, 2, 1), symprec=1e-5)
    assert not exact.provenance["symmetry"].startswith("P-6m2")


def test_symmetrizing_an_exact_host_changes_nothing():
    for unit in (CDTE, BULK_MOS2):
        assert np.allclose(np.array(make_host(unit, (1, 1, 1)).cartesian), unit.lattice.get_cartesian_coords(
            unit.frac_coords % 1.0), atol=1e-6)  # fmt: skip


def test_unreadable_hosts_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file, nor one of the shipped hosts"):
        load_structure("MoS3")
    broken = tmp_path / "broken.cif"
    broken.write_text("this is not a structure")
    with pytest.raises(InputError, match=r"broken\.cif") as error:
        load_structure(broken)
    assert "\n" not in str(error.value)
    disordered = Structure(Lattice.cubic(4), [{"Mo": 0.5, "W": 0.5}], [[0, 0, 0]])
    with pytest.raises(InputError, match="disordered"):
        load_structure(disordered)
    with pytest.raises(InputError, match="closer than"):
        load_structure(Structure(Lattice.cubic(4), ["Mo", "Mo"], [[0, 0, 0], [0, 0, 0.01]]))


def test_a_file_gives_the_same_host_and_its_name(tmp_path):
    path = tmp_path / "POSCAR"
    load_structure("MoS2").to(filename=str(path), fmt="poscar")
    host = make_host(path, (2, 2, 1))
    assert host.provenance["source"] == "POSCAR"
    assert host.hash == make_host("MoS2", (2, 2, 1)).hash


def test_oxidation_states_do_not_matter():
    decorated = load_structure("MoS2")
    decorated.add_oxidation_state_by_element({"Mo": 4, "S": -2})
    assert make_host(decorated, (2, 2, 1)).hash == make_host("MoS2", (2, 2, 1)).hash


@pytest.mark.filterwarnings("ignore:Structure charge")  # pymatgen says so when it writes it
@pytest.mark.parametrize("as_file", [False, True])
def test_a_charged_host_is_refused(tmp_path, *, as_file):
    charged = load_structure("MoS2")
    charged.set_charge(1)
    path = tmp_path / "host.json"
    path.write_text(json.dumps(charged.as_dict()))
    with pytest.raises(InputError, match=r"states a charge of \+1: a host is neutral"):
        load_structure(path if as_file else charged)


def test_shipped_names_are_sorted():
    assert all(a < b for a, b in pairwise(shipped_hosts()))
