"""Memory is sized before it is taken: odd hosts, odd weights, odd YAML."""

from __future__ import annotations

import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from file_helpers import CONFIG, HOST, configurations, small_checkpoint, structure
from pymatgen.core import Lattice, Structure
from safetensors.torch import save_file

from definet_flows.defects import nodes
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host
from definet_flows.hosts.sane import check_cell
from definet_flows.model.inference.checkpoint import Card, load_checkpoint, save_checkpoint
from definet_flows.model.inference.predict import RawPrediction, predict
from definet_flows.model.inference.published import import_checkpoint
from definet_flows.model.training.recipes import read_recipe
from definet_flows.schemas import Configuration, Edit
from definet_flows.settings import load_settings
from definet_flows.starts.gate import judge
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.structures.crystals import read_crystals
from definet_flows.structures.in_host import predict_crystals
from definet_flows.structures.match import finder_for
from definet_flows.workflows.queue.routing import read_placement

GIGABYTE = 10**9


def definet(*arguments: object) -> tuple[int, str, int]:
    """Exit code, last line and peak memory in bytes of a command."""
    code = (
        "import sys\n"
        "from definet_flows.cli import app\n"
        "try:\n    app()\n"
        "finally:\n    print('PEAK', open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    told, _, peak = done.stderr.rpartition("PEAK ")
    return done.returncode, (told or done.stdout).strip().splitlines()[-1], int(peak) * 1024


@pytest.mark.parametrize(
    ("supercell", "reason"),
    [(("64", "64", "64"), "786,432 sites of MoS2, more than 20,000"), (("64", "64", "1"), "give a smaller supercell")],
)
def test_a_huge_supercell_is_refused_in_one_line_before_memory_is_taken(supercell, reason):
    code, line, peak = definet("enumerate", "MoS2", "--supercell", *supercell, "--defect", "v_S")
    assert (code, peak < 0.5 * GIGABYTE) == (2, True)
    assert reason in line


def test_pairs_in_a_supercell_of_high_symmetry_stay_below_a_gigabyte(tmp_path):
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]]).to(
        str(tmp_path / "POSCAR"), fmt="poscar"
    )
    command = ("enumerate", tmp_path / "POSCAR", "--defect", "v_Cu", "--max-defects", 2, "--max-distance", 4)
    code, line, peak = definet(*command, "--supercell", 5, 5, 5, "--count")
    assert (code, line, peak < 0.4 * GIGABYTE) == (0, "3", True)


@pytest.mark.parametrize(
    ("lattice", "frac", "reason"),
    [
        (np.eye(3) * 3, [[np.nan, 0, 0]], "not a finite number, of atom 0"),
        (np.eye(3) * 3, [[0, 0, 0], [0, np.inf, 0]], "not a finite number, of atom 1"),
        (np.diag([3, 3, np.nan]), [[0, 0, 0]], "has no cell"),
        (np.diag([3, 3, 0]), [[0, 0, 0]], "has no cell"),
        (np.diag([3, 3, 1e300]), [[0, 0, 0]], "more than 10000 Å"),
        (np.diag([3, 3, 1e6]), [[0, 0, 0]], "shorten the cell or its vacuum"),
        (np.eye(3) * 0.1, [[0, 0, 0]], "too small for 1 atoms"),
        (np.eye(3) * 3, [[1e300, 0, 0]], "cells away"),
    ],
)
def test_no_library_sees_what_is_not_finite_or_of_no_size(lattice, frac, reason):
    with pytest.raises(InputError, match=f"host 'x' .*{reason}"):
        check_cell(lattice, np.array(frac), "host 'x'")


@pytest.mark.parametrize("word", ["nan", "1e400", "-inf"])
def test_a_host_with_no_number_for_a_coordinate_is_refused_not_a_crash(tmp_path, word):
    host = tmp_path / "POSCAR"
    host.write_text(f"x\n1\n3 0 0\n0 3 0\n0 0 3\nCu\n1\nDirect\n0 {word} 0\n")
    with pytest.raises(InputError, match=r"finite|cannot be read"):
        load_structure(host)
    with pytest.raises(InputError, match="not a finite number"):
        read_crystals(host, host.read_bytes())


