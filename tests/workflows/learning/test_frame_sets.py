"""Files of relaxations by others as training data: which frames, which split, never two functionals."""

import numpy as np
import pytest
from ase.io import write
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from typer.testing import CliRunner

from definet_flows.cli.app import app
from definet_flows.errors import InputError
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.workflows.learning.frame_sets import frame_sets

UNIT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])


def frame(size: int, change: str, charge: int, **info):
    """A supercell of rock salt with one defect whose neighbours move as far as the charge says."""
    cell = UNIT.copy()
    cell.make_supercell([size] * 3)
    atoms = AseAtomsAdaptor.get_atoms(cell)
    if change == "v_Mg":
        del atoms[0]
    elif change == "O_i":
        atoms.append("O")
        atoms.positions[-1] = 1.05
    else:
        atoms.numbers[0] = 20
    atoms.info = {"host": "salt", "charge": charge, "functional": "PBE", "defect": change, **info}
    near = np.linalg.norm(atoms.positions - 1.05, axis=1) < 2
    moved = np.zeros((len(atoms), 3))
    moved[near] = 0.05 * (1 + charge) * np.array([1.0, 0.0, 0.5])
    atoms.arrays["relaxed_positions"] = atoms.positions + moved
    return atoms


@pytest.fixture
def data(tmp_path):
    def written(frames):
        UNIT.to(str(tmp_path / "salt.vasp"), fmt="poscar")
        write(tmp_path / "data.extxyz", frames)
        return tmp_path / "data.extxyz", {"salt": str(tmp_path / "salt.vasp")}

    return written


FRAMES = [
    *(frame(2, "v_Mg", q, split="train") for q in (0, -1, -2)),
    *(frame(2, "O_i", q, split="train") for q in (0, -2)),
    frame(3, "v_Mg", -2, split="val"),
    frame(2, "Ca_Mg", 0, split="test"),
]


def test_supercells_of_several_sizes_charges_and_inserted_atoms_are_read(data):
    found = frame_sets(*data(FRAMES))
    assert not found.left_out
    assert found.functional == "PBE"
    assert sorted((len(s.ids), s.host.n_sites, len(s.inserted)) for s in found.sets) == [
        (1, 216, 0),
        (2, 64, 1),
        (4, 64, 0),
    ]
    assert sorted(q for s in found.sets for q in s.charges) == [-2, -2, -2, -1, 0, 0, 0]
    assert sorted(split for s in found.sets for split in s.splits) == ["test", *["train"] * 5, "val"]
    with_atom = next(s for s in found.sets if s.inserted)
    assert with_atom.markers[:, -1].tolist() == [3, 3]
    assert np.abs(with_atom.relaxed.mean(1)).max() < 1e-6
    assert 0.04 < np.abs(with_atom.relaxed[with_atom.charges.index(0), -1]).max() < 0.06


def test_without_a_split_the_same_defect_is_in_the_same_split_in_every_charge_and_size(data):
    frames = [frame(size, "v_Mg", q) for size in (2, 3) for q in (0, -2)]
    splits = {split for s in frame_sets(*data(frames)).sets for split in s.splits}
    assert len(splits) == 1


def test_of_several_ends_the_lowest_is_learned_from_and_the_higher_are_counted(data):
    def end(energy, shift, **info):
        atoms = frame(2, "v_Mg", 0, energy=energy, converged=True, **info)
        atoms.arrays["relaxed_positions"][:, 2] += shift * np.arange(len(atoms)) / len(atoms)
        return atoms

    # two higher ends, the same minimum twice, an end that is not converged, an atom on another
    ends = [end(-10.0, 0.1), end(-9.9, 0.2), end(-10.199, 0.3), end(-10.2, 0.3), end(-10.1, 0.4), end(-11.0, 0.0)]
    ends[4].info["converged"] = False
    ends[5].arrays["relaxed_positions"][0, 0] += 0.8
    found = frame_sets(*data([*ends, frame(2, "Ca_Mg", 0)]))
    assert found.other_minima == 2
    (pairs,) = found.sets
    (lowest,) = frame_sets(*data([ends[3], frame(2, "Ca_Mg", 0)])).sets
    np.testing.assert_array_equal(pairs.relaxed, lowest.relaxed)
    assert sorted(int(where.partition("frame ")[2].split()[0]) for where in found.left_out) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([FRAMES[0], frame(2, "v_Mg", -1, functional="HSE06")], "mixes functionals, 'HSE06' (1), 'PBE' (1)"),
        ([frame(2, "v_Mg", 0, host="other")], "no frame says host=salt, its hosts are other"),
        ([frame(2, "v_Mg", 0, split="validation")], "split='validation'"),
    ],
)
def test_bad_files_are_refused_with_the_reason(data, frames, words):
    with pytest.raises(InputError) as raised:
        frame_sets(*data(frames))
    assert words in str(raised.value)


def test_train_and_evaluate_take_such_a_file(data, tmp_path):
    higher = FRAMES[0].copy()
    higher.arrays["relaxed_positions"][0, 2] += 0.2
    energies = [-1.0, -2.0]
    for atoms, energy in zip((higher, FRAMES[0]), energies, strict=True):
        atoms.info["energy"] = energy
    file, hosts = data([higher, *FRAMES])
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "network: {hidden: 16, layers: 2, gaussians: 12, radial_extent: 6.0, cutoff: 4.0}\nepochs: 1\nwarmup: 1"
    )
    given = ["--data", str(file), "--host", f"salt={hosts['salt']}"]
    run = CliRunner().invoke(
        app, ["train", *given, "-o", str(tmp_path / "out"), "--config", str(recipe), "--name", "salted"]
    )
    assert run.exit_code == 0, run.output
    card = load_checkpoint(tmp_path / "out" / "model.safetensors").card
    assert (card.config.charges, card.config.inserted) == (True, True)
    assert {(seen.kind, seen.charge) for seen in card.learned} == {
        ("v_Mg", 0),
        ("v_Mg", -1),
        ("v_Mg", -2),
        ("O_i", 0),
        ("O_i", -2),
    }
    assert "PBE" in card.data
    assert card.other_minima == 1
    weights = str(tmp_path / "out" / "model.safetensors")
    run = CliRunner().invoke(app, ["evaluate", *given, "--split", "test", "--model", weights])
    assert run.exit_code == 0, run.output
    assert "MgO 64" in run.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "name the unit cell of each host"),
        (["--host", "salt.vasp"], "write NAME=FILE"),
        (["--host", "NaCl=a.vasp", "--host", "NaCl=b.vasp"], "NaCl is given twice"),
    ],
)
def test_a_host_that_is_not_named_is_asked_for(data, tmp_path, options, words):
    file, _ = data(FRAMES[:1])
    run = CliRunner().invoke(app, ["train", "--data", str(file), "-o", str(tmp_path / "out"), *options])
    assert run.exit_code == 2
    assert words in run.output.replace("\n", " ")
