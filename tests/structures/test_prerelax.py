"""`definet_flows.prerelax`: Structures and Atoms in memory, by the rules of `definet predict`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from file_helpers import HOST, configurations, moved, shuffled, small_checkpoint
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from typer.testing import CliRunner

import definet_flows
from definet_flows import InputError, Prerelaxed, make_host, prerelax
from definet_flows.cli import app
from definet_flows.hosts import to_structure

pytestmark = pytest.mark.filterwarnings("ignore:Structure charge:UserWarning")  # pymatgen's, of every charged structure
LATTICE = np.array(HOST.lattice)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("weights") / "small.safetensors", "MoS2")


def defect(k: int = 0) -> tuple[np.ndarray, Structure]:
    """Sites of a configuration's atoms, shuffled, in random images; and its Structure."""
    sites, numbers, frac = shuffled(HOST, configurations()[k], k)
    return sites, Structure(LATTICE, numbers.tolist(), frac)


def step(before: Structure, after: Structure) -> np.ndarray:
    """Displacements without any change of image, Å."""
    return (after.frac_coords - before.frac_coords) @ LATTICE


def test_three_lines(checkpoint):
    for k in range(3):
        sites, structure = defect(k)
        (result,) = prerelax([structure], model=checkpoint)
        expected = moved(checkpoint, HOST, configurations()[k], sites)
        np.testing.assert_allclose(step(structure, result.structure), expected, atol=1e-5)
        assert result.largest_displacement == pytest.approx(np.linalg.norm(expected, axis=1).max(), abs=1e-5)
        assert (result.verdict, result.host) == ("accepted", "MoS2 4 x 4 x 1")
        assert result.defects == configurations()[k].name


def test_what_a_structure_holds_is_kept(checkpoint):
    _, structure = defect()
    n = len(structure)
    structure.add_site_property("magmom", list(range(n)))
    structure.add_site_property("selective_dynamics", [[False] * 3, *[[True] * 3] * (n - 1)])
    structure.add_site_property("forces", [[1.0, 2.0, 3.0]] * n)
    structure[0].label = "here"
    structure.properties = {"made by": {"hand": 1}, "energy": -1.0}
    before = structure.copy()
    (result,) = prerelax([structure], model=checkpoint)
    after = result.structure
    assert structure == before
    assert structure.properties == {"made by": {"hand": 1}, "energy": -1.0}
    assert "forces" in structure.site_properties
    assert after.species == structure.species
    assert after.lattice == structure.lattice
    assert after.labels == structure.labels
    assert after.site_properties["magmom"] == list(range(n))
    assert after.properties == {"made by": {"hand": 1}}
    assert set(after.site_properties) == {"magmom", "selective_dynamics"}
    np.testing.assert_array_equal(after.frac_coords[0], structure.frac_coords[0])
    assert "1 atoms are fixed" in result.note
    after.properties["made by"]["hand"] = 2
    assert structure.properties["made by"] == {"hand": 1}


@pytest.mark.parametrize("own", [True, False])
def test_a_charge_is_rejected_and_the_positions_stay(checkpoint, own):
    _, structure = defect()
    if own:
        structure.set_charge(-1)
    (result,) = prerelax([structure], model=checkpoint, charge=None if own else -1)
    assert result.verdict == "rejected"
    assert "charge -1" in result.reason
    assert result.structure == structure
    assert result.structure.charge == structure.charge
    assert result.structure is not structure
    assert result.largest_displacement > 0


def test_a_given_charge_stands_above_what_the_structure_tells(checkpoint):
    _, structure = defect()
    structure.set_charge(2)
    (result,) = prerelax([structure], model=checkpoint, charge=0)
    assert result.verdict == "accepted"
    assert result.structure.charge == 2


def test_oxidation_states_are_no_charge(checkpoint):
    _, structure = defect()
    structure.add_oxidation_state_by_element({"Mo": 4, "S": -2})
    (result,) = prerelax([structure], model=checkpoint)
    assert result.verdict == "accepted"
    assert "+2" in result.note
    assert result.structure.species == structure.species


def test_atoms_of_ase(checkpoint):
    sites, structure = defect(1)
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.set_tags(range(len(atoms)))
    atoms.set_constraint(FixAtoms([3]))
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0)
    (result,) = prerelax(atoms, "MoS2", supercell=(4, 4, 1), model=checkpoint.path)
    expected = moved(checkpoint, HOST, configurations()[1], sites)
    expected[3] = 0
    np.testing.assert_allclose(step(structure, result.structure), expected, atol=1e-5)
    assert isinstance(result.structure, Structure)
    assert result.structure.atomic_numbers == tuple(atoms.numbers)
    assert result.structure.site_properties["tags"] == list(range(len(atoms)))
    assert not hasattr(result.structure, "calc") or result.structure.calc is None
    atoms.info["charge"] = 1
    (charged,) = prerelax([atoms], model=checkpoint)
    assert "charge +1" in charged.reason
    assert charged.structure.charge == 1
    atoms.info["charge"] = 0.5
    (fraction,) = prerelax([atoms], model=checkpoint)
    assert "charge=0.5 is no net charge" in fraction.reason


def test_a_single_structure_counts_as_a_list_of_it(checkpoint):
    _, structure = defect()
    alone, listed = prerelax(structure, model=checkpoint), prerelax(iter([structure]), model=checkpoint)
    assert len(alone) == len(listed) == 1
    assert alone[0].structure == listed[0].structure
    assert prerelax([], model=checkpoint) == []