def test_a_file_that_announces_a_billion_atoms_is_refused(tmp_path):
    host = tmp_path / "POSCAR"
    host.write_text("x\n1\n3 0 0\n0 3 0\n0 0 3\nCu\n1000000000\nDirect\n0 0 0\n")
    with pytest.raises(InputError, match=r"1e\+09 atoms: no more than"):
        load_structure(host)


def test_a_fragment_among_good_files_takes_no_memory_and_leaves_them_alone(tmp_path):
    checkpoint = small_checkpoint(tmp_path / "one.safetensors", "MoS2")
    with torch.no_grad():
        network = checkpoint.trainable()
        network.coord_update_layers[0].coord_mlp[2].bias.fill_(1e4)
    exploding = save_checkpoint(tmp_path / "two.safetensors", network, checkpoint.card)
    whole = structure()
    fragment = whole.copy()
    fragment.remove_sites(range(5, len(whole)))
    files = [write_poscar(tmp_path / f"{k}.vasp", one) for k, one in enumerate((whole, fragment, whole))]
    crystals = [read_crystals(path, path.read_bytes()).crystals[0] for path in files]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for weights in (checkpoint, exploding):
        found = predict_crystals(NetworkPreRelaxer(weights), finder_for(weights.card, "MoS2", (4, 4, 1)), crystals)
        np.testing.assert_array_equal(found[0].frac, found[2].frac)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 0.5 * GIGABYTE
    alone = predict_crystals(
        NetworkPreRelaxer(checkpoint), finder_for(checkpoint.card, "MoS2", (4, 4, 1)), crystals[:1]
    )
    several = predict_crystals(NetworkPreRelaxer(checkpoint), finder_for(checkpoint.card, "MoS2", (4, 4, 1)), crystals)
    np.testing.assert_allclose(several[0].frac, alone[0].frac, atol=1e-6)


def write_poscar(path, one):
    one.to(str(path), fmt="poscar")
    return path


def test_a_crystal_of_too_many_atoms_is_refused_by_name_the_others_go_on(tmp_path):
    checkpoint = small_checkpoint(tmp_path / "one.safetensors", "MoS2")
    large = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]]) * (10, 10, 10)
    files = [write_poscar(tmp_path / f"{k}.vasp", one) for k, one in enumerate((large, structure()))]
    crystals = [read_crystals(path, path.read_bytes()).crystals[0] for path in files]
    refused, good = predict_crystals(
        NetworkPreRelaxer(checkpoint), finder_for(checkpoint.card, "MoS2", (4, 4, 1)), crystals
    )
    assert "has 4000 atoms, more than 3000" in refused.reason
    assert good.frac is not None


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"members": 10**9}, "unreadable card"),
        ({"config": {**CONFIG.model_dump(), "layers": 10**6}}, "unreadable card"),
        ({"config": {**CONFIG.model_dump(), "passes": 10**6}}, "unreadable card"),
        ({"config": {**CONFIG.model_dump(), "hidden": 10**6}}, "unreadable card"),
        ({"config": {**CONFIG.model_dump(), "hidden": 4096, "layers": 64}}, "other weights than its card says"),
    ],
)
def test_a_card_that_asks_for_more_than_its_file_holds_is_refused_unallocated(tmp_path, change, reason):
    import json  # noqa: PLC0415

    card = json.loads(Card(name="x", config=CONFIG).model_dump_json()) | change
    save_file({"x": torch.zeros(2)}, tmp_path / "one.safetensors", metadata={"definet": json.dumps(card)})
    with pytest.raises(InputError, match=reason):
        load_checkpoint(tmp_path / "one.safetensors")


def test_weights_that_float32_cannot_hold_are_refused(tmp_path):
    checkpoint = small_checkpoint(tmp_path / "one.safetensors", "MoS2")
    network = checkpoint.trainable().double()
    network.lin_comb.weight.data[0, 0] = 1e300
    with pytest.raises(InputError, match=r"lin_comb\.weight hold values that are no finite float32"):
        save_checkpoint(tmp_path / "two.safetensors", network, checkpoint.card)
    assert not (tmp_path / "two.safetensors").exists()
    torch.save(network.state_dict(), tmp_path / "one.pt")
    with pytest.raises(InputError, match=r"not finite numbers: lin_comb\.weight"):
        import_checkpoint(tmp_path / "one.pt", tmp_path / "three.safetensors", CONFIG, "x")
    state = {k: v.clone() for k, v in checkpoint.network.state_dict().items()}
    state["lin_comb.weight"][0, 0] = torch.nan
    save_file(state, tmp_path / "four.safetensors", metadata={"definet": checkpoint.card.model_dump_json()})
    with pytest.raises(InputError, match="no finite float32"):
        _ = load_checkpoint(tmp_path / "four.safetensors").network


