"""What `definet check` and `definet retry` say before anything runs."""

from __future__ import annotations

import json

import pytest
from emmet.core.tasks import TaskDoc
from flow_helpers import CU
from jobflow import JobStore
from kept_store import Kept
from maggma.stores import MemoryStore
from monty.json import jsanitize
from store_fixtures import record
from typer.testing import CliRunner
from vasp_helpers import SHARED, WARNINGS, real_output

from definet_flows.cli import app
from definet_flows.hosts import make_host
from definet_flows.stores import open_store
from definet_flows.workflows.campaign import preflight as checks
from definet_flows.workflows.campaign.preflight import preflight
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

runner = CliRunner()


def levels(lines):
    return {line.subject: line.level for line in lines}


def test_a_machine_without_vasp_fails_the_check(maker, monkeypatch):
    maker.engine = "vasp"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {})
    lines = preflight(maker, CU)
    assert {line.subject for line in lines if line.level == "fail"} == {"POTCAR", "program"}
    told = {line.subject: line.text for line in lines}
    assert "ENCUT=500" in told["INCAR"]
    assert told["k-points"].startswith("Γ alone")
    assert told["MAGMOM"].endswith("odd: 2 of 2 kinds (v_Cu, Ni_Cu)")


def test_odd_electrons_without_spin_are_warned_of(maker):
    maker.engine = VaspDefectRelaxMaker()
    maker.engine.input_set_generator.user_incar_settings = {"ISPIN": 1}
    (line,) = (line for line in preflight(maker, CU) if line.subject == "MAGMOM")
    assert (line.level, line.text) == ("warn", "none, for ISPIN=1; odd: 2 of 2 kinds (v_Cu, Ni_Cu)")


def test_a_machine_with_everything_passes(maker, standin):
    maker.engine = "vasp"
    lines = preflight(maker, CU)
    assert "fail" not in levels(lines).values()
    told = {line.subject: line.text for line in lines}
    assert told["program"] == "vasp_gam"
    assert "PAW_PBE Ni" in " ".join(line.text for line in lines if line.subject == "POTCAR")
    assert told["k-points"].endswith("--kpoints 3 3 3 (vasp_std)")
    assert levels(lines)["k-points"] == "warn"
    assert "2 configurations, 2 from the unrelaxed start too" in told["campaign"]
    assert told["domain"] == "inside: 2 kinds of configurations"
    assert "unknown" in told["lattice"]
    assert "kB for its result" in told["documents"]
    assert "records, can be written" in told["records"]
    assert "this machine" in told["workers"]
    assert all(line.subject and line.level in ("ok", "warn", "fail") for line in lines)
    shown = " ".join(line.text for line in lines if line.subject == "queue")
    assert shown.split(": FireWorks category ")[1:] == ["gpu relaxations", "cpu bookkeeping", "light"]
    assert standin.entries() == []
    maker.defects = ("Ag_Cu",)
    monkey = levels(preflight(maker, CU))
    assert (monkey["domain"], monkey["POTCAR"]) == ("warn", "fail")


def test_near_images_are_told(maker, standin):
    maker.engine = "vasp"
    maker.supercell = (2, 2, 2)
    near = {line.subject: line for line in preflight(maker, CU)}["images"]
    assert (near.level, "apart, less than 8 Å" in near.text) == ("warn", True)
    maker.supercell = (5, 5, 5)
    assert "images" not in levels(preflight(maker, CU))
    assert standin.entries() == []


def test_what_cannot_be_written_is_told(maker, standin, monkeypatch):
    maker.engine = VaspDefectRelaxMaker(store_trajectory=True)
    monkeypatch.setattr("jobflow.SETTINGS.JOB_STORE", JobStore(MemoryStore(key="uuid")))
    found = {line.subject: line for line in preflight(maker, CU)}
    assert found["job store"].level == "ok"  # nothing is configured: journals
    documents = Kept("documents.json", key="uuid")
    monkeypatch.setattr("jobflow.SETTINGS.JOB_STORE", JobStore(documents))
    found = {line.subject: line for line in preflight(maker, CU)}
    assert (found["job store"].level, "no additional store 'data'" in found["job store"].text) == ("fail", True)
    monkeypatch.setattr("jobflow.SETTINGS.JOB_STORE", JobStore(documents, additional_stores={"data": Kept("d.json")}))
    found = {line.subject: line for line in preflight(maker, CU)}
    assert (found["job store"].level, "can be written" in found["job store"].text) == ("ok", True)
    assert "for each ionic step" in found["documents"].text

    def refuse(*_, **__):
        raise PermissionError("mongodb://user:secret@host")

    monkeypatch.setattr(documents, "update", refuse)
    found = {line.subject: line for line in preflight(maker, CU)}
    assert found["job store"].level == "fail"
    assert "secret" not in found["job store"].text
    assert standin.entries() == []


@real_output
@pytest.mark.filterwarnings("ignore:No POTCAR file with matching TITEL:UserWarning")
def test_the_size_of_a_result_is_foreseen():
    document = TaskDoc.from_directory(SHARED / "GaN_Mg_Ga" / "q=0")
    document.calcs_reversed[0].output.ionic_steps = None
    fixed, per_atom = checks._RESULT
    size = len(json.dumps(jsanitize(document, strict=True)))
    assert fixed + per_atom * document.nsites == pytest.approx(size, rel=0.2)


def test_vacuum_does_not_count_for_the_k_points():
    assert checks._kpoints(make_host("MoS2", (8, 8, 1))).level == "ok"
    line = checks._kpoints(make_host("MoS2", (3, 3, 1)))
    assert (line.level, "--kpoints 3 3 1" in line.text) == ("warn", True)


def test_check_from_the_shell(workplace, standin):
    arguments = ["check", "MoS2", "--supercell", "8", "8", "1", "--defect", "v_S", "--store", "records.sqlite"]
    result = runner.invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 1  # the stand-in has no POTCARs of these
    assert "POTCAR" in result.output
    result = runner.invoke(app, [*arguments, "--engine", "sevennet"], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert standin.entries() == []
    assert not list(workplace.glob("job_*"))


def test_nothing_to_retry_is_one_line(workplace, standin):
    result = runner.invoke(app, ["retry", "--store", "records.sqlite"])
    assert result.exit_code == 2
    assert "nothing to retry" in result.stderr
    assert standin.entries() == []
    assert workplace.is_dir()


def test_nothing_to_retry_asks_for_no_vasp_and_names_the_engines_that_failed(workplace, monkeypatch):
    assert workplace.is_dir()
    monkeypatch.setenv("PATH", "")
    with open_store("records.sqlite") as records:
        records.put(record(status="failed").model_copy(update={"engine": "sevennet"}))
    for arguments, words in (
        ((), "no record of vasp failed with these settings; records of sevennet failed: name it by --engine"),
        (("--engine", "sevennet"), "no record of sevennet failed with these settings\n"),
    ):
        result = runner.invoke(app, ["retry", "--store", "records.sqlite", *arguments])
        assert result.exit_code == 2
        assert words in result.stderr
    with open_store("done.sqlite") as records:
        records.put(record().model_copy(update={"engine": "sevennet"}))
    result = runner.invoke(app, ["retry", "--store", "done.sqlite"])
    assert result.exit_code == 2
    assert result.stderr.endswith("; the store holds records of sevennet, none of which failed\n")
