"""`definet predict` and `definet prerelax` as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from file_helpers import HOST, configurations, moved, poscar_text, read, shuffled, small_checkpoint, structure, write
from model_cases import model
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.defects import build_structure, place
from definet_flows.stores import open_store
from definet_flows.stores.learning.registry import register

LATTICE = np.array(HOST.lattice)
runner = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("weights") / "small.safetensors", "MoS2")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def invoke(checkpoint):
    return lambda *arguments: runner.invoke(app, [*arguments, "--model", str(checkpoint.path)])


def defect_file(name: str, k: int = 0) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, LATTICE, *shuffled(HOST, configurations()[k], k)[1:])


# ------------------------------------------------------------------ predict


def test_predict_with_host_and_supercell(invoke):
    for k, name in enumerate(("in/a.cif", "in/POSCAR", "in/c.extxyz")):
        defect_file(name, k)
    result = invoke("predict", "in", "--host", "MoS2", "--supercell", "4", "4", "1", "-o", "out")
    assert result.exit_code == 0, result.output
    assert "3 predicted (3 accepted), 0 failed" in result.output
    assert sorted(p.name for p in Path("out").iterdir()) == ["POSCAR", "a.cif", "c.extxyz", "predictions.json"]


def test_predict_tells_what_it_inferred(invoke):
    defect_file("a.cif")
    result = invoke("predict", "a.cif", "-o", "out.extxyz")
    assert result.exit_code == 0, result.output
    assert "host: MoS2 4 x 4 x 1 (host and supercell inferred)" in result.output
    assert ase.io.read("out.extxyz").info["verdict"] == "accepted"
    assert json.loads(Path("out.predictions.json").read_text())["structures"][0]["inferred"] == "host and supercell"


def test_a_network_that_was_retrained_is_taken_from_the_record_store(checkpoint):
    defect_file("a.cif")
    with open_store("campaign.jsonl") as records:
        register(records, model("sevennet-1"), checkpoint.path.read_bytes())
    command = ["predict", "a.cif", "-o", "out.extxyz", "--model", "sevennet-1"]
    result = runner.invoke(app, [*command, "--store", "campaign.jsonl"])
    assert result.exit_code == 0, result.output
    assert ase.io.read("out.extxyz").info["verdict"] == "accepted"
    assert runner.invoke(app, [*command, "--store", "other.jsonl"]).exit_code == 2


def test_a_rejected_prediction_leaves_the_structure_and_is_told(invoke):
    _, numbers, frac = shuffled(HOST, configurations()[0], 0)
    numbers[numbers == 16] = np.where(np.arange((numbers == 16).sum()) == 0, 52, 16)  # Te: never seen
    text = write(Path("te.cif"), LATTICE, numbers, frac).read_text()
    result = invoke("predict", "te.cif", "-o", "out")
    assert result.exit_code == 0, result.output
    assert "1 predicted (1 rejected), 0 failed" in result.output
    assert "1 rejected and written as they came (--write-rejected moves them)" in result.output
    assert "te.cif[0]: element Te never seen" in " ".join(result.output.split())
    assert Path("out/te.cif").read_text() == text
    result = invoke("predict", "te.cif", "-o", "out", "--write-rejected")
    assert (result.exit_code, "as they came" in result.output) == (0, False)
    assert np.abs(read(Path("out/te.cif"))[1] - frac).max() > 1e-5


def test_some_failures_are_exit_code_1(invoke):
    defect_file("a.cif")
    Path("b.cif").write_text("broken")
    result = invoke("predict", "a.cif", "b.cif", "-o", "out")
    assert result.exit_code == 1
    assert "1 predicted (1 accepted), 1 failed" in result.output
    assert "b.cif[0]: cannot be read" in result.output


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (("absent.cif", "-o", "out"), "absent.cif"),
        (("broken.cif", "-o", "out"), "broken.cif"),
        (("empty", "-o", "out"), "empty"),
        (("a.cif", "-o", "no/folder/out"), "no/folder"),
        (("a.cif", "-o", "no/folder/out.extxyz"), "no/folder"),
        (("a.cif", "-o", "."), "overwrite"),
        (("a.cif", "-o", "broken.cif"), "broken.cif"),
        (("a.cif", "-o", "out", "--host", "nowhere.cif"), "nowhere.cif"),
        (("a.cif", "-o", "out", "--host", "MoS2", "--supercell", "3", "3", "1"), "supercell"),
        (("a.cif", "-o", "out", "--host", "MoS2", "--supercell", "0", "3", "1"), "0"),
        (("a.cif", "-o", "out", "--host", "BN"), "a.cif"),
        (("a.cif", "-o", "out", "--model", "nobody"), "nobody"),
        (("a.cif",), "--out"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(checkpoint, arguments, saying):
    defect_file("a.cif")
    Path("broken.cif").write_text("no crystal")
    Path("empty").mkdir()
    before = sorted(Path.cwd().rglob("*"))
    model = () if "--model" in arguments else ("--model", str(checkpoint.path))
    result = runner.invoke(app, ["predict", *arguments, *model])
    assert result.exit_code == 2, result.output
    line = result.stderr.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    assert saying in line
    assert sorted(Path.cwd().rglob("*")) == before


# ------------------------------------------------------------------ prerelax


def tree() -> dict[str, str]:
    """A tree in the manner of doped, ShakeNBreak and pydefect; the text of each POSCAR."""
    texts = {}
    for k, (folder, defect) in enumerate(
        {
            "doped/v_S_0/vasp_std": 0,
            "doped/v_S_-1/vasp_std": 0,
            "doped/bulk/vasp_std": None,
            "snb/v_Mo_0/Unperturbed": 2,
            "pydefect/Va_S1_2": 0,
            "pydefect/W_Mo1_0": 1,
            "pydefect/renamed": 1,
        }.items()
    ):
        configuration = place(HOST, []) if defect is None else configurations()[defect]
        _, numbers, frac = shuffled(HOST, configuration, k)
        text = poscar_text(LATTICE, numbers, frac, selective=k % 2 == 0, cartesian=k % 3 == 0, tail="\n0.0 0.1 0.2\n")
        Path(folder).mkdir(parents=True)
        Path(folder, "POSCAR").write_text(text)
        Path(folder, "INCAR").write_text("ISIF = 2\n")
        texts[folder] = text
    Path("pydefect/renamed/prior_info.yaml").write_text("charge: 1\nis_shallow: false\n")
    return texts


def test_prerelax_a_tree(invoke, checkpoint):
    texts = tree()
    result = invoke("prerelax", ".", "--host", "MoS2", "--supercell", "4", "4", "1", "--json", "report.json")
    assert result.exit_code == 0, result.output
    assert "3 moved, 3 gated, 1 left" in result.output
    report = {entry["path"]: entry for entry in json.loads(Path("report.json").read_text())}
    actions = {path.removesuffix("/POSCAR"): entry["action"] for path, entry in report.items()}
    assert actions == {
        "doped/v_S_0/vasp_std": "moved",
        "doped/v_S_-1/vasp_std": "gated",
        "doped/bulk/vasp_std": "left",
        "snb/v_Mo_0/Unperturbed": "moved",
        "pydefect/Va_S1_2": "gated",
        "pydefect/W_Mo1_0": "moved",
        "pydefect/renamed": "gated",
    }
    assert "bulk supercell" in report["doped/bulk/vasp_std/POSCAR"]["reason"]
    for folder, charge in (("doped/v_S_-1/vasp_std", -1), ("pydefect/Va_S1_2", 2), ("pydefect/renamed", 1)):
        assert report[f"{folder}/POSCAR"]["charge"] == charge
        assert f"charge {charge:+d}" in report[f"{folder}/POSCAR"]["reason"]
    for folder, text in texts.items():
        new = Path(folder, "POSCAR").read_text()
        if actions[folder] == "moved":
            assert Path(folder, "POSCAR.unrelaxed").read_text() == text
            assert new != text
            first = 9 if "Selective" in text else 8
            old_lines, new_lines = text.split("\n"), new.split("\n")
            assert old_lines[:first] == new_lines[:first]
            assert [line.split()[3:] for line in old_lines] == [line.split()[3:] for line in new_lines]
            assert new.endswith("\n0.0 0.1 0.2\n")
        else:
            assert new == text
            assert not Path(folder, "POSCAR.unrelaxed").exists()
    sites, _, frac = shuffled(HOST, configurations()[1], 5)
    step = (read(Path("pydefect/W_Mo1_0/POSCAR"))[1] - frac) @ LATTICE
    assert np.abs(step - moved(checkpoint, HOST, configurations()[1], sites)).max() < 2e-6


def test_a_second_run_changes_nothing(invoke):
    tree()
    invoke("prerelax", ".")
    once = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = invoke("prerelax", ".")
    assert result.exit_code == 0
    assert "0 moved, 3 gated, 4 left" in result.output
    assert "pre-relaxed before" in result.output
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == once
    again = Path("snb/v_Mo_0")
    assert "0 moved" in invoke("prerelax", str(again)).output


def test_a_run_killed_between_the_two_writings_is_made_good(invoke):
    texts = tree()
    folder = "doped/v_S_0/vasp_std"
    shutil.copy(f"{folder}/POSCAR", f"{folder}/POSCAR.unrelaxed")
    invoke("prerelax", "doped")
    assert Path(folder, "POSCAR").read_text() != texts[folder]
    assert Path(folder, "POSCAR.unrelaxed").read_text() == texts[folder]


def test_trial_distortions_are_kept(invoke, checkpoint):
    sites, numbers, frac = shuffled(HOST, configurations()[2], 0)
    distortion = np.random.default_rng(0).normal(0, 0.4, frac.shape) @ np.linalg.inv(LATTICE)
    starts = {"Unperturbed": frac, "Bond_Distortion_-40.0%": frac + distortion, "Rattled": frac - distortion}
    for name, start in starts.items():
        Path("v_Mo_0", name).mkdir(parents=True)
        Path("v_Mo_0", name, "POSCAR").write_text(poscar_text(LATTICE, numbers, start))
    assert "3 moved" in invoke("prerelax", "v_Mo_0").output
    step = moved(checkpoint, HOST, configurations()[2], sites)
    for name, start in starts.items():
        assert np.abs((read(Path("v_Mo_0", name, "POSCAR"))[1] - start) @ LATTICE - step).max() < 2e-6
    shutil.copy("v_Mo_0/Rattled/POSCAR.unrelaxed", "v_Mo_0/Rattled/POSCAR")
    once = Path("v_Mo_0/Bond_Distortion_-40.0%/POSCAR").read_text()
    assert "1 moved, 0 gated, 2 left" in invoke("prerelax", "v_Mo_0").output
    assert Path("v_Mo_0/Bond_Distortion_-40.0%/POSCAR").read_text() == once
    assert np.abs((read(Path("v_Mo_0/Rattled/POSCAR"))[1] - starts["Rattled"]) @ LATTICE - step).max() < 2e-6


def test_rejected_structures_are_moved_only_on_demand(invoke):
    tree()
    result = invoke("prerelax", "doped", "--write-rejected")
    assert "2 moved, 0 gated, 1 left" in result.output


def test_links_and_unreadable_files_are_left(invoke):
    defect_file("t/a/POSCAR")
    Path("t/b").mkdir()
    Path("t/b/POSCAR").symlink_to("../a/POSCAR")
    Path("t/c").mkdir()
    Path("t/c/POSCAR").write_text("nothing\n")
    result = invoke("prerelax", "t")
    assert result.exit_code == 0
    assert "1 moved, 0 gated, 2 left" in result.output
    assert "link to ../a/POSCAR" in result.output
    assert "t/c/POSCAR: cannot be read" in result.output
    assert Path("t/b/POSCAR").is_symlink()


def test_line_ends_of_another_system_are_kept(invoke):
    text = poscar_text(LATTICE, *shuffled(HOST, configurations()[0], 0)[1:], selective=True).replace("\n", "\r\n")
    Path("t").mkdir()
    Path("t/POSCAR").write_bytes(text.encode())
    assert "1 moved" in invoke("prerelax", "t").output
    written = Path("t/POSCAR").read_bytes()
    assert written.count(b"\r\n") == written.count(b"\n") == text.count("\n")
    assert Path("t/POSCAR.unrelaxed").read_bytes() == text.encode()


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (("absent",), "absent"),
        (("empty",), "no file named POSCAR"),
        (("t", "--host", "nowhere.cif"), "nowhere.cif"),
        (("t", "--json", "no/folder.json"), "no/folder.json"),
        (("t", "--supercell", "a", "1", "1"), "a"),
    ],
)
def test_bad_input_to_prerelax(invoke, arguments, saying):
    defect_file("t/POSCAR")
    Path("empty").mkdir()
    before = {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}
    result = invoke("prerelax", *arguments)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert saying in result.stderr
    assert {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")} == before


@pytest.mark.parametrize("command", ["predict", "prerelax", "import-checkpoint"])
def test_help(command):
    result = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Å" in result.output or "POSCAR" in result.output


def test_structures_with_inserted_atoms_are_gated(invoke):
    Path("t/Li_i_0").mkdir(parents=True)
    build_structure(HOST, place(HOST, ["Li_i@0"])).to(filename="t/Li_i_0/POSCAR", fmt="poscar")
    structure().to(filename="t/POSCAR", fmt="poscar")
    assert "1 moved, 1 gated, 0 left" in invoke("prerelax", "t").output
