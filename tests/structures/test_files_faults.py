"""Files that go wrong, and what is done already."""

from __future__ import annotations

import json

import numpy as np
import pytest
from archive_data import write_cif
from file_helpers import HOST, configurations, poscar_text, read, shuffled, small_checkpoint, structure, write

from definet_flows.defects import build_structure, place
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import Edit
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.structures.files import find_files, predict_files
from definet_flows.structures.in_host import predict_crystals

pytest_plugins = ["file_fixtures"]

LATTICE = np.array(HOST.lattice)


def tampered(checkpoint, finder, tmp_path, text: str, name: str = "bad.cif") -> str:
    write(tmp_path / "good.cif", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    (tmp_path / name).write_text(text)
    bad, good = sorted(
        predict_files(
            NetworkPreRelaxer(checkpoint), [tmp_path / name, tmp_path / "good.cif"], tmp_path / "out", finder
        ),
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


def test_what_the_gate_rejects_is_written_as_it_came_unless_asked_for(checkpoint, finder, tmp_path):
    came = {"q.json": json.dumps({**structure().as_dict(), "charge": -1})}
    tellurium = configurations()[0].edits[0]
    edit = Edit(marker=1, site=tellurium.site, old=16, new=52)
    replaced = build_structure(HOST, configurations()[0].model_copy(update={"edits": (edit,)}))
    came["te.cif"] = replaced.to(fmt="cif")
    came["z.vasp"] = replaced.to(fmt="poscar")
    for name, text in came.items():
        (tmp_path / name).write_text(text)
    out = tmp_path / "out"
    prerelaxer = NetworkPreRelaxer(checkpoint)
    q, te, _ = entries = predict_files(prerelaxer, [tmp_path], out, finder)
    assert {(entry.status, entry.verdict, entry.in_domain, entry.moved) for entry in entries} == {
        ("predicted", "rejected", False, False)
    }
    assert "charge -1" in q.reason
    assert "element Te never seen" in te.reason
    for name in ("te.cif", "z.vasp"):
        assert (out / name).read_text() == came[name]
    kept = json.loads((out / "q.json").read_text())
    assert (kept["properties"]["verdict"], kept["properties"]["moved"]) == ("rejected", False)
    np.testing.assert_allclose(read(out / "q.json")[1], structure().frac_coords, atol=1e-12)
    written = predict_files(prerelaxer, [tmp_path / name for name in came], out, finder, write_rejected=True)
    assert [entry.moved for entry in written] == [True, True, True]
    for name in came:
        assert np.abs(read(out / name)[1] - read(tmp_path / name)[1]).max() > 1e-5
    predict_files(prerelaxer, [tmp_path / name for name in came], out, finder)
    assert (out / "te.cif").read_text() == came["te.cif"]


def test_inserted_atoms_cannot_be_predicted(checkpoint, finder, tmp_path):
    lithium = build_structure(HOST, place(HOST, ["Li_i@0"]))
    assert "inserted" in tampered(checkpoint, finder, tmp_path, lithium.to(fmt="cif"))


def test_if_nothing_can_be_predicted_nothing_is_written(checkpoint, finder, tmp_path):
    (tmp_path / "a.cif").write_text("no")
    for out in ("out", "out.extxyz"):
        with pytest.raises(InputError, match=r"none of 1 structures could be predicted; .*a\.cif: cannot be read"):
            predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "a.cif"], tmp_path / out, finder)
    assert [p.name for p in tmp_path.iterdir()] == ["a.cif"]


def test_inputs_are_never_overwritten(checkpoint, finder, tmp_path):
    write(tmp_path / "a.cif", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    write(tmp_path / "a.extxyz", LATTICE, *shuffled(HOST, configurations()[0], 0)[1:])
    for inputs, out in ((["a.cif"], "."), (["."], "."), (["a.extxyz"], "a.extxyz")):
        with pytest.raises(InputError, match=r"overwrite|is an input: name"):
            predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / name for name in inputs], tmp_path / out, finder)


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


def test_a_link_goes_by_its_own_name(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.cif").write_text("data_x")
    (tmp_path / "in" / "b.cif").symlink_to("a.cif")
    (tmp_path / "in" / "sub" / "a.cif").symlink_to("../a.cif")
    folder = tmp_path / "in"
    found = [
        name for _, name in find_files([folder, folder / "a.cif", folder / "sub" / ".." / "b.cif"], tmp_path / "out")
    ]
    assert sorted(found) == ["a.cif", "b.cif", "sub/a.cif"]


def test_what_is_done_is_not_done_again(checkpoint, finder, tmp_path, monkeypatch):
    for k, configuration in enumerate(configurations()):
        write(tmp_path / f"{k}.cif", LATTICE, *shuffled(HOST, configuration, k)[1:])
    out = tmp_path / "out"
    predicted: list[int] = []
    monkeypatch.setattr(
        "definet_flows.structures.files.predict_crystals",
        lambda c, f, crystals, **more: predicted.append(len(crystals)) or predict_crystals(c, f, crystals, **more),
    )

    def run(model=checkpoint, target=out):
        predicted.clear()
        entries = predict_files(NetworkPreRelaxer(model), [tmp_path / f"{k}.cif" for k in range(3)], target, finder)
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
        assert len(predict_files(NetworkPreRelaxer(checkpoint), [tmp_path], tmp_path / out, finder)) == 1


def test_an_interrupted_run_goes_on(checkpoint, finder, tmp_path, monkeypatch):
    monkeypatch.setattr("definet_flows.structures.files._CHUNK", 1)
    for k, configuration in enumerate(configurations()):
        write(tmp_path / f"{k}.cif", LATTICE, *shuffled(HOST, configuration, k)[1:])

    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(
            NetworkPreRelaxer(checkpoint),
            [tmp_path / f"{k}.cif" for k in range(3)],
            tmp_path / "out",
            finder,
            tell=stop,
        )
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.cif")}
    assert len(written) == 2
    entries = predict_files(
        NetworkPreRelaxer(checkpoint), [tmp_path / f"{k}.cif" for k in range(3)], tmp_path / "out", finder
    )
    assert len(entries) == 3
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in written.items())
    assert not list(tmp_path.rglob("*.part"))
