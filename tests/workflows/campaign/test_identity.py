"""What an engine is: its settings, and the content of every file that they name."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from atomate2.ase.jobs import EmtRelaxMaker, LennardJonesRelaxMaker
from atomate2.forcefields.jobs import ForceFieldRelaxMaker

from definet_flows.errors import InputError
from definet_flows.workflows.engines import base as engines
from definet_flows.workflows.engines import potential as forcefield
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.potential import PotentialRelaxMaker, load_potential
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker

if TYPE_CHECKING:
    from jobflow import Maker


@dataclasses.dataclass
class Own(EmtRelaxMaker):
    """A user's own Maker, with arguments of any kind."""

    potential: Any = None
    inner: Maker = field(default_factory=EmtRelaxMaker)
    relax_cell: bool = False


def identity(**arguments):
    return resolve_engine(Own(**arguments)).settings_hash


def own(path):
    return resolve_engine(PotentialRelaxMaker(calculator_kwargs={"model": path})).settings_hash


@pytest.fixture
def potential(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"first")
    return path


def test_the_known_engines_are_what_they_always_were(monkeypatch, tmp_path):
    """Records are found by these hashes; that of chgnet is with other weights here, its wheel may be missing."""
    assert resolve_engine("vasp").settings_hash == "c5f13a137c8bd0c543098dab5fba1605"
    assert resolve_engine("sevennet").settings_hash == "7a17bb1d903248c3923d33b50d69e1e0"
    plain = EmtRelaxMaker(relax_cell=False, relax_kwargs={"fmax": 0.02, "final_atoms_object_file": None})
    assert resolve_engine(plain).settings_hash == "c2c06c5fe2d1e3c0ee9ce7b70ad02780"
    with_kwargs = LennardJonesRelaxMaker(relax_cell=False, calculator_kwargs={"sigma": 3.4})
    assert resolve_engine(with_kwargs).settings_hash == "23373dd1264d51e7c1877d773dc70660"
    bare = ForceFieldRelaxMaker(force_field_name="SevenNet", relax_cell=False)
    assert resolve_engine(bare).settings_hash == "35a64fc0b710b0f27f1e97807b8fe232"
    weights = tmp_path / "weights.pth.tar"
    weights.write_bytes(b"other")
    monkeypatch.setattr(forcefield, "require_potential", lambda _: None)
    monkeypatch.setattr(engines, "require_potential", lambda _: None)
    monkeypatch.setattr(engines, "weights_file", lambda _: weights)
    assert resolve_engine("chgnet").settings_hash == "259d2f0ecb1a61ed17d1aca0bcaa61ae"


def test_programs_folders_and_what_a_run_leaves_in_its_maker_are_no_settings():
    programs = {"vasp_cmd": "srun vasp_std", "scratch_dir": "/scratch", "custodian_kwargs": {"max_errors": 3}}
    maker = VaspDefectRelaxMaker(name="mine", run_vasp_kwargs=programs)
    assert resolve_engine(maker).settings_hash == "9d2afb7974d91d35ffe3dd6373078dc9"
    maker.write_input_set_kwargs["from_prev"] = False
    maker.run_vasp_kwargs["scratch_dir"] = "/somewhere/else"
    assert resolve_engine(maker).settings_hash == "9d2afb7974d91d35ffe3dd6373078dc9"


def test_a_replaced_potential_is_another_engine(potential):
    before = own(str(potential))
    potential.write_bytes(b"other")
    after = own(str(potential))
    assert before != after
    potential.write_bytes(b"first")
    assert own(str(potential)) == before


def test_a_potential_replaced_with_the_same_size_and_time_is_another_engine(potential, tmp_path):
    before = own(str(potential))
    other = tmp_path / "other.pth"
    other.write_bytes(b"secnd")
    shutil.copystat(potential, other)
    other.replace(potential)
    assert own(str(potential)) != before


def test_the_same_potential_elsewhere_is_the_same_engine(potential, tmp_path):
    moved = tmp_path / "a folder" / "renamed.pth"
    moved.parent.mkdir()
    moved.write_bytes(b"first")
    link = tmp_path / "link.pth"
    link.symlink_to(potential)
    assert {own(str(moved)), own(str(link)), own(moved), own(f"file://{moved}")} == {own(str(potential))}