def test_a_bad_structure_costs_the_others_nothing(checkpoint):
    _, good = defect()
    disordered = good.copy()
    disordered.replace(0, {"Mo": 0.5, "W": 0.5})
    twice = good.copy()
    twice.append(twice[0].specie, twice[0].frac_coords)
    other = Structure(Lattice.cubic(5.4), ["Si"] * 2, [[0, 0, 0], [0.25, 0.25, 0.25]])
    results = prerelax([disordered, good, twice, other, to_structure(HOST)], model=checkpoint)
    assert [one.verdict for one in results] == ["rejected", "accepted", "rejected", "rejected", "accepted"]
    for one, words in zip((results[0], results[2], results[3]), ("disordered", "closer than", "host"), strict=True):
        assert words in one.reason
        assert one.largest_displacement is one.uncertainty is one.host is None
    assert results[3].structure == other
    assert results[4].largest_displacement == pytest.approx(0, abs=1e-9)
    assert results[4].defects == ""


@pytest.mark.parametrize("kind", ["Structure", "Atoms", "path", "bulk supercell"])
def test_the_host_in_every_form(checkpoint, tmp_path, kind):
    unit = to_structure(make_host("MoS2", (1, 1, 1)))
    path = tmp_path / "unit.cif"
    unit.to(filename=str(path))
    host = {
        "Structure": unit,
        "Atoms": AseAtomsAdaptor.get_atoms(unit, msonable=False),
        "path": path,
        "bulk supercell": to_structure(HOST),
    }[kind]
    _, structure = defect()
    (result,) = prerelax([structure], host, model=checkpoint)
    (named,) = prerelax([structure], "MoS2", model=checkpoint)
    assert result.verdict == "accepted"
    np.testing.assert_allclose(result.structure.frac_coords, named.structure.frac_coords, atol=1e-5)


def test_an_unseen_host_needs_a_word(checkpoint):
    structure = to_structure(make_host("BN", (5, 5, 1)))
    structure.remove_sites([0])
    (result,) = prerelax([structure], "BN", model=checkpoint)
    assert result.verdict == "rejected"
    assert "host BN is none of those trained on" in result.reason
    assert "allow_unseen_host" not in result.reason  # it is a risk, no remedy


@pytest.mark.parametrize(
    ("structures", "options", "words"),
    [
        ("POSCAR", {}, "definet predict"),
        (3, {}, "structures=3"),
        ([3], {}, "structure 0 is a int"),
        (None, {"host": "nowhere.cif"}, "nowhere.cif"),
        (None, {"host": 3}, "int"),
        (None, {"model": "nowhere"}, "nowhere"),
        (None, {"model": 3}, "model=3"),
        (None, {"supercell": (4, 4)}, r"supercell=\(4, 4\)"),
        (None, {"supercell": (4, 4, 0)}, "above zero"),
        (None, {"supercell": 4}, "supercell=4"),
        (None, {"supercell": (4.5, 4, 1)}, "4.5"),
        (None, {"supercell": "441"}, "441"),
        (None, {"charge": 0.5}, "charge=0.5"),
        (None, {"charge": True}, "charge=True"),
        (None, {"charge": "many"}, "charge=many"),
    ],
)
def test_what_is_refused(checkpoint, structures, options, words):
    with pytest.raises(InputError, match=words):
        prerelax([defect()[1]] if structures is None else structures, **{"model": checkpoint, **options})


def test_atoms_without_a_cell_are_refused(checkpoint):
    with pytest.raises(InputError, match="structure 0: its Atoms have no cell"):
        prerelax([Atoms("MoS2", [[0, 0, 0], [0, 0, 2], [0, 0, 4]])], model=checkpoint)


def test_a_dummy_atom_is_rejected(checkpoint):
    atoms = AseAtomsAdaptor.get_atoms(defect()[1], msonable=False)
    atoms.numbers[0] = 0
    (result,) = prerelax([atoms], model=checkpoint)
    assert result.verdict == "rejected"
    assert "'X' is no element" in result.reason


def test_the_command_and_the_function_agree(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    structures = [defect(k)[1] for k in range(3)]
    structures[2].set_charge(1)
    structures[1].add_site_property("selective_dynamics", [[True, False, True]] * len(structures[1]))
    (tmp_path / "in.json").write_text(json.dumps([one.as_dict() for one in structures]))
    done = CliRunner().invoke(app, ["predict", "in.json", "-o", "out", "--model", str(checkpoint.path)])
    assert done.exit_code == 0, done.output
    written = [Structure.from_dict(one) for one in json.loads((tmp_path / "out" / "in.json").read_text())]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["structures"]
    results = prerelax(structures, model=checkpoint)
    for structure, theirs, entry, mine in zip(structures, written, entries, results, strict=True):
        expected = structure if entry["verdict"] == "rejected" else theirs
        np.testing.assert_allclose(mine.structure.frac_coords, expected.frac_coords, atol=1e-9)
        assert mine.largest_displacement == pytest.approx(entry["largest_displacement"], abs=1e-6)
        same = ("verdict", "reason", "note", "uncertainty", "host", "defects")
        assert {name: getattr(mine, name) for name in same} == {name: entry[name] for name in same}


def test_the_shipped_weights_state_an_uncertainty():
    (result,) = definet_flows.prerelax(defect()[1], "MoS2", supercell=[4, 4, 1])
    assert isinstance(result, Prerelaxed)
    assert result.verdict in {"accepted", "flagged"}
    assert 0 < result.uncertainty < 0.2
    assert 0 < result.largest_displacement < 1
