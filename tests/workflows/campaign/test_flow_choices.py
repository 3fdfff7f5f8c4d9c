"""`definet enumerate`, `definet run` and DefectFlowMaker take the same choices and mean the same configurations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import ase
import pytest
from atomate2.ase.jobs import EmtRelaxMaker
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.vasp.jobs.core import RelaxMaker
from atomate2.vasp.sets.core import RelaxSetGenerator
from flow_helpers import CU, engine, run, stored
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Structure
from typer.testing import CliRunner

from definet_flows import CalculatorRelaxMaker, Choices, InputError, VaspDefectRelaxMaker, defect_flow
from definet_flows.cli import app
from definet_flows.cli.campaign import run as campaign
from definet_flows.defects import Recipe, Sampling, build_structure, place, preset, read_configurations
from definet_flows.hosts import make_host

pytest_plugins = ["flow_fixtures"]

HOST = make_host(CU, (2, 2, 2))

SAME = [
    "MoS2 --supercell 4 4 1 --defect v_S --defect W_Mo --max-defects 2",
    "MoS2 --supercell 4 4 1 --defect v_S --defect Se_S --min-defects 2 --max-defects 3 --max-kind v_S=1",
    "MoS2 --supercell 4 4 1 --defect v_S --defect v_Mo --max-on Mo=1 --max-on S=2 --min-distance 3 --max-distance 5",
    "MoS2 --min-image 12 --vacuum 25 --defect v_S",
    "MoS2 --supercell 3 3 1 --defect v_S --defect W_Mo --charge v_S=0,+1,+2",
    "MoS2 --supercell 3 3 1 --defect v_S --charge guess",
    "MoS2 --supercell 3 3 1 --defect v_S --charge -1 --charge 0",
    "BN --supercell 4 4 1 --defect v_B --concentration 0.1 --concentration 0.2 --per-concentration 5 --seed 3",
    "MoS2 --preset 2dmd-low --supercell 4 4 1",
    "MoS2 --preset 2dmd-low",
    "P --preset 2dmd-high --seed 1 --vacuum 20",
]


def definet(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def maker_of(weights, monkeypatch):
    """Return the Maker that `definet run` makes of options, and its campaign; nothing is relaxed."""

    def made(arguments):
        caught = []
        monkeypatch.setattr(campaign, "_relax", lambda maker, host, *_: caught.append((maker, host)))
        monkeypatch.setattr(campaign, "_end", lambda *_: None)
        definet("run", *arguments.split(), "--model", weights.path)
        ((maker, host),) = caught
        return maker, host

    return made


@pytest.mark.parametrize("arguments", SAME)
def test_run_means_what_enumerate_counts_and_writes(arguments, maker_of, workplace):
    maker, host = maker_of(arguments)
    made = maker.campaign(host)
    printed = definet("enumerate", *arguments.split(), "--count", "-o", workplace / "all.jsonl")
    assert int(printed.splitlines()[-1]) == len(made.configurations) == len(set(made.ids))
    written_host, written = read_configurations(workplace / "all.jsonl")
    assert written_host == made.host
    assert tuple(written) == made.configurations
    if arguments == "MoS2 --preset 2dmd-low":
        assert len(made.configurations) == 5933


def test_run_has_a_supercell_where_none_is_named(maker_of):
    assert maker_of("MoS2 --defect v_S")[0].campaign("MoS2").host.n_sites == 48
    assert maker_of("P --preset 2dmd-high")[0].defects == preset("2dmd-high", "P")


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ("--supercell 2 2 1", "no defects"),
        ("--preset 2dmd", "2dmd-low, 2dmd-high"),
        ("--preset 2dmd-low --defect v_S", "drop yours"),
        ("--supercell 2 2 1 --min-image 10 --defect v_S", "give one of them"),
        ("--min-image -3 --defect v_S", "must be a positive number"),
        ("--supercell 2 2 1 --defect v_S --vacuum -5", "vacuum=-5 Å"),
        ("--supercell 2 2 1 --defect v_S --charge two", "--charge two"),
        ("--supercell 2 2 1 --defect v_S --max-kind Se_S=1", "max_per_kind Se_S=1"),
        ("--supercell 2 2 1 --defect v_S --min-defects 2", "give max_defects too"),
        ("--supercell 2 2 1 --defect v_S --concentration 1.5", "concentration 1.5"),
        ("--supercell 2 2 1 --defect v_S --concentration 0.2 --max-defects 2", "max_defects=2"),
        ("--supercell 2 2 1 --defect v_S --concentration 0.1", "inequivalent configurations found"),
    ],
)
def test_bad_choices_of_run_are_one_line_code_2(options, saying, weights, workplace):
    before = sorted(workplace.rglob("*"))
    arguments = ["run", "MoS2", *options.split(), "--engine", "sevennet", "--model", str(weights.path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert saying in line
    assert sorted(workplace.rglob("*")) == before


# ------------------------------------------------------------------ from Python


def test_sampling_is_reproducible_and_survives_json(maker):
    maker.defects = Choices(defects=("v_Cu", "Ni_Cu"), max_per_kind={"v_Cu": 3, "Ni_Cu": 4})
    maker.sampling = Sampling(concentrations=(0.1, 0.2), per_concentration=4, seed=5)
    drawn = maker.campaign(CU)
    assert [len(one.edits) for one in drawn.configurations] == [3] * 4 + [6] * 4
    assert len(set(drawn.ids)) == 8
    assert maker.campaign(CU) == drawn
    again = json.loads(json.dumps(maker, cls=MontyEncoder), cls=MontyDecoder)
    assert again.sampling == maker.sampling
    assert again.campaign(CU) == drawn
    maker.sampling = Sampling(concentrations=(0.1, 0.2), per_concentration=4, seed=6)
    assert maker.campaign(CU).ids != drawn.ids


def test_a_recipe_brings_what_is_not_given(maker):
    recipe = preset("2dmd-low", "MoS2")
    maker.supercell, maker.defects = None, recipe
    whole = maker.campaign("MoS2")
    assert len(whole.configurations) == 5933
    assert whole.host == make_host("MoS2", (8, 8, 1))
    maker.supercell, maker.vacuum = (4, 4, 1), 30.0
    small = maker.campaign("MoS2")
    assert len(small.configurations) == 469
    assert small.host.vacuum == pytest.approx(30)
    again = json.loads(json.dumps(maker, cls=MontyEncoder), cls=MontyDecoder)
    assert isinstance(again.defects, Recipe)
    assert again.campaign("MoS2") == small


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"defects": preset("2dmd-low", "MoS2"), "max_defects": 2}, "max_defects=2: the Recipe"),
        ({"defects": preset("2dmd-low", "MoS2"), "sampling": Sampling(concentrations=(0.1,))}, "the Recipe"),
        ({"defects": preset("2dmd-low", "WSe2")}, "host MoS2 has no such element"),
        ({"sampling": Sampling(concentrations=(0.2,)), "max_defects": 2}, "max_defects=2: the concentrations"),
        ({"sampling": Sampling(concentrations=(0.001,))}, "makes 0 defects"),
        ({"sampling": Sampling(concentrations=(0.25, 0.26))}, "0.25 and 0.26 of 12 sites make 3 defects each"),
        ({"vacuum": -1.0}, "vacuum=-1 Å"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(fields, message, weights, workplace):
    before = sorted(workplace.rglob("*"))
    arguments = {"supercell": (2, 2, 1), "defects": ("v_S",), "engine": engine(), "model": str(weights.path)}
    with pytest.raises(InputError, match=message) as caught:
        defect_flow("MoS2", **{**arguments, **fields})
    assert "\n" not in str(caught.value)
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"concentrations": ()}, "sampling: concentrations"),
        ({"concentrations": (0.1, 1.5)}, r"concentration 1.5: a share"),
        ({"concentrations": (float("nan"),)}, "concentration nan"),
        ({"concentrations": (0.1,), "per_concentration": 0}, "per_concentration=0"),
        ({"concentrations": (0.1,), "sead": 1}, "sead"),
    ],
)
def test_a_sampling_that_makes_no_sense(fields, message):
    with pytest.raises(InputError, match=message) as caught:
        Sampling(**fields)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ charges

CHARGED = pytest.mark.filterwarnings("ignore:Structure charge")  # pymatgen's word for a charge beside neutral atoms


@dataclasses.dataclass
class Told(EmtRelaxMaker):
    """EMT that keeps the charges it was given, by folder; atomate2's document does not."""

    knows_charge: ClassVar[bool] = True
    charges: ClassVar[dict[str, float]] = {}

    def run_ase(self, mol_or_struct, prev_dir=None):
        self.charges[str(Path.cwd())] = mol_or_struct.charge
        return super().run_ase(mol_or_struct, prev_dir=prev_dir)


