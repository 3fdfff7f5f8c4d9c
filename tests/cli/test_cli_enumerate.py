import json
import re
from collections import Counter

import ase.io
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from definet_flows.cli.app import app
from definet_flows.defects import Choices, build_structure, enumerate_configurations, preset, read_configurations
from definet_flows.defects.files import INDEX, write_configurations
from definet_flows.errors import InputError
from definet_flows.hosts import make_host

MOS2 = "MoS2 --defect v_Mo --defect W_Mo --defect v_S --defect Se_S --max-on Mo=1 --max-on S=2"
CHOICES = Choices(defects=("v_Mo", "W_Mo", "v_S", "Se_S"), max_on={"Mo": 1, "S": 2})


def definet(*arguments):
    return CliRunner().invoke(app, ["enumerate", *(word for text in arguments for word in str(text).split())])


def number(result):
    assert result.exit_code == 0, result.output
    return int(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("repeat", "expected"), [(4, 469), (8, 5933)])
def test_the_count_stands_alone_on_the_last_line(repeat, expected):
    result = definet(MOS2, f"--supercell {repeat} {repeat} 1 --count")
    assert number(result) == expected
    rows = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if line.startswith("│")}
    assert len(rows) == 17
    if repeat == 8:
        assert re.findall(r"[\d,]+", rows["v_Mo+v_S+Se_S"]) == ["3", "1,415", "1,040,384", "0"]


def test_limits_distances_and_charges():
    assert number(definet("MoS2 --supercell 4 4 1 --defect v_S")) == 1
    near = definet("MoS2 --supercell 4 4 1 --defect v_S --max-defects 2 --max-distance 3.3")
    assert number(near) == 3  # one alone, S above S, S beside S
    far = definet("MoS2 --supercell 4 4 1 --defect v_S --max-defects 2 --min-distance 3.3")
    both = definet("MoS2 --supercell 4 4 1 --defect v_S --max-defects 2")
    assert number(far) + number(near) - 1 == number(both)
    capped = definet("MoS2 --supercell 4 4 1 --defect v_S --defect Se_S --max-defects 2 --max-kind v_S=0")
    assert number(capped) == number(both)
    assert number(definet("MoS2 --supercell 4 4 1 --defect v_S --charge -1 --charge 0 --charge +2")) == 3
    assert number(definet("MoS2 --supercell 4 4 1 --defect v_S --defect W_Mo --charge v_S=0,+1,+2")) == 4
    assert number(definet("MoS2 --supercell 4 4 1 --defect v_S --charge guess")) == 3
    assert number(definet("MoS2 --min-image 12 --defect v_S")) == 1
    pairs = definet("MoS2 --supercell 4 4 1 --defect v_S --min-defects 2 --max-defects 2")
    assert number(pairs) == number(both) - 1


def test_presets_and_concentrations(tmp_path):
    assert number(definet("MoS2 --preset 2dmd-low --supercell 4 4 1 --count")) == 469
    path = tmp_path / "random.jsonl"
    arguments = "BN --supercell 4 4 1 --defect v_B --defect C_N --concentration 0.1 --concentration 0.2"
    assert number(definet(arguments, "--per-concentration 5 --seed 3 --count -o", path)) == 10
    _, found = read_configurations(path)
    first = [configuration.edits for configuration in found]
    assert [len(edits) for edits in first] == [3] * 5 + [6] * 5
    assert definet(arguments, "--per-concentration 5 --seed 3 -o", path).exit_code == 0
    assert [c.edits for c in read_configurations(path)[1]] == first
    assert definet("P --preset 2dmd-high -o", path).exit_code == 0
    host, drawn = read_configurations(path)
    recipe = preset("2dmd-high", "P")
    assert [c.edits for c in drawn] == [c.edits for c in recipe.configurations(host)]


