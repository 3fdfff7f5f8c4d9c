"""What stands beside the atoms in a file: results of old positions, what is fixed, the charge."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from file_helpers import HOST, configurations, moved, poscar_text, shuffled, structure

from definet_flows.defects import recover
from definet_flows.errors import InputError
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.structures.crystals import read_crystals
from definet_flows.structures.files import predict_files
from definet_flows.structures.labels import is_result
from definet_flows.structures.tree import prerelax_tree

pytest_plugins = ["file_fixtures"]

LATTICE = np.array(HOST.lattice)
SITES, NUMBERS, FRAC = shuffled(HOST, configurations()[1], 3)


def atoms() -> Atoms:
    return Atoms(numbers=NUMBERS, cell=LATTICE, positions=FRAC @ LATTICE, pbc=True)


def predicted(checkpoint, finder, tmp_path, frame: Atoms):
    """The frame after prediction, the step that it should have made, and its entry."""
    ase.io.write(tmp_path / "in.extxyz", frame, format="extxyz")
    (entry,) = predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "in.extxyz"], tmp_path / "out", finder)
    return ase.io.read(tmp_path / "out" / "in.extxyz"), moved(checkpoint, HOST, configurations()[1], SITES), entry


def test_results_of_the_old_positions_are_dropped_whatever_their_name(checkpoint, finder, tmp_path):
    frame = atoms()
    n = len(frame)
    frame.calc = SinglePointCalculator(
        frame, energy=-1.0, forces=np.ones((n, 3)), stress=np.ones(6), magmoms=np.ones(n)
    )
    frame.info |= {"REF_energy": -2.0, "dft_total_energy": -3.0, "mace_stress": np.ones(9), "REF_dipole": np.ones(3)}
    frame.info |= {"virials": np.ones((3, 3)), "label": "mine", "source_id": 7}
    frame.arrays |= {
        "REF_forces": np.ones((n, 3)),
        "DFT_magmom": np.ones(n),
        "f": np.ones((n, 3)),
        "site": np.arange(n),
    }
    frame.arrays |= {"initial_magmoms": np.full(n, 0.5), "weight": np.full(n, 2.0)}
    after, step, _ = predicted(checkpoint, finder, tmp_path, frame)
    assert np.abs(after.positions - frame.positions - step).max() < 1e-6
    assert after.calc is None or not after.calc.results
    assert set(after.arrays) == {"numbers", "positions", "site", "initial_magmoms", "weight"}
    assert not {name for name in after.info if is_result(name)} - {"largest_displacement"}
    assert (after.info["label"], after.info["source_id"]) == ("mine", 7)
    assert after.info["largest_displacement"] > 0


def test_results_in_json_are_dropped_too(checkpoint, finder, tmp_path):
    given = structure()
    given.add_site_property("forces", [[1.0, 0.0, 0.0]] * len(given))
    given.add_site_property("magmom", [0.6] * len(given))
    given.properties = {"REF_energy": -1.0, "batch": 4}
    (tmp_path / "a.json").write_text(json.dumps(given.as_dict()))
    predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "a.json"], tmp_path / "out", finder)
    written = json.loads((tmp_path / "out" / "a.json").read_text())
    assert set(written["sites"][0]["properties"]) == {"magmom"}
    assert written["properties"]["batch"] == 4
    assert "REF_energy" not in written["properties"]
    assert written["properties"]["largest_displacement"] > 0


@pytest.mark.parametrize(
    "name", ["Energy", "free_energy", "TOTEN", "pbe_forces", "REF_virial", "bader_charges", "E_fermi"]
)
def test_names_of_results(name):
    assert is_result(name)
    assert not is_result("initial_charges")


def test_what_ase_fixes_stays_and_is_said(checkpoint, finder, tmp_path):
    frame = atoms()
    frame.set_constraint(FixAtoms(indices=[0, 5]))
    after, step, entry = predicted(checkpoint, finder, tmp_path, frame)
    step[[0, 5]] = 0
    assert np.abs(after.positions - frame.positions - step).max() < 1e-6
    assert list(after.constraints[0].index) == [0, 5]
    assert entry.note == "2 atoms are fixed and stay where they are"
    assert entry.largest_displacement == pytest.approx(np.linalg.norm(step, axis=1).max(), abs=1e-6)


def test_components_of_a_constraint_and_constraints_of_other_kinds():
    text = '2\nLattice="9 0 0 4 8 0 0 0 7" Properties=species:S:1:pos:R:3:move_mask:L:3 pbc="T T T"\n'
    text += "Mo 0 0 0 T F T\nS 3 3 3 T T T\n"
    (crystal,) = read_crystals_of(text)
    step = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]) @ np.linalg.inv(crystal.lattice)
    assert np.allclose((crystal.moved(step) - crystal.frac) @ crystal.lattice, [[0.1, 0, 0.3], [0.1, 0.2, 0.3]])


def read_crystals_of(text: str):
    from pathlib import Path  # noqa: PLC0415

    return read_crystals(Path("a.extxyz"), text.encode()).crystals


@pytest.mark.parametrize("tree", [False, True])
def test_selective_dynamics_holds_fractional_coordinates(checkpoint, finder, tmp_path, tree):
    folder = tmp_path / "in" / "one"
    folder.mkdir(parents=True)
    text = poscar_text(LATTICE, NUMBERS, FRAC, selective=True)  # F F F and T F T by turns
    (folder / "POSCAR").write_text(text)
    if tree:
        (entry,) = prerelax_tree(NetworkPreRelaxer(checkpoint), tmp_path / "in", finder)
        result = folder / "POSCAR"
    else:
        (entry,) = predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "in"], tmp_path / "out", finder)
        result = tmp_path / "out" / "one" / "POSCAR"
    step = moved(checkpoint, HOST, configurations()[1], SITES) @ np.linalg.inv(LATTICE)
    free = np.array([[k % 2, 0, k % 2] for k in range(len(SITES))])
    (crystal,) = read_crystals(result, result.read_bytes()).crystals
    assert np.abs(crystal.frac - FRAC - step * free).max() < 1e-6
    assert f"{len(SITES)} atoms are fixed" in entry.note


def test_a_comment_that_is_no_utf_8_is_kept_byte_by_byte(checkpoint, finder, tmp_path):
    text = poscar_text(LATTICE, NUMBERS, FRAC).encode().replace(b"my comment, kept", b"M\xfcller \xc5")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "POSCAR").write_bytes(text)
    (entry,) = prerelax_tree(NetworkPreRelaxer(checkpoint), tmp_path / "in", finder)
    assert entry.action == "moved"
    assert (tmp_path / "in" / "POSCAR.unrelaxed").read_bytes() == text
    assert (tmp_path / "in" / "POSCAR").read_bytes().startswith(b"M\xfcller \xc5\n")


# ------------------------------------------------------------------ charge


def charge_in_xyz(**info: object) -> float:
    told = " ".join(f"{name}={value}" for name, value in info.items())
    return read_crystals_of(f'1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 {told}\nS 0 0 0\n')[
        0
    ].charge


def charge_in_json(tmp_path, **properties: object) -> float:
    item = structure().as_dict() | {"properties": properties}
    return read_crystals(tmp_path / "a.json", json.dumps(item).encode()).crystals[0].charge


@pytest.mark.parametrize("name", ["charge", "total_charge", "q", "Charge"])
def test_a_charge_is_read_by_the_same_names_in_all_formats(tmp_path, name):
    assert charge_in_xyz(**{name: -1}) == -1
    assert charge_in_json(tmp_path, **{name: -1}) == -1
    with pytest.raises(InputError, match="whole number"):
        charge_in_xyz(**{name: 0.5})
    with pytest.raises(InputError, match="whole number"):
        charge_in_json(tmp_path, **{name: "many"})
    with pytest.raises(InputError, match="whole number"):
        charge_in_xyz(**{name: 10**30})


def test_charges_that_differ_are_refused():
    assert charge_in_xyz(charge=1, total_charge=1) == 1
    with pytest.raises(InputError, match=r"charge=1, q=2"):
        charge_in_xyz(charge=1, q=2)


def test_the_gate_is_told_a_total_charge(checkpoint, finder, tmp_path):
    frame = atoms()
    frame.info["total_charge"] = 1
    *_, entry = predicted(checkpoint, finder, tmp_path, frame)
    assert (entry.verdict, "charge +1" in entry.reason) == ("rejected", True)


def test_oxidation_states_are_no_charge(checkpoint, finder, tmp_path):
    given = structure()
    given.add_oxidation_state_by_element({"Mo": 4, "S": -2})
    given.unset_charge()
    assert given.charge == 2
    assert recover(HOST, given).configuration.charge == 0
    (tmp_path / "a.json").write_text(json.dumps(given.as_dict()))
    (entry,) = predict_files(NetworkPreRelaxer(checkpoint), [tmp_path / "a.json"], tmp_path / "out", finder)
    assert entry.verdict == "accepted"
    assert entry.note == "the sum of its oxidation states, +2, is not taken for its charge"
    item = given.as_dict() | {"charge": 1}
    (crystal,) = read_crystals(tmp_path / "a.json", json.dumps(item).encode()).crystals
    assert crystal.charge == 1
    item["properties"] = {"q": 2}
    with pytest.raises(InputError, match="different charges"):
        read_crystals(tmp_path / "a.json", json.dumps(item).encode())


def test_constraints_that_are_not_followed_are_said():
    from definet_flows.structures.crystals import _constraints  # noqa: PLC0415

    frame = atoms()
    frame.set_constraint([FixBondLength(0, 1), FixCartesian(2, (True, False, False))])
    held, note = _constraints(frame)
    assert held.mask[2].tolist() == [True, False, False]
    assert note == "constraints not followed: FixBondLengths"