@CHARGED
def test_charges_reach_the_engine_from_the_unrelaxed_structure(maker, jobs):
    maker.defects = Choices(defects=("v_Cu",), charges=(0, -1, 2))
    maker.engine = engine(Told)
    output, _ = run(maker.make(CU), jobs)
    records, pairs = stored()
    found = {(record.configuration.charge, record.start): record for record in records}
    assert set(found) == {(0, "predicted"), (0, "unrelaxed"), (-1, "unrelaxed"), (2, "unrelaxed")}
    assert (output["relaxations_run"], len(pairs)) == (4, 1)
    assert all(record.status == "done" for record in records)
    assert len({record.configuration_id for record in records}) == 3
    for (charge, start), record in found.items():
        assert Told.charges[record.provenance.directory] == charge
        gate = record.prediction.gate
        assert gate.in_domain == (charge == 0)
        assert (f"charge {charge:+d}" in gate.reason) == (charge != 0)
        assert (gate.verdict == "rejected") == (charge != 0), start


@CHARGED
@pytest.mark.parametrize("charge", [-1, 2])
def test_structures_carry_the_charge_through_json(charge):
    structure = build_structure(HOST, place(HOST, ["v_Cu@0"], charge=charge))
    assert structure.charge == charge
    assert Structure.from_dict(json.loads(json.dumps(structure.as_dict()))).charge == charge