def test_lines_are_read_back_as_they_were(tmp_path):
    path = tmp_path / "all.jsonl"
    result = definet(MOS2, "--supercell 4 4 1 -o", path)
    assert result.exit_code == 0
    assert "469 configurations written" in result.stdout
    host, found = read_configurations(path)
    expected = make_host("MoS2", (4, 4, 1))
    assert host == expected
    assert list(found) == list(enumerate_configurations(expected, CHOICES))
    assert len(path.read_text().splitlines()) == 470
    assert [p.name for p in tmp_path.iterdir()] == ["all.jsonl"]


def test_frames(tmp_path):
    path = tmp_path / "all.extxyz"
    assert definet("MoS2 --supercell 3 3 1 --defect v_S --defect Li_i --charge 1 -o", path).exit_code == 0
    host = make_host("MoS2", (3, 3, 1))
    expected = list(enumerate_configurations(host, Choices(defects=("v_S", "Li_i"), charges=(1,))))
    frames = ase.io.read(path, index=":")
    assert len(frames) == len(expected)
    for frame, configuration in zip(frames, expected, strict=True):
        structure = build_structure(host, configuration)
        assert frame.info == {
            "id": configuration.id_in(host.hash),
            "name": configuration.name,
            "charge": 1,
            "multiplicity": configuration.multiplicity,
        }
        assert np.array_equal(frame.numbers, structure.atomic_numbers)
        assert np.allclose(frame.positions, structure.cart_coords, atol=1e-6)
        assert np.allclose(frame.cell.array, host.lattice)


@pytest.mark.parametrize(("option", "suffix"), [("", "cif"), ("--structures poscar", "vasp")])
@pytest.mark.filterwarnings("ignore:.*fractional coordinates rounded to ideal values")
def test_a_folder_of_structures_with_names(tmp_path, option, suffix):
    folder = tmp_path / "structures"
    folder.mkdir()
    assert (
        definet("BN --supercell 3 3 1 --defect C_B --defect v_N --max-defects 2", option, "-o", folder).exit_code == 0
    )
    host, found = read_configurations(folder / INDEX)
    configurations = {c.id_in(host.hash): c for c in found}
    files = [json.loads(line) for line in (folder / INDEX).read_text().splitlines()[1:]]
    assert {p.name for p in folder.iterdir()} == {INDEX, *(line["file"] for line in files)}
    assert {f"C_B.{suffix}", f"v_N.{suffix}"} < {line["file"] for line in files}
    often = Counter(line["name"] for line in files)
    for line in files:
        tail = f"_{line['id'][:8]}" if often[line["name"]] > 1 else ""
        assert line["file"] == f"{line['name']}{tail}.{suffix}"
    configurations = {line["file"]: configurations[line["id"]] for line in files}
    for name, configuration in configurations.items():
        structure = Structure.from_file(folder / name)
        built = build_structure(host, configuration)
        assert structure.composition == built.composition
        assert np.allclose(structure.lattice.matrix, built.lattice.matrix, atol=1e-3) or suffix == "cif"
        if suffix == "vasp":
            assert (folder / name).read_text().splitlines()[0] == configuration.name
            symbols = [site.specie.symbol for site in structure]
            assert len([k for k in range(1, len(symbols)) if symbols[k] != symbols[k - 1]]) == len(set(symbols)) - 1


# ------------------------------------------------------------------ bad input

DISORDERED = Structure(Lattice.hexagonal(3.2, 20), [{"Mo": 0.5, "W": 0.5}, "S", "S"],
                       [[1/3, 2/3, 0.5], [2/3, 1/3, 0.42], [2/3, 1/3, 0.58]])  # fmt: skip
