"""INCAR tags and k-points of the user's own, and the inputs written instead of run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_helpers import CU
from jobflow import run_locally
from monty.io import zopen
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Kpoints
from typer.testing import CliRunner
from vasp_helpers import WARNINGS

from definet_flows import InputError, defect_flow
from definet_flows.cli import app
from definet_flows.hosts import make_host
from definet_flows.stores import open_store
from definet_flows.workflows.campaign.preflight import _kpoints
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator
from definet_flows.workflows.engines.vasp.settings import mesh_of, read_incar, read_kpoints, with_settings

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

runner = CliRunner()


def vasp(*items, kpoints=None):
    return resolve_engine(with_settings(resolve_engine("vasp").maker, "vasp", read_incar(items), kpoints))


def test_tags_have_the_type_that_vasp_knows_them_by():
    items = ["encut=520", "NELM = 60", "LREAL=.FALSE.", "LWAVE=t", "IVDW=12", "METAGGA=R2SCAN", "DIPOL=0.5 0.5 0.5"]
    assert read_incar(items) == {
        "ENCUT": 520.0,
        "NELM": 60,
        "LREAL": False,
        "LWAVE": True,
        "IVDW": 12,
        "METAGGA": "R2scan",
        "DIPOL": [0.5, 0.5, 0.5],
    }


@pytest.mark.parametrize(
    ("items", "why"),
    [
        (["ENCUT"], "write a tag and its value"),
        (["ENCUT="], "write a tag and its value"),
        (["=520"], "write a tag and its value"),
        (["ENCUTT=520"], "VASP has no tag ENCUTT"),
        (["ENCUT=many"], "ENCUT takes a number"),
        (["ENCUT=nan"], "ENCUT takes a number"),
        (["NELM=60.5"], "NELM takes a whole number"),
        (["LWAVE=yes"], "LWAVE takes .TRUE. or .FALSE."),
        (["ENCUT=500", "encut=520"], "ENCUT is given twice"),
        (["NSW=0"], "nothing relaxes"),
        (["IBRION=0"], "relax the atoms"),
        (["ISIF=3"], "the cell stays"),
        (["EDIFFG=1e-4"], "judged by forces"),
        (["ISYM=2"], "hold the unrelaxed start"),
        (["MAGMOM=1 1"], "electrons of each configuration"),
        (["NELECT=300"], "--charge"),
        (["KSPACING=0.3"], "--kpoints"),
        (["SYSTEM=mine"], "dry run"),
        (["LDAUU=3 0"], "VaspDefectSetGenerator"),
        (["ML_LMLFF=T"], "no ionic steps"),
        (["ROPT=1e-3 1e-3"], "elements of a cell"),
        (["FERWE=96*1 96*0"], "electrons of each configuration"),
        (["ALGO=All;NSW=0"], "ALGO takes a single word"),
        (["ALGO=All NSW=0"], "ALGO takes a single word"),
        (["METAGGA=SCAN\nISIF=3"], "METAGGA takes a single word"),
        (["DIPOL=0.5 0.5 half"], "DIPOL takes numbers"),
        (["DIPOL=1/3 1/3 1/3"], "DIPOL takes numbers"),
        (["DIPOL=1d-3 0 0"], "DIPOL takes numbers"),
        (["DIPOL=999999999*0.5"], "DIPOL takes numbers"),
    ],
)
def test_what_breaks_a_campaign_is_refused_with_the_reason(items, why):
    with pytest.raises(InputError) as refused:
        read_incar(items)
    assert str(refused.value).startswith(f"--incar {items[-1]}: ")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.5 0.5 0.5", [0.5] * 3), (".5, .5 +1E-3", [0.5, 0.5, 1e-3]), ("3*-0.5", [-0.5] * 3), ("0 0 1", [0, 0, 1])],
)
def test_every_number_of_a_list_counts(text, numbers):
    assert read_incar([f"DIPOL={text}"]) == {"DIPOL": numbers}


def test_a_tag_from_the_shell_has_the_hash_of_the_tag_from_python():
    maker = VaspDefectRelaxMaker(input_set_generator=VaspDefectSetGenerator(user_incar_settings={"ENCUT": 520}))
    assert vasp("ENCUT=520").settings_hash == vasp("ENCUT=5.2e2").settings_hash == resolve_engine(maker).settings_hash


@pytest.mark.parametrize(
    "mesh", [("0", "1", "1"), ("2", "2", "-1"), ("2", "2", "1.5"), ("65", "1", "1"), ("9" * 99,) * 3]
)
def test_a_mesh_that_is_none_is_refused(mesh):
    with pytest.raises(InputError, match="whole number from 1 to 64"):
        read_kpoints(mesh)


def test_how_a_machine_shares_out_the_work_is_not_in_the_hash():
    base = resolve_engine("vasp").settings_hash
    assert vasp("NCORE=4", "KPAR=2", "NSIM=8", "LPLANE=.FALSE.").settings_hash == base
    assert vasp("NCORE=4", "ENCUT=520").settings_hash == vasp("ENCUT=520").settings_hash != base


def test_what_is_set_is_in_the_hash_and_what_is_the_default_is_not():
    base = resolve_engine("vasp").settings_hash
    assert vasp("ENCUT=500", "GGA=PE", "LREAL=Auto", "LASPH=.TRUE.", kpoints=(1, 1, 1)).settings_hash == base
    others = [vasp("ENCUT=520"), vasp("GGA=PS"), vasp(kpoints=(2, 2, 1)), vasp(kpoints=(2, 1, 1))]
    assert len({base, *(engine.settings_hash for engine in others)}) == 5
    assert {engine.name for engine in others} == {"vasp"}


def test_settings_survive_the_way_into_a_job():
    engine = vasp("ENCUT=520", kpoints=(2, 3, 1))
    again = json.loads(json.dumps(engine.maker, cls=MontyEncoder), cls=MontyDecoder)
    assert resolve_engine(again).settings_hash == engine.settings_hash
    assert mesh_of(again.input_set_generator) == (2, 3, 1)


def test_an_engine_without_an_input_file_refuses_them():
    maker = resolve_engine("sevennet").maker
    with pytest.raises(InputError, match="the engine sevennet has neither"):
        with_settings(maker, "sevennet", {"ENCUT": 520}, None)
    dry = with_settings(resolve_engine("vasp-dry-run").maker, "vasp-dry-run", {"ENCUT": 520}, None)
    assert resolve_engine(dry).name == "vasp-dry-run"


def test_the_mesh_that_is_given_is_judged():
    host = make_host("MoS2", (3, 3, 1))
    assert _kpoints(host).text == "Γ alone: 0.76 1/Å, coarser than 0.3 1/Å: --kpoints 3 3 1 (vasp_std)"
    assert (_kpoints(host, (3, 3, 1)).level, _kpoints(host, (2, 2, 1)).level) == ("ok", "warn")


# ------------------------------------------------------------------ inputs instead of a run


def plain(name):
    with zopen(name, "rt") as file:
        return file.read()


def test_what_is_written_is_what_a_run_gives_to_vasp(workplace, jobs, standin, weights):
    CU.to(filename="POSCAR", fmt="poscar")
    words = f"POSCAR --supercell 2 2 2 --defect v_Cu --defect Ni_Cu --no-relax-host --model {weights.path}"
    options = "--incar ENCUT=450 --store records.sqlite --write-inputs inputs"
    result = runner.invoke(app, ["run", *words.split(), *options.split()])
    assert result.exit_code == 0, result.output
    assert Path.cwd() == workplace
    assert "inputs of 2 relaxations written to inputs; nothing was run" in result.output
    assert standin.entries() == []
    assert sorted(path.name for path in Path("inputs").iterdir()) == ["Ni_Cu", "v_Cu"]
    flow = defect_flow(
        "POSCAR",
        supercell=(2, 2, 2),
        defects=("v_Cu", "Ni_Cu"),
        engine=vasp("ENCUT=450").maker,
        relax_host=False,
        control_fraction=1,
        model=str(weights.path),
        store="records.sqlite",
    )
    run_locally(flow, store=jobs, create_folders=True, log=False)
    with open_store("records.sqlite", read_only=True) as records:
        found = {record.name: record for record in records.records() if record.start == "unrelaxed"}
    assert {record.engine for record in found.values()} == {"vasp"}
    for name, record in found.items():
        assert record.provenance.directory is not None
        folder = Path(record.provenance.directory.split(":")[-1])
        run = {key: plain(next(folder.glob(f"{key}*"))) for key in FILES}
        written = {key: (Path("inputs") / name / key).read_text() for key in FILES}
        assert Incar.from_str(written["INCAR"]) == Incar.from_str(run["INCAR"])
        assert Incar.from_str(written["INCAR"])["ENCUT"] == 450
        assert Kpoints.from_str(written["KPOINTS"]).kpts == Kpoints.from_str(run["KPOINTS"]).kpts == [(1, 1, 1)]
        cells = [Structure.from_str(text["POSCAR"], fmt="poscar") for text in (written, run)]
        assert cells[0] == cells[1]
        assert written["POTCAR"] == run["POTCAR"]


FILES = ("INCAR", "KPOINTS", "POSCAR", "POTCAR")


@pytest.mark.parametrize("command", ["run", "check", "launch"])
def test_without_potcars_their_names_are_written_and_nothing_runs(workplace, monkeypatch, command):
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {})
    monkeypatch.setenv("PATH", "")
    words = f"{command} BN --supercell 3 3 1 --defect v_N --defect C_B --max-defects 2 --max-distance 2"
    extra = ["--to", "fireworks"] if command == "launch" else ["--kpoints", "3", "3", "1"]
    result = runner.invoke(app, [*words.split(), *extra, "--store", "records.sqlite", "--write-inputs", "inputs"])
    assert result.exit_code == (1 if command == "check" else 0), result.output
    folders = {path.name for path in Path("inputs").iterdir()}
    assert folders == {"host", "v_N", "C_B", "v_N+C_B"}
    for folder in folders:
        assert {path.name for path in (Path("inputs") / folder).iterdir()} == {
            "INCAR",
            "KPOINTS",
            "POSCAR",
            "POTCAR.spec",
        }
    mesh = (1, 1, 1) if command == "launch" else (3, 3, 1)
    assert Kpoints.from_file("inputs/C_B/KPOINTS").kpts == [mesh]
    assert (Path("inputs") / "C_B" / "POTCAR.spec").read_text().split() == ["C", "B", "N"]  # C takes the first site
    assert workplace.is_dir()
    assert not list(workplace.glob("job_*"))


def test_inputs_are_written_whole_or_not_at_all(workplace, monkeypatch):
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {})
    words = "run BN --supercell 3 3 1 --defect v_N --charge 0 --charge -1 --store records.sqlite --write-inputs inputs"
    for added, why in (
        ("", "no POTCAR B of the set PBE_54"),
        ("--engine sevennet", "the engine sevennet has no input files"),
        ("--engine sevennet --incar ENCUT=520", "the engine sevennet has neither"),
    ):
        result = runner.invoke(app, [*words.split(), *added.split()])
        assert result.exit_code == 2
        assert why in result.stderr
        assert not list(workplace.glob("inputs*"))
    Path("inputs").mkdir()
    result = runner.invoke(app, words.replace("--charge -1 ", "").split())
    assert result.exit_code == 2
    assert "inputs is there already" in result.stderr


def test_retry_takes_the_same_options(workplace, standin):
    result = runner.invoke(app, ["retry", "--store", "records.sqlite", "--incar", "NSW=0"])
    assert result.exit_code == 2
    assert "nothing relaxes" in result.stderr
    result = runner.invoke(
        app, ["retry", "--store", "records.sqlite", "--incar", "ENCUT=520", "--kpoints", "2", "2", "1"]
    )
    assert "nothing to retry: no record of vasp failed with these settings" in result.stderr
    assert standin.entries() == []
    assert workplace.is_dir()


def test_a_mesh_that_a_maker_makes_by_itself_is_not_told_as_gamma():
    makers = (
        VaspDefectRelaxMaker(input_set_generator=VaspDefectSetGenerator(user_kpoints_settings=given))
        for given in (
            {},
            Kpoints.gamma_automatic((3, 3, 1)),
            {"grid_density": 1000},
            Kpoints.monkhorst_automatic((2, 2, 1)),
        )
    )
    assert [mesh_of(maker.input_set_generator) for maker in makers] == [(1, 1, 1), (3, 3, 1), None, None]
    assert _kpoints(make_host("MoS2", (3, 3, 1)), None).text == "by user_kpoints_settings of the Maker"
