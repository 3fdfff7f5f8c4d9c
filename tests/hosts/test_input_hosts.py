"""Hosts as files describe them: encodings, CIF symmetry, dialects of POSCAR, and what is refused in one line."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest
from ase.build import bulk
from file_helpers import poscar_text
from pymatgen.core import DummySpecies, Lattice, Species, Structure

from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host
from definet_flows.structures.crystals import read_crystals

CUBE = "_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c 5.64\n"
CUBE += "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
COLUMNS = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
LOOP = "loop_\n" + "".join(f"_atom_site_{column}\n" for column in COLUMNS)
SALT = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def cif(symmetry: str, atoms: str = SALT, cell: str = CUBE, name: str = "salt") -> str:
    return f"data_{name}\n{cell}{symmetry}\n{LOOP}{atoms}"


def both(path, content: bytes) -> tuple[Structure, Structure]:
    """The structure as a host and as a file to predict."""
    path.write_bytes(content)
    (crystal,) = read_crystals(path, content).crystals
    return load_structure(path), crystal.structure()


def refusals(path, content: bytes) -> set[str]:
    """What both readers say, the name of the host aside."""
    path.write_bytes(content)
    with pytest.raises(InputError) as host:
        load_structure(path)
    with pytest.raises(InputError) as crystal:
        read_crystals(path, content)
    assert "\n" not in str(host.value)
    return {str(host.value).split("' ", 1)[1], str(crystal.value)}


def is_rock_salt(structure: Structure) -> bool:
    expected = Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, np.concatenate([FCC, FCC + 0.5]))
    distances = expected.lattice.get_all_distances(expected.frac_coords, structure.frac_coords)
    partner = distances.argmin(axis=1)
    same = [structure[int(k)].specie == site.specie for k, site in zip(partner, expected, strict=True)]
    return len(structure) == 8 and all(same) and bool(distances.min(axis=1).max() < 1e-6)


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_space_group_name_H-M 'F m -3 m'", "_space_group_name_H-M_alt 'Fm-3m'",
        "_symmetry_space_group_name_Hall '-F 4 2 3'", "_space_group_name_Hall '-F 4 2 3'",
        "_symmetry_Int_Tables_number 225", "_space_group_IT_number 225",
    ],
)  # fmt: skip
def test_symmetry_by_symbol_or_number_alone_is_written_out(tmp_path, symmetry):
    for structure in both(tmp_path / "salt.cif", cif(symmetry).encode()):
        assert is_rock_salt(structure)


@pytest.mark.parametrize("symbol", ["P 63/m m c", "P6_3/mmc", "P63/mmc"])
def test_symbols_are_read_in_any_spelling(tmp_path, symbol):
    cell = CUBE.replace("_a 5.64", "_a 3.16").replace("_b 5.64", "_b 3.16").replace("_c 5.64", "_c 12.3")
    cell = cell.replace("gamma 90", "gamma 120")
    text = cif(
        f"_symmetry_space_group_name_H-M '{symbol}'", "Mo Mo 0.3333 0.6667 0.25\nS S 0.3333 0.6667 0.621\n", cell
    )
    for structure in both(tmp_path / "mos2.cif", text.encode()):
        assert structure.composition.formula == "Mo2 S4"
        assert structure.get_space_group_info()[1] == 194


def test_operations_that_are_in_no_table_are_followed(tmp_path):
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+1/4,y,z\nx+1/2,y,z\nx+3/4,y,z"
    for structure in both(tmp_path / "na.cif", cif(operations, "Na Na 0.1 0 0\n").encode()):
        assert sorted(np.round(structure.frac_coords[:, 0] % 1, 6)) == [0.1, 0.35, 0.6, 0.85]


def test_of_two_origins_the_formula_decides_or_it_is_said(tmp_path):
    symbol, formula = "_symmetry_space_group_name_H-M 'F d -3 m'", "_chemical_formula_sum Si\n_cell_formula_units_Z 8\n"
    for structure in both(tmp_path / "si.cif", cif(formula + symbol, "Si Si 0 0 0\n").encode()):
        assert len(structure) == 8
        assert min(structure.distance_matrix[0, 1:]) == pytest.approx(5.64 * np.sqrt(3) / 4)
    with pytest.warns(UserWarning, match="two origins"):
        assert len(read_crystals(tmp_path / "si.cif", cif(symbol, "Si Si 0 0 0\n").encode()).crystals[0].numbers) == 8
    explicit = cif(symbol.replace("m'", "m :1'"), "Si Si 0 0 0\n")
    assert len(both(tmp_path / "si.cif", explicit.encode())[0]) == 8


@pytest.mark.parametrize("encoding", ["latin-1", "gbk", "utf-8", "utf-8-sig", "utf-16"])
def test_names_in_any_encoding_are_harmless(tmp_path, encoding):
    name = "张伟" if encoding == "gbk" else "Müller"
    text = f"data_global\n_publ_author_name '{name}'\n" + cif("_space_group_IT_number 225")
    for structure in both(tmp_path / "salt.cif", text.encode(encoding)):
        assert is_rock_salt(structure)
    poscar = poscar_text(np.eye(3) * 4, np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    for structure in both(tmp_path / "POSCAR", poscar.replace("my comment", name).encode(encoding)):
        assert structure.composition.formula == "Na1 Cl1"


def test_a_bare_mark_in_a_comment_is_no_utf_16(tmp_path):
    poscar = poscar_text(np.eye(3) * 4, np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    for structure in both(tmp_path / "POSCAR", b"\xff\xfe" + poscar.encode()):
        assert structure.composition.formula == "Na1 Cl1"


@pytest.mark.parametrize(
    ("content", "saying"),
    [
        (cif("", name="a") + cif("", name="b"), "holds 2 structures (data_a, data_b)"),
        (cif("_symmetry_space_group_name_H-M 'Q 7 7'"), "space group (Q 7 7) is not understood"),
        (cif("", "D1 D 0 0 0\n"), "D (deuterium) is an isotope"),
        (cif("", "T1 T 0 0 0\n"), "T (tritium) is an isotope"),
        (cif("", "X1 X 0 0 0\n"), "'X' is no element"),
        (cif("", SALT + "Na2 Na 0 0 0.001\n"), "closer than 0.5 Å"),
        (cif("", "Na1 Na ? 0 0\n"), "finite"),
    ],
)  # fmt: skip
def test_what_a_cif_does_not_say_clearly_is_refused(tmp_path, content, saying):
    assert all(saying in one for one in refusals(tmp_path / "salt.cif", content.encode()))


def head(symbols: str, counts: str = "1 1", scale: str = "1.0") -> str:
    rows = "4 0 0\n0 4 0\n0 0 4"
    return f"comment\n{scale}\n{rows}\n{symbols}\n{counts}\nDirect\n0 0 0\n0.5 0.5 0.5\n"


@pytest.mark.parametrize("symbols", ["Mo S ! note", "Mo S # note", "Mo_pv S", "Mo_sv_GW S_h", "Mo/0a1b2c S/ff"])
def test_notes_and_potcar_names_on_the_species_line(tmp_path, symbols):
    for structure in both(tmp_path / "POSCAR", head(symbols).encode()):
        assert [site.specie.symbol for site in structure] == ["Mo", "S"]


def test_three_scale_factors(tmp_path):
    for structure in both(tmp_path / "POSCAR", head("Ga_d N", scale="1.0 1.5 2.0").encode()):
        assert structure.lattice.abc == (4.0, 6.0, 8.0)


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        (head("1 1").replace("1 1\n1 1\n", "1 1\n"), "no line of element symbols before the numbers of atoms (VASP 4)"),
        (head("Mo Vac"), "'Vac' is no element"),
        (head("Mo D"), "D (deuterium) is an isotope"),
        (head("Mo H.5"), "'H.5' is no element"),
        (head("Mo S", "1"), "'1' is not a number of atoms for each of Mo S"),
        (head("Mo S", f"1 {10**30}"), "1e+30 atoms"),
        (head("Mo S", scale="1.0 -1.0 2.0"), "is no scale"),
        (head("Mo S", scale="0"), "is no scale"),
        (head("Mo S").replace("0.5 0.5 0.5", "0.0 0.0 0.01"), "(Mo 1 and S 2, 0.040 Å); remove the duplicate"),
        (head("Mo S").replace("0.5 0.5 0.5\n", ""), "lists 1 of 2 atoms"),
    ],
)  # fmt: skip
def test_a_poscar_is_refused_in_the_same_words_everywhere(tmp_path, text, saying):
    said = refusals(tmp_path / "POSCAR", text.encode())
    assert all(saying in one for one in said), said


def test_other_ways_to_give_a_host(tmp_path):
    copper = bulk("Cu", "fcc", 3.6)
    assert (
        make_host(copper, (2, 2, 2)).hash
        == make_host(Structure(copper.cell.array, ["Cu"], [[0, 0, 0]]), (2, 2, 2)).hash
    )
    copper.write(tmp_path / "cu.extxyz")
    assert load_structure(tmp_path / "cu.extxyz").composition.formula == "Cu1"
    for name, packed in (("POSCAR.gz", gzip.compress), ("POSCAR.bz2", bz2.compress)):
        (tmp_path / name).write_bytes(packed(head("Mo S").encode()))
        assert load_structure(tmp_path / name).composition.formula == "Mo1 S1"
    frames = tmp_path / "two.extxyz"
    frames.write_text((tmp_path / "cu.extxyz").read_text() * 2)
    with pytest.raises(InputError, match="holds 2 structures: keep a single frame"):
        load_structure(frames)
    with pytest.raises(InputError, match="a path or a shipped host's name, not NoneType"):
        load_structure(None)


@pytest.mark.parametrize("species", [DummySpecies("X"), "D", Species("D", 1)])
def test_atoms_that_are_no_elements_are_refused(species):
    host = Structure(Lattice.cubic(4), ["Cu", species], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(InputError, match=r"no element|isotope"):
        make_host(host, (2, 2, 2))
