"""Files in, files out: formats, order, frames, hosts that have to be found."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from archive_data import data  # noqa: F401 - `data` is a fixture
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from file_helpers import HOST, configurations, moved, poscar_text, read, shuffled, structure, write
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from definet_flows.defects import build_structure, place
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.structures.crystals import parse_cif, read_crystals
from definet_flows.structures.files import predict_files
from definet_flows.structures.in_host import predict_crystals
from definet_flows.structures.match import HostFinder, finder_for

pytest_plugins = ["file_fixtures"]

LATTICE = np.array(HOST.lattice)
FORMATS = ("a.cif", "POSCAR_a", "a.vasp", "a.extxyz", "a.json")


def same(frac, expected, lattice=LATTICE):
    assert np.abs((frac - expected) @ lattice).max() < 2e-6


# ------------------------------------------------------------------ formats


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_format_keeps_order_frame_and_image(checkpoint, finder, tmp_path, name, seed):
    configuration = configurations()[seed + 1]
    sites, numbers, frac = shuffled(HOST, configuration, seed)
    write(tmp_path / name, LATTICE, numbers, frac)
    (entry,) = predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / name], tmp_path / "out", finder)
    again, new = read(tmp_path / "out" / name)
    assert np.array_equal(again, numbers)
    step = moved(checkpoint, HOST, configuration, sites)
    assert np.abs(step).max() > 1e-3
    same(new, frac + step @ np.linalg.inv(LATTICE))
    assert (entry.status, entry.verdict, entry.in_domain) == ("predicted", "accepted", True)
    assert entry.largest_displacement == pytest.approx(np.linalg.norm(step, axis=1).max(), abs=1e-6)
    assert sorted(entry.defects.split("+")) == sorted(configuration.name.split("+"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([name, "predictions.json"])


def test_results_are_what_pymatgen_reads(checkpoint, finder, tmp_path):
    for name in FORMATS[:3]:
        structure().to(filename=str(tmp_path / name), fmt="cif" if name.endswith("cif") else "poscar")
        predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / name], tmp_path / "out", finder)
    as_cif = Structure.from_ase_atoms(ase.io.read(tmp_path / "out" / FORMATS[0]))
    for one in (as_cif, *(Structure.from_file(tmp_path / "out" / name) for name in FORMATS[1:3])):
        assert one.composition == structure().composition
        assert np.allclose(one.lattice.parameters, structure().lattice.parameters)
        assert np.abs(one.distance_matrix - as_cif.distance_matrix).max() < 1e-5


def test_frames_of_one_file_keep_what_they_hold(checkpoint, finder, tmp_path):
    frames = []
    for k, configuration in enumerate(configurations()):
        _, numbers, frac = shuffled(HOST, configuration, k)
        atoms = Atoms(numbers=numbers, cell=LATTICE, positions=frac @ LATTICE, pbc=True, info={"mine": k})
        atoms.arrays["tag"] = np.arange(len(atoms))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((len(atoms), 3)))
        frames.append(atoms)
    ase.io.write(tmp_path / "many.extxyz", frames)
    entries = predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "many.extxyz"], tmp_path / "out.extxyz", finder)
    written = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert [entry.index for entry in entries] == [0, 1, 2]
    for before, after, entry in zip(frames, written, entries, strict=True):
        assert np.array_equal(before.numbers, after.numbers)
        assert np.array_equal(before.arrays["tag"], after.arrays["tag"])
        assert before.info["mine"] == after.info["mine"]
        assert after.calc is None, "energy and forces are those of other positions"
        assert (after.info["verdict"], after.info["status"]) == ("accepted", "predicted")
        assert after.info["weights"] == checkpoint.sha256
        assert after.info["defects"] == entry.defects
        shift = np.abs(after.positions - before.positions).max()
        assert 0 < shift <= entry.largest_displacement + 1e-6


def test_a_list_of_pymatgen_structures(checkpoint, finder, tmp_path):
    given = [structure(HOST, c) for c in configurations()]
    given[0].add_site_property("note", list(range(len(given[0]))))
    (tmp_path / "many.json").write_text(json.dumps([s.as_dict() for s in given]))
    predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "many.json"], tmp_path / "out", finder)
    written = [Structure.from_dict(item) for item in json.loads((tmp_path / "out" / "many.json").read_text())]
    for before, after, configuration in zip(given, written, configurations(), strict=True):
        sites = np.setdiff1d(np.arange(HOST.n_sites), [e.site for e in configuration.edits if e.marker == 2])
        same(
            after.frac_coords,
            before.frac_coords + moved(checkpoint, HOST, configuration, sites) @ np.linalg.inv(LATTICE),
        )
        assert after.properties["verdict"] == "accepted"
    assert written[0].site_properties["note"] == list(range(len(given[0])))


@pytest.mark.parametrize("scale", ["1.0", "0.5", "-1000.0", "1.0 0.5 2.0"])
@pytest.mark.parametrize("cartesian", [False, True])
def test_poscar_keeps_all_but_the_coordinates(checkpoint, finder, tmp_path, scale, cartesian):
    sites, numbers, frac = shuffled(HOST, configurations()[1], 3)
    factors = np.array([float(x) for x in scale.split()])
    volume = abs(np.linalg.det(LATTICE))
    rows = LATTICE / (factors if factors[0] > 0 else 1.0)
    text_scale = scale if factors[0] > 0 else f"-{volume:.12f}"
    tail = "\n".join(["", *("0.1 0.2 0.3" for _ in numbers), ""])
    text = poscar_text(rows, numbers, frac, scale=text_scale, cartesian=cartesian, selective=True, tail=tail)
    (tmp_path / "POSCAR").write_text(text)
    predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "POSCAR"], tmp_path / "out", finder)
    written = (tmp_path / "out" / "POSCAR").read_text()
    first = 9
    before, after = text.split("\n"), written.split("\n")
    assert before[:first] == after[:first]
    assert before[first + len(numbers) :] == after[first + len(numbers) :]
    flags = [line.split()[3:] for line in after[first : first + len(numbers)]]
    assert flags == [line.split()[3:] for line in before[first : first + len(numbers)]]
    _, new = read(tmp_path / "out" / "POSCAR")
    free = np.array([[flag == "T" for flag in words] for words in flags])  # selective dynamics holds a, b, c
    step = moved(checkpoint, HOST, configurations()[1], sites) @ np.linalg.inv(LATTICE)
    same(new, frac + np.where(free, step, 0))
    if len(factors) == 1:
        assert np.allclose(Poscar.from_str(written).structure.lattice.matrix, LATTICE, atol=1e-6)


def test_symmetry_of_a_cif_is_written_out(tmp_path):
    load_structure("MoS2").to(filename=str(tmp_path / "s.cif"), symprec=0.01)
    assert len(parse_cif((tmp_path / "s.cif").read_text()).numbers) == 3
    (crystal,) = read_crystals(tmp_path / "s.cif", (tmp_path / "s.cif").read_bytes()).crystals
    assert sorted(crystal.numbers) == [16, 16, 42]


# ------------------------------------------------------------------ frames


def test_a_turned_crystal_gets_turned_displacements(checkpoint, finder, tmp_path):
    configuration = configurations()[2]
    sites, numbers, frac = shuffled(HOST, configuration, 5)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    write(tmp_path / "POSCAR", LATTICE @ turn, numbers, frac)
    predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "POSCAR"], tmp_path / "out", finder)
    _, new = read(tmp_path / "out" / "POSCAR")
    expected = moved(checkpoint, HOST, configuration, sites) @ turn
    assert np.abs((new - frac) @ LATTICE @ turn - expected).max() < 1e-5


def test_another_origin_is_kept(checkpoint, finder, tmp_path):
    configuration = configurations()[1]
    sites, numbers, frac = shuffled(HOST, configuration, 6)
    frac = frac + np.array([0.031, 0.007, 0.2])
    write(tmp_path / "a.cif", LATTICE, numbers, frac)
    predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "a.cif"], tmp_path / "out", finder)
    _, new = read(tmp_path / "out" / "a.cif")
    step = (new - frac) @ LATTICE
    # A shift is found modulo the host's translations: distances between atoms tell whether it is the same field.
    expected = moved(checkpoint, HOST, configuration, sites)
    sizes = [np.sort(np.linalg.norm(field, axis=1)) for field in (step, expected)]
    assert np.allclose(*sizes, atol=1e-4)
    assert np.abs(step.mean(0)).max() < 1e-6


def test_the_pristine_host_stays(checkpoint, finder):
    (crystal,) = read_crystals(
        Path("a.json"), json.dumps(build_structure(HOST, place(HOST, [])).as_dict()).encode()
    ).crystals
    (one,) = predict_crystals(NetworkPreRelaxer(checkpoint), finder, [crystal])
    same(one.frac, crystal.frac)


# ------------------------------------------------------------------ which host


def found_for(checkpoint, given: Structure, **named):
    (crystal,) = read_crystals(Path("a.json"), json.dumps(given.as_dict()).encode()).crystals
    return finder_for(checkpoint.card, named.get("host"), named.get("supercell")).find(crystal)


@pytest.mark.parametrize(
    ("named", "inferred"),
    [
        ({}, "host and supercell"),
        ({"host": "MoS2"}, "supercell"),
        ({"supercell": (4, 4, 1)}, "host"),
        ({"host": "MoS2", "supercell": (4, 4, 1)}, ""),
    ],
)
def test_host_and_supercell_are_inferred(checkpoint, named, inferred):
    for configuration in configurations():
        found, recovered = found_for(checkpoint, structure(HOST, configuration), **named)
        assert (found.label, found.inferred) == ("MoS2 4 x 4 x 1", inferred)
        assert recovered.configuration.name == configuration.name


@pytest.mark.parametrize("height", [18.2, 30.0])
@pytest.mark.parametrize("named", [{}, {"host": "MoS2"}])
def test_a_layer_may_have_any_vacuum(checkpoint, height, named):
    unit = load_structure("MoS2")
    lattice = [*unit.lattice.matrix[:2], [0, 0, height]]
    host = make_host(Structure(lattice, unit.species, unit.cart_coords, coords_are_cartesian=True), (5, 5, 1))
    found, recovered = found_for(checkpoint, structure(host, place(host, ["v_S@30"])), **named)
    assert abs(found.host.lattice[2][2]) == pytest.approx(height)
    assert recovered.configuration.name == "v_S"
    offset = recovered.positions - found.host.cartesian
    assert np.abs(offset - offset.mean(0)).max() < 0.01


@pytest.mark.parametrize(
    "matrix",
    [[[4, 0, 0], [4, 4, 0], [0, 0, 1]], [[-4, 0, 0], [0, -4, 0], [0, 0, 1]], [[2, -2, 0], [2, 6, 0], [0, 0, 1]]],
)
def test_other_settings_of_the_supercell(checkpoint, matrix):
    host = make_host("MoS2", matrix)
    found, recovered = found_for(checkpoint, structure(host, place(host, ["v_S@20", "W_Mo@2"])))
    assert recovered.configuration.name == "v_S+W_Mo"
    assert found.host.n_sites == host.n_sites


def test_a_host_that_is_not_known_or_fits_twice(checkpoint):
    with pytest.raises(InputError, match=r"cannot be inferred \(trained on: MoS2, WSe2\).*--host"):
        found_for(checkpoint, structure(make_host("BN", (4, 4, 1)), place(make_host("BN", (4, 4, 1)), ["v_B@0"])))
    one = load_structure("MoS2")
    twin = one.copy()
    twin.replace(2, "Se")
    half = one * (4, 4, 1)
    for site in range(40, 48):
        half.replace(site, "Se")
    (crystal,) = read_crystals(Path("a.json"), json.dumps(half.as_dict()).encode()).crystals
    with pytest.raises(InputError, match=r"ambiguous \(MoS2, MoSeS\).*--host"):
        HostFinder([one, twin]).find(crystal)
    with pytest.raises(InputError, match="does not name the hosts"):
        finder_for(checkpoint.card.model_copy(update={"hosts": ()}), None, None)


def test_mixed_hosts_in_one_call_keep_their_order(checkpoint, tmp_path):
    other = make_host("WSe2", (3, 3, 1))
    expected = []
    for k, host in enumerate((HOST, other, HOST, other)):
        configuration = place(host, ["v_S@20"] if host is HOST else ["v_Se@12"])
        sites, numbers, frac = shuffled(host, configuration, k)
        write(tmp_path / f"{k}.cif", np.array(host.lattice), numbers, frac)
        step = moved(checkpoint, host, configuration, sites)
        expected.append(frac + step @ np.linalg.inv(np.array(host.lattice)))
    entries = predict_files(
        NetworkPreRelaxer(checkpoint), [tmp_path], tmp_path / "out", finder_for(checkpoint.card, None, None)
    )
    assert [entry.host for entry in entries] == ["MoS2 4 x 4 x 1", "WSe2 3 x 3 x 1"] * 2
    for k, frac in enumerate(expected):
        same(read(tmp_path / "out" / f"{k}.cif")[1], frac)


def test_published_structures(checkpoint, tmp_path, data):  # noqa: F811
    """Real files, host and supercell inferred from the cell."""
    paths = sorted((data / "high_density_defects" / "WSe2_500" / "CIF").glob("*_unrelaxed.cif"))[:4]
    entries = predict_files(
        NetworkPreRelaxer(checkpoint), paths, tmp_path / "out", finder_for(checkpoint.card, None, None)
    )
    assert {(entry.status, entry.host) for entry in entries} == {("predicted", "WSe2 8 x 8 x 1")}
