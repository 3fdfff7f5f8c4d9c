"""Engines by name, what is refused, and a real relaxation whose steps are counted at the potential."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ase.calculators.emt import EMT
from atomate2.ase.jobs import LennardJonesRelaxMaker
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.vasp.jobs.core import RelaxMaker
from jobflow import Maker, run_locally
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.ledger import read_document
from definet_flows.starts.universal import load_universal
from definet_flows.workflows.engines import potential as forcefield
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.potential import PotentialRelaxMaker, load_potential, weights_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
]


@pytest.fixture
def vacancy():
    coords = [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5 + 1.565 / 15], [2 / 3, 1 / 3, 0.5 - 1.565 / 15]]
    cell = Structure(Lattice.hexagonal(3.184, 15.0), ["Mo", "S", "S"], coords) * (2, 2, 1)
    cell.remove_sites([4])
    return cell


def counted(maker):
    """Count the evaluations of a Maker's potential; returns the list they are noted in."""
    calculator, calls = maker.calculator, []
    calculate = type(calculator).calculate
    calculator.calculate = lambda *args, **kwargs: (calls.append(1), calculate(calculator, *args, **kwargs))[1]
    return calls


def test_steps_are_the_evaluations_of_the_potential(vacancy):
    maker = PotentialRelaxMaker(relax_kwargs={"fmax": 0.05})
    calls = counted(maker)
    try:
        document = maker.make.original(maker, vacancy)
    finally:
        del maker.calculator.calculate
    outcome = read_document(document)
    assert outcome.ledger.ionic_steps == outcome.trajectory_length == len(calls) == document.output.n_steps
    assert outcome.ledger.ionic_steps > 3
    assert outcome.ledger.converged
    assert outcome.ledger.max_force <= 0.05 < outcome.ledger.start_max_force
    assert outcome.ledger.force_criterion == 0.05
    assert outcome.structure.lattice == vacancy.lattice
    assert outcome.structure.species == vacancy.species
    assert outcome.ledger.point_group_start == "3m"