@pytest.mark.parametrize(
    "arguments",
    [
        lambda path: {"potential": str(path)},
        lambda path: {"potential": path},
        lambda path: {"potential": ["x", {"deep": [str(path)]}]},
        lambda path: {"potential": f"pair_coeff * * {path} Cu"},
        lambda path: {"calculator_kwargs": {"models": [str(path)]}},
        lambda path: {"calculator_kwargs": {"lmpcmds": ["pair_style eam", f"pair_coeff * * {path}"]}},
        lambda path: {"inner": Own(potential=str(path))},
        lambda path: {"optimizer_kwargs": {"optimizer": "BFGS", "preconditioner": str(path)}},
    ],
)
def test_a_file_counts_wherever_it_is_named(arguments, potential):
    before = identity(**arguments(potential))
    potential.write_bytes(b"other")
    assert identity(**arguments(potential)) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"calculator_kwargs": {"model": "/nowhere/mine.pth"}},
            r"calculator_kwargs.model = '/nowhere/mine.pth': no such",
        ),
        ({"calculator_kwargs": {"model": "/nowhere/mine"}}, "no such file on this machine"),
        ({"potential": "/nowhere/mine.pth"}, "no such file on this machine"),
        ({"potential": ["eam /nowhere/Cu.eam"]}, "no such file on this machine"),
        ({"calculator_kwargs": {"model": "/usr"}}, "is a folder, whose content is unknown"),
        ({"calculator_kwargs": {"model": "mine.pth"}}, "name it by its absolute path, /"),
        ({"potential": "./mine.pth"}, "name it by its absolute path, /"),
    ],
)
def test_a_file_whose_content_cannot_be_told_is_refused(arguments, message, potential, monkeypatch):
    monkeypatch.chdir(potential.parent)
    with pytest.raises(InputError, match=message) as refused:
        identity(**arguments)
    assert "\n" not in str(refused.value)


def test_words_that_happen_to_be_files_are_words(tmp_path, monkeypatch):
    """A folder may hold files that are called like elements, or what earlier runs have written."""
    maker = Own(relax_kwargs={"final_atoms_object_file": "end.xyz"}, optimizer_kwargs={"logfile": "opt.log"})
    before = resolve_engine("vasp").settings_hash, resolve_engine(maker).settings_hash, identity()
    monkeypatch.chdir(tmp_path)
    for name in ("Cu", "Mo_sv", "PE", "BFGS", "end.xyz", "opt.log", "7net-0"):
        Path(name).write_text("x")
    assert (resolve_engine("vasp").settings_hash, resolve_engine(maker).settings_hash, identity()) == before


@pytest.mark.parametrize("key", ["name", "structure", "tags", "prev_dir", "wall_time", "store_trajectory"])
def test_arguments_of_a_calculator_are_settings_whatever_they_are_called(key):
    hashes = {identity(calculator_kwargs={key: value}) for value in ("small", "large")}
    hashes |= {identity(potential={"deep": {key: value}}) for value in ("small", "large")}
    assert len(hashes) == 4


def test_labels_are_labels_of_makers_in_makers_too():
    assert identity(name="a", inner=EmtRelaxMaker(name="b", tags=["c"])) == identity()
    assert identity(inner=EmtRelaxMaker(steps=3)) != identity()


def test_a_replaced_potential_is_loaded_anew(potential, monkeypatch):
    loaded = []

    class Calculator:
        def reset(self):
            """Nothing to forget."""

    monkeypatch.setattr(forcefield, "ase_calculator", lambda *_, **kwargs: loaded.append(kwargs) or Calculator())
    load_potential.cache_clear()
    for content in (b"first", b"first", b"other"):
        potential.write_bytes(content)
        assert PotentialRelaxMaker(calculator_kwargs={"model": str(potential)}).calculator is not None
    load_potential.cache_clear()
    assert loaded == [{"model": str(potential)}] * 2