THIN = Structure(Lattice.hexagonal(2.5, 9.0), ["B", "N"], [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
GAPPED = Structure(Lattice.hexagonal(2.5, 13.0), ["B", "N"], [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])


@pytest.fixture
def hosts(tmp_path):
    for name, structure in (("disordered", DISORDERED), ("thin", THIN), ("gapped", GAPPED)):
        structure.to_file(str(tmp_path / f"{name}.cif"))
    (tmp_path / "broken.cif").write_text("this is no structure\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    (tmp_path / "file").write_text("kept")
    return tmp_path


BAD = {
    "missing file": ("{0}/nowhere.cif --supercell 2 2 1 --defect v_S", "no such file"),
    "unreadable file": ("{0}/broken.cif --supercell 2 2 1 --defect v_S", "cannot be read as a structure"),
    "disordered host": ("{0}/disordered.cif --supercell 2 2 1 --defect v_S", "is disordered"),
    "little vacuum": ("{0}/thin.cif --supercell 2 2 1 --defect v_B", "9.00 Å of vacuum"),
    "absent element": ("MoS2 --supercell 2 2 1 --defect v_Se", "no such element, only Mo, S"),
    "by itself": ("MoS2 --supercell 2 2 1 --defect S_S", "by itself"),
    "no defect name": ("MoS2 --supercell 2 2 1 --defect vacancy", "is not a name"),
    "no element": ("MoS2 --supercell 2 2 1 --defect Xx_S", "is not an element"),
    "absent site": ("MoS2 --supercell 2 2 1 --defect v_S@99", "does not exist"),
    "supercell of zero": ("MoS2 --supercell 0 2 1 --defect v_S", "--supercell 0 2 1"),
    "half a supercell": ("MoS2 --supercell 1.5 2 1 --defect v_S", "--supercell 1.5 2 1"),
    "two numbers": ("MoS2 --supercell 2 2 --defect v_S", "three numbers are needed, --defect is none"),
    "two supercells": ("MoS2 --supercell 2 2 1 --min-image 10 --defect v_S", "give one of them"),
    "negative image distance": ("MoS2 --min-image -3 --defect v_S", "must be a positive number"),
    "negative vacuum": ("MoS2 --vacuum -5 --supercell 2 2 1 --defect v_S", "vacuum=-5 Å"),
    "no defects": ("MoS2 --supercell 2 2 1", "no defects: give at least 1, such as --defect v_S,"),
    "no defects of another host": ("BN", "such as --defect v_N,"),
    "unlimited": ("MoS2 --supercell 2 2 1 --defect v_S --defect v_Mo --max-on S=1", "nothing limits"),
    "limit without number": ("MoS2 --supercell 2 2 1 --defect v_S --max-on S", "--max-on S"),
    "limit on another element": ("MoS2 --supercell 2 2 1 --defect v_S --max-on Se=1", "max_on Se=1"),
    "limit of another kind": ("MoS2 --supercell 2 2 1 --defect v_S --max-kind Se_S=1", "max_per_kind Se_S=1"),
    "no defects at most": ("MoS2 --supercell 2 2 1 --defect v_S --max-defects 0", "max_defects"),
    "distances crossed": (
        "MoS2 --supercell 2 2 1 --defect v_S --max-defects 2 --min-distance 5 --max-distance 2",
        "above max_distance",
    ),
    "charge": ("MoS2 --supercell 2 2 1 --defect v_S --charge two", "--charge two"),
    "charge of another kind": ("MoS2 --supercell 2 2 1 --defect v_S --charge v_Mo=1", "charges="),
    "mixed charges": ("MoS2 --supercell 2 2 1 --defect v_S --charge 1 --charge v_S=1", "not mixed"),
    "concentration": ("MoS2 --supercell 2 2 1 --defect v_S --concentration 1.5", "concentration 1.5"),
    "exhausted": ("MoS2 --supercell 2 2 1 --defect v_S --concentration 0.1", "inequivalent configurations found"),
    "concentration and number": (
        "MoS2 --supercell 2 2 1 --defect v_S --concentration 0.1 --max-defects 2",
        "max_defects=2",
    ),
    "one number twice": (
        "MoS2 --supercell 4 4 1 --defect v_S --concentration 0.1 --concentration 0.101",
        "48 sites make 4 defects each",
    ),
    "number of nothing": ("MoS2 --supercell 2 2 1 --defect v_S --per-concentration 5", "--concentration too"),
    "none of each": ("MoS2 --supercell 2 2 1 --defect v_S --concentration 0.1 --per-concentration 0", "concentration"),
    "preset": ("MoS2 --preset 2dmd", "2dmd-low, 2dmd-high"),
    "preset of another host": ("P --preset 2dmd-low", "only for MoS2, WSe2"),
    "preset and defects": ("MoS2 --preset 2dmd-low --defect v_S", "drop yours"),
    "preset and number": ("MoS2 --preset 2dmd-high --per-concentration 5", "drop yours"),
    "preset and minimum": ("MoS2 --preset 2dmd-low --min-defects 2", "drop yours"),
    "minimum alone": ("MoS2 --supercell 2 2 1 --defect v_S --min-defects 2", "give max_defects too"),
    "minimum above maximum": (
        "MoS2 --supercell 2 2 1 --defect v_S --min-defects 3 --max-defects 2",
        "below min_defects=3",
    ),
    "unknown option": ("MoS2 --supercell 2 2 1 --defekt v_S", "--defekt"),
    "no such structures": ("MoS2 --supercell 2 2 1 --defect v_S --structures pdb", "cif, poscar"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_code_2_and_nothing_is_written(hosts, case):
    arguments, message = BAD[case]
    before = sorted(hosts.rglob("*"))
    for output in ("new.jsonl", "new.extxyz", "new"):
        result = definet(arguments.format(hosts), "-o", hosts / output)
        assert result.exit_code == 2, result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert message in lines[0]
        assert result.stdout == ""
    assert sorted(hosts.rglob("*")) == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nowhere/new.jsonl", "there is no folder"),
        ("new.pdb", "not .jsonl or .extxyz"),
        ("full", "exists already"),
        ("file", "exists already"),
    ],
)
def test_outputs_that_cannot_be(hosts, output, message):
    before = sorted(hosts.rglob("*"))
    result = definet("MoS2 --supercell 2 2 1 --defect v_S -o", hosts / output)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert sorted(hosts.rglob("*")) == before
    assert (hosts / "file").read_text() == "kept"


@pytest.mark.filterwarnings("default:2D host BN")
def test_little_vacuum_is_a_warning_in_one_line(hosts):
    result = definet(f"{hosts}/gapped.cif --supercell 2 2 1 --defect v_B")
    assert number(result) == 1
    assert result.stderr.strip().splitlines()[0].startswith("warning: 2D host BN has 13.00 Å of vacuum")
    wide = definet(f"{hosts}/gapped.cif --supercell 2 2 1 --defect v_B --vacuum 20")
    assert number(wide) == 1
    assert "warning" not in wide.stderr


def test_an_old_file_survives_a_failure(hosts):
    path = hosts / "old.jsonl"
    path.write_text("old")
    result = definet("MoS2 --supercell 2 2 1 --defect v_S --concentration 0.25 --per-concentration 50 -o", path)
    assert result.exit_code == 2
    assert path.read_text() == "old"
    assert not [p for p in hosts.iterdir() if p.name.startswith(".")]


def test_damaged_lines_are_named(tmp_path):
    host = make_host("MoS2", (2, 2, 1))
    path = tmp_path / "all.jsonl"
    assert write_configurations(path, host, enumerate_configurations(host, CHOICES)) > 3
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace('"site":', '"site":1')
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 3 is not of the host"):
        list(read_configurations(path)[1])
    path.write_text("\n".join([lines[0], lines[1][:-5]]))
    with pytest.raises(InputError, match="line 2 is not a configuration"):
        list(read_configurations(path)[1])
    path.write_text("\n".join(lines[1:]))
    with pytest.raises(InputError, match="line 1 is not a host"):
        read_configurations(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_configurations(tmp_path / "nowhere.jsonl")


def test_help_states_units():
    text = CliRunner().invoke(app, ["enumerate", "--help"], env={"COLUMNS": "200"}).stdout
    assert "Å" in text
    assert "2dmd-low" in text
    assert "[default: 100]" in text