def test_a_bare_local_run_stores_a_readable_document(vacancy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = PotentialRelaxMaker(steps=2).make(vacancy)
    outcome = read_document(run_locally(job, log=False)[job.uuid][1].output)
    assert (outcome.ledger.ionic_steps, outcome.ledger.converged) == (3, False)
    assert list(tmp_path.iterdir()) == []


def test_the_end_written_twice_by_other_makers_counts_once():
    pair = Structure(Lattice.cubic(12), ["Cu"] * 2, [[0, 0, 0], [0.32, 0, 0]])
    maker = LennardJonesRelaxMaker(
        relax_cell=False,
        relax_kwargs={"fmax": 0.01, "final_atoms_object_file": None},
        calculator_kwargs={"sigma": 3.4, "epsilon": 0.0104},
    )
    calls = counted(maker)
    document = maker.make.original(maker, pair)
    outcome = read_document(document)
    assert outcome.ledger.ionic_steps == len(calls) == document.output.n_steps - 1
    assert outcome == read_document(jsanitize(document, strict=True))  # as a JobStore holds it
    assert resolve_engine(maker).force_criterion == 0.01


def test_a_start_travels_as_text_and_may_be_a_structure(vacancy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vacancy.add_site_property("magmom", [0.1 * k for k in range(len(vacancy))])
    vacancy.properties["mark"] = [1, 2]
    relax = {"final_atoms_object_file": None, "fmax": 1e-4}
    maker = LennardJonesRelaxMaker(relax_cell=False, steps=2, relax_kwargs=relax, calculator_kwargs={"sigma": 2.0})
    job = resolve_engine(maker).relaxation(vacancy, "record", str(tmp_path / "records.sqlite"))
    (text,) = job.function_args
    assert Structure.from_str(text, fmt="json").as_dict() == vacancy.as_dict()
    assert job.as_dict()["output_schema"] == maker.make(vacancy).as_dict()["output_schema"]
    other = type(job)(job.function, (vacancy,), output_schema=job.output_schema)  # of a queue of an earlier version
    ends = [read_document(run_locally(one, log=False)[one.uuid][1].output) for one in (job, other)]
    assert ends[0].structure == ends[1].structure
    assert ends[0].ledger.ionic_steps == ends[1].ledger.ionic_steps > 1


def test_the_potential_is_loaded_once():
    assert PotentialRelaxMaker().calculator is PotentialRelaxMaker(name="other", steps=3).calculator
    assert load_potential.cache_info().currsize == 1
    assert PotentialRelaxMaker().calculator is load_universal("sevennet")


def test_sevennet_engine():
    engine = resolve_engine("sevennet")
    assert (engine.name, engine.force_criterion, engine.maker.relax_cell) == ("sevennet", 0.01, False)
    assert weights_file("SevenNet").parent.name == "SevenNet_0__11Jul2024"
    again = type(engine.maker).from_dict(engine.maker.as_dict())
    assert resolve_engine(again).settings_hash == engine.settings_hash


def test_the_hash_sees_settings_and_weights_but_not_the_name(monkeypatch, tmp_path):
    base = resolve_engine(PotentialRelaxMaker()).settings_hash
    assert resolve_engine(PotentialRelaxMaker(name="other")).settings_hash == base
    assert resolve_engine(PotentialRelaxMaker(relax_kwargs={"fmax": 0.01})).settings_hash == base
    assert resolve_engine(PotentialRelaxMaker(relax_kwargs={"fmax": 0.02})).settings_hash != base
    assert resolve_engine(PotentialRelaxMaker(optimizer_kwargs={"optimizer": "FIRE"})).settings_hash != base
    other = tmp_path / "weights.pth"
    other.write_bytes(b"other")
    monkeypatch.setattr("definet_flows.workflows.engines.base.weights_file", lambda _: other)
    assert resolve_engine(PotentialRelaxMaker()).settings_hash != base


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("definet_flows.starts.universal.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[chgnet\]' in the clone"):
        resolve_engine("chgnet")
    with pytest.raises(InputError, match=r"pip install -e '\.\[chgnet\]' in the clone"):
        resolve_engine(ForceFieldRelaxMaker(force_field_name="CHGNet", relax_cell=False))
    with pytest.raises(InputError, match=r"pip install -e '\.\[chgnet\]' in the clone"):
        load_potential("CHGNet", "{}")


def test_a_broken_package_is_no_reason_to_take_another_model(monkeypatch):
    monkeypatch.setattr(forcefield, "require_potential", lambda _: None)
    monkeypatch.setitem(sys.modules, "chgnet", None)
    with pytest.raises(ImportError, match="chgnet"):
        load_potential("CHGNet", "{}")


class NoMake(Maker):
    """A Maker without a ledger."""

    def make(self):
        """Make nothing."""


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("quantum", "unknown engine 'quantum': take vasp, sevennet, chgnet, gpaw"),
        (42, "not 42"),
        (EMT(), "CalculatorRelaxMaker makes one of an ASE calculator"),
        (NoMake(), "no ledger for the Maker NoMake"),
        (ForceFieldRelaxMaker(force_field_name="SevenNet"), "set relax_cell=False"),
        (
            LennardJonesRelaxMaker(relax_cell=False, optimizer_kwargs={"optimizer": "BFGSLineSearch"}),
            "cannot be counted",
        ),
        (RelaxMaker(), "ISIF 3, which changes the cell: set ISIF 2"),
    ],
)
def test_engines_that_cannot_be_judged_are_refused(engine, message):
    with pytest.raises(InputError, match=message):
        resolve_engine(engine)


def test_the_engines_need_no_torch_until_they_run():
    assert Path(forcefield.__file__).is_file()
    code = (
        "import sys; from definet_flows.workflows.engines import base; base.resolve_engine('sevennet'); "
        "print('torch' in sys.modules)"
    )
    import subprocess  # noqa: PLC0415

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
