"""Files in, files out: formats, order, frames, hosts that have to be found, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from archive_data import data, write_cif  # noqa: F401 - `data` is a fixture
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from file_helpers import HOST, configurations, moved, poscar_text, read, shuffled, small_checkpoint, structure, write
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from definet_flows.defects import build_structure, place
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host
from definet_flows.model.crystals import parse_cif, read_crystals
from definet_flows.model.files import find_files, predict_files
from definet_flows.model.match import HostFinder, finder_for
from definet_flows.model.placing import predict_crystals
from definet_flows.schemas import Edit

LATTICE = np.array(HOST.lattice)
FORMATS = ("a.cif", "POSCAR_a", "a.vasp", "a.extxyz", "a.json")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("weights") / "small.safetensors", "MoS2", "WSe2")


@pytest.fixture
def finder(checkpoint):
    return finder_for(checkpoint.card, "MoS2", (4, 4, 1))


def same(frac, expected, lattice=LATTICE):
    assert np.abs((frac - expected) @ lattice).max() < 2e-6


# ------------------------------------------------------------------ formats


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_format_keeps_order_frame_and_image(checkpoint, finder, tmp_path, name, seed):
    configuration = configurations()[seed + 1]
    sites, numbers, frac = shuffled(HOST, configuration, seed)
    write(tmp_path / name, LATTICE, numbers, frac)
    (entry,) = predict_files(checkpoint, [tmp_path / name], tmp_path / "out", finder)
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
        predict_files(checkpoint, [tmp_path / name], tmp_path / "out", finder)
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
    entries = predict_files(checkpoint, [tmp_path / "many.extxyz"], tmp_path / "out.extxyz", finder)
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
    predict_files(checkpoint, [tmp_path / "many.json"], tmp_path / "out", finder)
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
    predict_files(checkpoint, [tmp_path / "POSCAR"], tmp_path / "out", finder)
    written = (tmp_path / "out" / "POSCAR").read_text()
    first = 9
    before, after = text.split("\n"), written.split("\n")
    assert before[:first] == after[:first]
    assert before[first + len(numbers) :] == after[first + len(numbers) :]
    flags = [line.split()[3:] for line in after[first : first + len(numbers)]]
    assert flags == [line.split()[3:] for line in before[first : first + len(numbers)]]
    _, new = read(tmp_path / "out" / "POSCAR")
    same(new, frac + moved(checkpoint, HOST, configurations()[1], sites) @ np.linalg.inv(LATTICE))
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
    predict_files(checkpoint, [tmp_path / "POSCAR"], tmp_path / "out", finder)
    _, new = read(tmp_path / "out" / "POSCAR")
    expected = moved(checkpoint, HOST, configuration, sites) @ turn
    assert np.abs((new - frac) @ LATTICE @ turn - expected).max() < 1e-5


def test_another_origin_is_kept(checkpoint, finder, tmp_path):
    configuration = configurations()[1]
    sites, numbers, frac = shuffled(HOST, configuration, 6)
    frac = frac + np.array([0.031, 0.007, 0.2])
    write(tmp_path / "a.cif", LATTICE, numbers, frac)
    predict_files(checkpoint, [tmp_path / "a.cif"], tmp_path / "out", finder)
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
    (one,) = predict_crystals(checkpoint, finder, [crystal])
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
    with pytest.raises(InputError, match="does not tell which hosts"):
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
    entries = predict_files(checkpoint, [tmp_path], tmp_path / "out", finder_for(checkpoint.card, None, None))
    assert [entry.host for entry in entries] == ["MoS2 4 x 4 x 1", "WSe2 3 x 3 x 1"] * 2
    for k, frac in enumerate(expected):
        same(read(tmp_path / "out" / f"{k}.cif")[1], frac)


# ------------------------------------------------------------------ what goes wrong, and what is done already


def tampered(checkpoint, finder, tmp_path, text: str, name: str = "bad.cif") -> str:
    write(tmp_path / "good.cif", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    (tmp_path / name).write_text(text)
    bad, good = sorted(
        predict_files(checkpoint, [tmp_path / name, tmp_path / "good.cif"], tmp_path / "out", finder),
        key=lambda entry: entry.status,
    )
    assert (bad.status, good.status) == ("failed", "predicted")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.cif", "predictions.json"]
    assert bad in [
        type(bad).model_validate(e)
        for e in json.loads((tmp_path / "out" / "predictions.json").read_text())["structures"]
    ]
    return bad.reason


@pytest.mark.parametrize(
    ("name", "text", "saying"),
    [
        ("bad.cif", "this is no crystal", "cannot be read"),
        ("bad.cif", "", "cannot be read"),
        ("POSCAR", "comment\n1.0\n1 0 0\n", "cannot be read"),
        ("POSCAR", poscar_text(LATTICE, np.array([42, 16]), np.zeros((2, 3))).replace("Mo  S\n", "1  1\n"), "VASP 4"),
        ("POSCAR", poscar_text(LATTICE, np.array([42, 16]), np.full((2, 3), np.nan)), "finite"),
        ("bad.xyz", "1\nno cell\nS 0 0 0\n", "no cell"),
        ("bad.json", "{}", "no pymatgen Structure"),
        ("bad.json", "[]", "holds no structure"),
        ("notes.txt", "hello", "no known format"),
    ],
)
def test_an_unreadable_file_is_a_result(checkpoint, finder, tmp_path, name, text, saying):
    assert saying in tampered(checkpoint, finder, tmp_path, text, name)


def test_a_structure_of_another_host_is_a_result(checkpoint, finder, tmp_path):
    other = structure(make_host("BN", (3, 3, 1)), place(make_host("BN", (3, 3, 1)), ["v_B@0"]))
    assert "cell" in tampered(checkpoint, finder, tmp_path, other.to(fmt="cif"))


def test_partial_occupation_and_repeated_atoms_are_results(checkpoint, finder, tmp_path):
    _, numbers, frac = shuffled(HOST, configurations()[0], 0)
    write_cif(tmp_path / "x.cif", LATTICE, numbers, frac)
    text = (tmp_path / "x.cif").read_text()
    (tmp_path / "x.cif").unlink()
    assert "occupied by 0.5" in tampered(checkpoint, finder, tmp_path, text.replace(" 1.0\n", " 0.5\n", 1))


def test_what_the_gate_rejects_is_written_all_the_same(checkpoint, finder, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps({**structure().as_dict(), "charge": -1}))
    tellurium = configurations()[0].edits[0]
    edit = Edit(marker=1, site=tellurium.site, old=16, new=52)
    replaced = build_structure(HOST, configurations()[0].model_copy(update={"edits": (edit,)}))
    replaced.to(filename=str(tmp_path / "te.cif"))
    q, te = predict_files(checkpoint, [tmp_path], tmp_path / "out", finder)
    assert (q.status, q.verdict, q.in_domain) == ("predicted", "rejected", False)
    assert "charge -1" in q.reason
    assert "element Te never seen" in te.reason
    assert np.abs(read(tmp_path / "out" / "te.cif")[1] - replaced.frac_coords).max() > 1e-5


def test_inserted_atoms_cannot_be_predicted(checkpoint, finder, tmp_path):
    lithium = build_structure(HOST, place(HOST, ["Li_i@0"]))
    assert "inserted" in tampered(checkpoint, finder, tmp_path, lithium.to(fmt="cif"))


def test_if_nothing_can_be_predicted_nothing_is_written(checkpoint, finder, tmp_path):
    (tmp_path / "a.cif").write_text("no")
    for out in ("out", "out.extxyz"):
        with pytest.raises(InputError, match=r"none of 1 structures could be predicted; .*a\.cif: cannot be read"):
            predict_files(checkpoint, [tmp_path / "a.cif"], tmp_path / out, finder)
    assert [p.name for p in tmp_path.iterdir()] == ["a.cif"]


def test_inputs_are_never_overwritten(checkpoint, finder, tmp_path):
    write(tmp_path / "a.cif", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    write(tmp_path / "a.extxyz", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    for inputs, out in ((["a.cif"], "."), (["."], "."), (["a.extxyz"], "a.extxyz")):
        with pytest.raises(InputError, match=r"overwrite|one of the inputs"):
            predict_files(checkpoint, [tmp_path / name for name in inputs], tmp_path / out, finder)


def test_names_of_files_from_several_folders(tmp_path):
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "POSCAR").write_text("")
    (tmp_path / "b" / "x.cif").write_text("")
    names = [name for _, name in find_files([tmp_path / "a" / "POSCAR", tmp_path / "b"], tmp_path / "out")]
    assert names == ["POSCAR", "c/POSCAR", "x.cif"]
    names = [name for _, name in find_files([tmp_path / "a" / "POSCAR", tmp_path / "b" / "c" / "POSCAR"], tmp_path)]
    assert names == ["a/POSCAR", "b/c/POSCAR"]
    with pytest.raises(InputError, match="no such file"):
        find_files([tmp_path / "absent"], tmp_path / "out")


def test_what_is_done_is_not_done_again(checkpoint, finder, tmp_path, monkeypatch):
    for k, configuration in enumerate(configurations()):
        write(tmp_path / f"{k}.cif", LATTICE, *shuffled(HOST, configuration, k)[1:])
    out = tmp_path / "out"
    predicted: list[int] = []
    monkeypatch.setattr(
        "definet_flows.model.files.predict_crystals",
        lambda c, f, crystals, **more: predicted.append(len(crystals)) or predict_crystals(c, f, crystals, **more),
    )

    def run(model=checkpoint, target=out):
        predicted.clear()
        entries = predict_files(model, [tmp_path / f"{k}.cif" for k in range(3)], target, finder)
        return sum(predicted), [e.model_dump() for e in entries]

    first = run()
    assert first[0] == 3
    assert run() == (0, first[1])
    (out / "1.cif").unlink()
    assert run() == (1, first[1])
    write(tmp_path / "2.cif", LATTICE, *shuffled(HOST, configurations()[0], 9)[1:])
    assert run()[0] == 1
    other = small_checkpoint(tmp_path / "other.safetensors", "MoS2", seed=1)
    assert run(other)[0] == 3
    one = tmp_path / "all.extxyz"
    assert run(target=one)[0] == 3
    text = one.read_text()
    assert run(target=one)[0] == 0
    assert one.read_text() == text


@pytest.mark.parametrize("out", ["out", "out.extxyz"])
def test_output_inside_of_the_input_folder_is_no_input(checkpoint, finder, tmp_path, out):
    write(tmp_path / "a.cif", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    for _ in range(2):
        assert len(predict_files(checkpoint, [tmp_path], tmp_path / out, finder)) == 1


def test_an_interrupted_run_goes_on(checkpoint, finder, tmp_path, monkeypatch):
    monkeypatch.setattr("definet_flows.model.files._CHUNK", 1)
    for k, configuration in enumerate(configurations()):
        write(tmp_path / f"{k}.cif", LATTICE, *shuffled(HOST, configuration, k)[1:])

    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(checkpoint, [tmp_path / f"{k}.cif" for k in range(3)], tmp_path / "out", finder, tell=stop)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.cif")}
    assert len(written) == 2
    entries = predict_files(checkpoint, [tmp_path / f"{k}.cif" for k in range(3)], tmp_path / "out", finder)
    assert len(entries) == 3
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in written.items())
    assert not list(tmp_path.rglob("*.part"))


def test_published_structures(checkpoint, tmp_path, data):  # noqa: F811
    """Real files, host and supercell inferred from the cell."""
    paths = sorted((data / "high_density_defects" / "WSe2_500" / "CIF").glob("*_unrelaxed.cif"))[:4]
    entries = predict_files(checkpoint, paths, tmp_path / "out", finder_for(checkpoint.card, None, None))
    assert {(entry.status, entry.host) for entry in entries} == {("predicted", "WSe2 8 x 8 x 1")}