def test_a_potential_that_knows_no_charges_is_refused_for_them(maker):
    maker.defects, maker.engine = Choices(defects=("v_Cu",), charges=(1,)), "sevennet"
    with pytest.raises(InputError, match="sevennet knows no charges"):
        maker.campaign(CU)


FIXED = {"ISIF": 2, "EDIFFG": -0.01}
CALCULATOR = CalculatorRelaxMaker(calculator_class="ase.calculators.emt.EMT", version=ase.__version__)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("EmtRelaxMaker", engine()),
        ("EMT", CALCULATOR),
        ("ForceFieldRelaxMaker", ForceFieldRelaxMaker(force_field_name="SevenNet", relax_cell=False)),
        ("RelaxMaker", RelaxMaker(input_set_generator=RelaxSetGenerator(user_incar_settings=FIXED))),
    ],
)
def test_every_maker_that_knows_no_charges_is_refused_for_them(maker, name, own):
    maker.defects, maker.engine = Choices(defects=("v_Cu",), charges=(0, 1)), own
    with pytest.raises(InputError, match=f"^the engine {name} knows no charges, .* use vasp or gpaw$"):
        maker.campaign(CU)
    assert not Path("records.sqlite").exists()


@pytest.mark.parametrize(
    "own",
    [
        VaspDefectRelaxMaker(),
        RelaxMaker(input_set_generator=RelaxSetGenerator(use_structure_charge=True, user_incar_settings=FIXED)),
    ],
)
def test_vasp_takes_charges(maker, own):
    maker.defects, maker.engine = Choices(defects=("v_Cu",), charges=(-1, 1)), own
    assert [configuration.charge for configuration in maker.campaign(CU).configurations] == [-1, 1]