def test_a_zip_that_grows_without_bound_is_refused_unread(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "one.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data", "w") as entry,
    ):
        archive._didModify = True
        entry.write(b"\0")
    data = bytearray((tmp_path / "one.pt").read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24  # the directory's uncompressed size
    data[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / "one.pt").write_bytes(data)
    with pytest.raises(InputError, match=r"no file of weights|no weights of DefiNet do"):
        import_checkpoint(tmp_path / "one.pt", tmp_path / "two.safetensors", CONFIG, "x")


# ------------------------------------------------------------------ YAML

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(8)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00\x01", "not UTF-8 text"),
        (b"- a\n- b\n", "holds no keys with values"),
        (b"just text", "holds no keys with values"),
        (b"1: 2\n", "holds no keys with values"),
        (BOMB.encode(), "nested too deeply"),
        (b"a: &a {b: *a}\n", "nested too deeply"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: 2001-99-99\n", "is no YAML"),
        (b"a: [1\n", "is no YAML"),
        (b"a: " + b"x" * 2**20, "is no YAML"),
    ],
)
def test_yaml_that_is_none_or_of_another_shape_is_one_line(tmp_path, monkeypatch, content, reason):
    path = tmp_path / "one.yaml"
    path.write_bytes(content)
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(path))
    for read in (lambda: read_recipe(str(path)), lambda: read_placement(path), load_settings):
        with pytest.raises(InputError, match=reason) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_settings_of_jobflow_that_are_binary_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "jobflow.yaml").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(tmp_path / "jobflow.yaml"))
    code, line, _ = definet("models", "list")
    assert (code, "jobflow's settings" in line, "not UTF-8" in line) == (2, True, True)


# ------------------------------------------------------------------ gate


@pytest.mark.parametrize("uncertainty", [np.nan, -np.inf, np.inf, -0.1])
def test_an_uncertainty_that_is_no_error_is_rejected(tmp_path, uncertainty):
    assert "no expected error" in verdict(tmp_path, configurations()[0], uncertainty=uncertainty).reason


def verdict(folder, configuration, uncertainty=0.01, value=0.0):
    checkpoint = small_checkpoint(folder / "one.safetensors", "MoS2")
    raw = RawPrediction(np.full((HOST.n_sites, 3), value), 0.0, "cpu", uncertainty)
    gate = judge(checkpoint, HOST, configuration, HOST.cartesian, raw)
    assert gate.verdict == "rejected"
    return gate


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_displacements_that_are_no_numbers_are_rejected(tmp_path, value):
    assert "no finite numbers" in verdict(tmp_path, configurations()[0], value=value).reason


@pytest.mark.parametrize(
    ("sites", "reason"), [((-1,), "does not fit host"), ((20, 20), "another edit is there already"), ((10**30,), "fit")]
)
def test_edits_that_the_host_cannot_have_are_rejected(tmp_path, sites, reason):
    edits = tuple(Edit(marker=2, site=site, old=16) for site in sites)
    impossible = Configuration(edits=edits)
    assert reason in verdict(tmp_path, impossible).reason
    with pytest.raises(InputError, match=reason):
        nodes(HOST, impossible)
    (raw,) = predict(small_checkpoint(tmp_path / "two.safetensors", "MoS2"), HOST, [impossible])
    assert raw.displacements is None
    assert reason in raw.error


# ------------------------------------------------------------------ whole numbers


def test_charges_beyond_sense_are_refused_in_files_and_options(tmp_path):
    path = tmp_path / "one.extxyz"
    path.write_text('1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 charge=5000\nCu 0 0 0\n')
    with pytest.raises(InputError, match="charge=5000 is no net charge"):
        read_crystals(path, path.read_bytes())
    for option in ("--charge", "--seed", "--max-defects"):
        code, line, _ = definet("enumerate", "MoS2", "--supercell", 3, 3, 1, "--defect", "v_S", option, 10**30)
        assert (code, option.strip("-") in line) == (2, True)
    assert make_host("MoS2", (2, 2, 1)).n_sites == 12
