"""Check before a campaign, ingest of finished runs, and what the count of executions rests on."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from emmet.core.tasks import TaskDoc
from flow_helpers import CU
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Structure
from typer.testing import CliRunner
from vasp_helpers import WARNINGS

from definet_flows import InputError
from definet_flows.cli import app
from definet_flows.hosts import make_host
from definet_flows.ledger import combined, read_document, read_executions, read_relaxation, read_vasp_run
from definet_flows.stores import open_store
from definet_flows.workflows import preflight as checks
from definet_flows.workflows.engines import resolve_engine
from definet_flows.workflows.ingest import ingest
from definet_flows.workflows.preflight import preflight
from definet_flows.workflows.vasp import VaspDefectRelaxMaker, VaspDefectSetGenerator
from definet_flows.workflows.vasp_inputs import mark_defects
from definet_flows.workflows.vasp_run import failed_document, fresh_handlers

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

SHARED = Path(__file__).parents[2] / "shared" / "vasp"
real_output = pytest.mark.skipif(not SHARED.is_dir(), reason="no real VASP output in ../shared/vasp")
runner = CliRunner()


# ------------------------------------------------------------------ counting


def relax(maker=None):
    """Relax a vacancy; return the document."""
    cell = CU * (2, 2, 2)
    cell.remove_sites([0])
    job = (maker or VaspDefectRelaxMaker()).make(cell)
    return run_locally(job, create_folders=True, log=False)[job.uuid][1].output


def test_an_execution_archived_twice_counts_once(standin, workplace):
    standin.fails({0: ["nsw"]})
    relax()
    (folder,) = map(Path, standin.directories())
    honest = read_relaxation(folder).ledger
    shutil.copy(folder / "error.1.tar.gz", folder / "error.2.tar.gz")
    with tarfile.open(folder / "error.3.tar.gz", "w:gz") as archive:  # as if custodian had archived the end too
        for name in ("OUTCAR", "vasprun.xml", "OSZICAR"):
            whole = gzip.decompress((folder / f"{name}.gz").read_bytes())
            (workplace / name).write_bytes(whole)
            archive.add(workplace / name, f"error.3/{name}")
    again = read_relaxation(folder).ledger
    assert [a.ionic_steps for a in again.attempts] == [a.ionic_steps for a in honest.attempts]
    assert again.electronic_steps == honest.electronic_steps == sum(standin.counts(folder, "electronic"))
    assert again.optimizer == "RMM-DIIS"
    assert workplace.is_dir()


def test_the_same_folder_told_twice_counts_once(standin, workplace):
    ledger = read_document(relax()).ledger
    other = ledger.model_copy(
        update={"attempts": tuple(a.model_copy(update={"directory": "else:/where"}) for a in ledger.attempts)}
    )
    assert combined(ledger, ledger) == ledger
    both = combined(other, ledger)
    assert both.ionic_steps == 2 * ledger.ionic_steps
    assert both.core_hours == pytest.approx(2 * ledger.core_hours)
    assert combined(both, ledger).ionic_steps == both.ionic_steps
    assert combined(None, ledger) == combined(ledger, None) == ledger
    assert len(standin.directories()) == 1
    assert workplace.is_dir()


def test_handlers_remember_nothing_of_other_runs():
    one, other = fresh_handlers(), fresh_handlers()
    one[0].error_count["zbrent"] += 1
    assert not other[0].error_count
    assert len({type(handler) for handler in one}) == len(one)


def test_a_maker_is_the_same_after_it_ran(standin, workplace):
    maker = VaspDefectRelaxMaker()
    before = maker.as_dict()
    assert read_document(relax(maker)).error is None
    assert maker.as_dict() == before
    assert standin.directories()
    assert workplace.is_dir()


def test_a_folder_with_other_output_is_refused(standin, workplace):
    (workplace / "OUTCAR").write_text("of another run")
    maker = VaspDefectRelaxMaker()
    with pytest.raises(InputError, match="create_folders=True"):
        maker.make.original(maker, CU)
    assert standin.entries() == []


@pytest.mark.parametrize("kept", [False, True])
def test_documents_are_small_and_trajectories_optional(standin, workplace, jobs, kept):
    standin.fails({0: ["zbrent", "nsw"], 1: ["zbrent", "kill"]})
    for number, steps in enumerate(([1, 3], [1, 1])):
        cell = CU * (2, 2, 2)
        cell.remove_sites([0])
        job = VaspDefectRelaxMaker(store_trajectory=kept).make(cell)
        run_locally(job, store=jobs, create_folders=True, log=False)
        small, whole = (jobs.get_output(job.uuid, load=load) for load in (False, True))
        assert len(json.dumps(jsanitize(small))) < 60_000
        ledger = read_document(whole).ledger
        counts = standin.counts(standin.directories()[number], "force")
        assert counts[: len(steps)] == steps
        assert [attempt.ionic_steps for attempt in ledger.attempts] == counts
        assert all(calculation["output"]["ionic_steps"] is None for calculation in whole["calcs_reversed"])
        if not kept:
            assert "trajectory" not in whole["relaxation"]
            continue
        assert all("blob_uuid" in one for one in small["relaxation"]["trajectory"])
        stored = MontyDecoder().process_decoded(whole["relaxation"]["trajectory"])
        assert [len(one) for one in stored] == counts
        frames = stored[-1].frame_properties
        assert np.array(frames[0]["forces"]).shape == (31, 3)
        assert frames[-1]["energy"] == pytest.approx(ledger.energy)
    assert workplace.is_dir()


def test_a_rattle_is_told_and_not_repeated(standin, workplace):
    maker = VaspDefectRelaxMaker(input_set_generator=VaspDefectSetGenerator(rattle=0.02, rattle_seed=3))
    ledger = read_document(relax(maker)).ledger
    assert "start rattled: every atom by 0.02 Å, seed 3" in ledger.notes
    assert ledger.point_group_start == "1"
    later = ledger.model_copy(update={"notes": (), "attempts": ()})
    assert combined(ledger, later).notes[-1].startswith("start rattled")  # as it is of a run that goes on
    assert standin.directories()
    assert workplace.is_dir()


@pytest.mark.parametrize("damage", ["empty", "cut", "nan", "order", "close", "cell"])
def test_a_damaged_contcar_is_not_gone_on_from(standin, workplace, damage):
    standin.fails({0: ["kill"]})
    cell = CU * (2, 2, 2)
    cell.replace(5, "Ni")
    job = VaspDefectRelaxMaker().make(cell)
    document = run_locally(job, create_folders=True, log=False)[job.uuid][1].output
    assert "ValidationError" in read_document(document).error
    (folder,) = map(Path, standin.directories())
    contcar = folder / "CONTCAR"
    (honest,) = read_executions(folder)
    assert honest.last == Structure.from_file(contcar)  # VASP had moved on from the last finished step
    assert not np.allclose(honest.last.frac_coords, honest.run.final.frac_coords, atol=1e-6)
    lines = contcar.read_text().splitlines(keepends=True)
    if damage == "empty":
        contcar.write_text("")
    elif damage == "cut":
        contcar.write_text(contcar.read_text()[:700])
    elif damage == "nan":
        contcar.write_text("".join([*lines[:10], "  NaN  0.5  0.5\n", *lines[11:]]))
    elif damage == "order":
        contcar.write_text("".join([*lines[:5], "Ni   Cu\n", "  1  31\n", *lines[7:]]))
    elif damage == "close":
        contcar.write_text("".join([*lines[:9], lines[8], *lines[10:]]))
    else:
        contcar.write_text("".join([lines[0], "   1.1\n", *lines[2:]]))
    (one,) = read_executions(folder)
    np.testing.assert_allclose(one.last.frac_coords, one.run.final.frac_coords)
    assert workplace.is_dir()


@pytest.mark.parametrize("name", ["custodian.json", "INCAR", "INCAR.orig", "POSCAR.orig", "error.1.tar.gz"])
def test_a_folder_damaged_by_a_full_disk_is_still_read(standin, workplace, name):
    standin.fails({0: ["zbrent", "kill"]})
    relax()
    (folder,) = map(Path, standin.directories())
    honest = read_relaxation(folder).ledger
    assert [attempt.ionic_steps for attempt in honest.attempts] == standin.counts(folder, "force") == [1, 1]
    (folder / "error.notes.tar.gz").write_text("of somebody else")
    for share in (0.5, 0.0):
        path = folder / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        ledger = read_relaxation(folder).ledger
        assert ledger.ionic_steps in ({2} if name != "error.1.tar.gz" else {1, 2} if share else {1})
        document = failed_document(folder, OSError("No space left on device"), 1.0)
        assert "No space left" in read_document(document).error
    assert workplace.is_dir()


def test_a_run_stopped_by_the_wall_time_is_unfinished(standin, workplace, monkeypatch):
    monkeypatch.setenv("CUSTODIAN_WALLTIME_START", "")  # put back afterwards: custodian sets it
    monkeypatch.delenv("CUSTODIAN_WALLTIME_START")
    standin.fails({0: ["slow"]})
    outcome = read_document(relax(VaspDefectRelaxMaker(run_vasp_kwargs={"wall_time": 60})))
    assert outcome.error == "stopped before the wall time ran out"
    assert [attempt.corrections for attempt in outcome.ledger.attempts] == [("Walltime reached",)]
    assert outcome.ledger.attempts[0].finished
    assert outcome.ledger.ionic_steps == 2 == sum(standin.counts(standin.directories()[0], "force"))
    assert not outcome.ledger.converged
    assert outcome.structure is not None
    assert workplace.is_dir()


@pytest.mark.parametrize(("removed", "tried"), [(2, True), (1, False)])
def test_spin_trials_are_counted_and_the_lowest_starts(standin, workplace, removed, tried):
    standin.fails({1: ["exit", "..."]})
    cell = CU * (2, 2, 2)
    cell.remove_sites(list(range(removed)))
    maker = VaspDefectRelaxMaker(spin_trials=(2.0, 4.0))
    job = maker.make(mark_defects(cell, cell, np.zeros((1, 3))))
    outcome = read_document(run_locally(job, create_folders=True, log=False)[job.uuid][1].output)
    ledger = outcome.ledger
    assert outcome.error is None
    assert ledger.magnetization == (4.0 if tried else 1.0)  # the stand-in likes moments; 2 μB failed
    logged = [
        number for place in sorted(standin.directories(), key=len)[::-1] for number in standin.counts(place, "force")
    ]
    assert [attempt.ionic_steps for attempt in ledger.attempts] == logged
    assert logged[:-1] == ([1, 1] if tried else [])
    assert ledger.optimizer == "conjugate gradient"
    assert resolve_engine(maker).settings_hash != resolve_engine("vasp").settings_hash
    assert workplace.is_dir()


# ------------------------------------------------------------------ check


def levels(lines):
    return {line.subject: line.level for line in lines}


def test_a_machine_without_vasp_fails_the_check(maker, monkeypatch):
    maker.engine = "vasp"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {})
    found = levels(preflight(maker, CU))
    assert {subject for subject, level in found.items() if level == "fail"} == {"POTCAR", "program"}


def test_a_machine_with_everything_passes(maker, standin):
    maker.engine = "vasp"
    lines = preflight(maker, CU)
    assert "fail" not in levels(lines).values()
    told = {line.subject: line.text for line in lines}
    assert told["program"] == "vasp_gam"
    assert "PAW_PBE Ni" in " ".join(line.text for line in lines if line.subject == "POTCAR")
    assert told["k-points"].endswith("3 x 3 x 3 (vasp_std) would do")
    assert levels(lines)["k-points"] == "warn"
    assert "2 configurations, 2 of them" in told["campaign"]
    assert "all 2 kinds" in told["domain"]
    assert "not told" in told["lattice"]
    assert "kB for its result" in told["documents"]
    assert "records, can be written" in told["records"]
    assert "this machine" in told["workers"]
    shown = " ".join(line.text for line in lines if line.subject == "")
    assert shown.split(": FireWorks category ")[1:] == ["gpu relaxations", "cpu bookkeeping", "light"]
    assert standin.entries() == []
    maker.defects = ("Ag_Cu",)
    monkey = levels(preflight(maker, CU))
    assert (monkey["domain"], monkey["POTCAR"]) == ("warn", "fail")


def test_what_cannot_be_written_is_told(maker, standin, monkeypatch):
    maker.engine = VaspDefectRelaxMaker(store_trajectory=True)
    documents = MemoryStore(key="uuid")
    monkeypatch.setattr("jobflow.SETTINGS.JOB_STORE", JobStore(documents))
    found = {line.subject: line for line in preflight(maker, CU)}
    assert found["job store"].level == "ok"  # nothing is configured: journals

    class Database(MemoryStore):
        """A store that is not only in memory, as far as the check can tell."""

    monkeypatch.setattr(checks, "MemoryStore", type("Other", (), {}))
    monkeypatch.setattr("jobflow.SETTINGS.JOB_STORE", JobStore(Database(key="uuid")))
    found = {line.subject: line for line in preflight(maker, CU)}
    assert (found["job store"].level, "no additional store 'data'" in found["job store"].text) == ("fail", True)
    monkeypatch.setattr("jobflow.SETTINGS.JOB_STORE", JobStore(documents, additional_stores={"data": MemoryStore()}))
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
    assert (line.level, "3 x 3 x 1" in line.text) == ("warn", True)


def test_check_from_the_shell(workplace, standin):
    arguments = ["check", "MoS2", "--supercell", "8", "8", "1", "--defect", "v_S", "--store", "records.jsonl"]
    result = runner.invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 1  # the stand-in has no POTCARs of these
    assert "POTCAR" in result.output
    result = runner.invoke(app, [*arguments, "--engine", "sevennet"], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert standin.entries() == []
    assert not list(workplace.glob("job_*"))


def test_nothing_to_retry_is_one_line(workplace, standin):
    result = runner.invoke(app, ["retry", "--store", "records.jsonl"])
    assert result.exit_code == 2
    assert "nothing to retry" in result.stderr
    assert standin.entries() == []
    assert workplace.is_dir()


# ------------------------------------------------------------------ ingest


@real_output
@pytest.mark.parametrize(
    ("name", "bulk", "expected"),
    [
        ("GaN_Mg_Ga", "POSCAR.gz", [("Mg_Ga", 0, 5, -206.957934), ("Mg_Ga", 1, 5, -211.383950)]),
        ("GaN_v_N", "CONTCAR.gz", [("v_N", -1, 9, -193.407666), ("v_N", 0, 8, -200.601114)]),
    ],
)
def test_real_relaxations_become_records(name, bulk, expected):
    host = make_host(Structure.from_file(SHARED / name / "bulk" / bulk), (1, 1, 1))
    found = ingest(host, SHARED / name)
    assert list(found.left_out) == [str(SHARED / name / "bulk")]
    records = sorted(found.records.values(), key=lambda record: record.configuration.charge)
    told = [(r.name, r.configuration.charge, r.ledger.ionic_steps, r.ledger.energy) for r in records]
    assert told == [(*one[:3], pytest.approx(one[3], abs=1e-6)) for one in expected]
    assert len({record.settings_hash for record in records}) == 1
    for record in records:
        assert (record.status, record.ledger.converged) == ("done", True)
        folder = SHARED / name / f"q={record.configuration.charge}"
        end = read_relaxation(folder).structure
        rows = record.sites.relaxed[list(record.sites.permutation)]
        placed = Structure(record.host.lattice, end.species, rows, coords_are_cartesian=True)
        np.testing.assert_allclose(placed.distance_matrix, end.distance_matrix, atol=2e-3)  # the host is symmetrised


@real_output
def test_settings_and_cut_off_runs_are_kept_apart(tmp_path):
    source = SHARED / "GaN_Mg_Ga"
    host = make_host(Structure.from_file(source / "bulk" / "POSCAR.gz"), (1, 1, 1))
    text = gzip.decompress((source / "q=0" / "vasprun.xml.gz").read_bytes()).decode()
    for name, made in {
        "first": text,
        "again": text,
        "other": text.replace('<i name="ENMAX">    500.0', '<i name="ENMAX">    400.0'),
        "zcut": text[: text.rindex("<calculation>") + 500].replace('"ENMAX">    500.0', '"ENMAX">    300.0'),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vasprun.xml").write_text(made)
    found = ingest(host, tmp_path)
    assert len({record.settings_hash for record in found.records.values()}) == 3
    assert len({record.configuration_id for record in found.records.values()}) == 1
    assert len(found.left_out) == 1
    (cut,) = (record for record in found.records.values() if record.status == "failed")
    assert cut.ledger.ionic_steps == 4
    assert cut.sites.last is not None
    assert cut.sites.relaxed is None


def zinc_blende():
    """Return the pristine cell of the runs in ZnS_outcar: their sites, put back on the ideal ones."""
    run = read_vasp_run(SHARED / "ZnS_outcar" / "sub_1_Al_on_Zn_0.OUTCAR.gz")
    ideal = np.rint(run.initial.frac_coords * 16) / 16
    species = [site.specie.symbol.replace("Al", "Zn") for site in run.initial]
    return make_host(Structure(run.initial.lattice, species, ideal), (1, 1, 1))


@real_output
def test_outcars_alone_become_records(tmp_path):
    found = ingest(zinc_blende(), SHARED / "ZnS_outcar")
    assert found.left_out == {}
    told = {
        (r.name, r.configuration.charge): (r.status, r.ledger.ionic_steps, r.ledger.electronic_steps, r.ledger.energy)
        for r in found.records.values()
    }
    assert told == {
        ("Al_Zn", 0): ("done", 7, 24, pytest.approx(-269.216202, abs=1e-6)),
        ("v_Zn", -1): ("done", 14, 59, pytest.approx(-260.065464, abs=1e-6)),
        ("v_S", 1): ("done", 10, 31, pytest.approx(-261.394646, abs=1e-6)),
    }
    assert len({record.settings_hash for record in found.records.values()}) == 1
    whole = gzip.decompress((SHARED / "ZnS_outcar" / "vac_2_S_1.OUTCAR.gz").read_bytes())
    for name, share in (("cut", 0.6), ("head", 0.01)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "OUTCAR").write_bytes(whole[: int(share * len(whole))])
    found = ingest(zinc_blende(), tmp_path)
    (cut,) = found.records.values()
    assert (cut.status, cut.error) == ("failed", "the output is cut off")
    assert 0 < cut.ledger.ionic_steps < 10
    assert cut.sites.last is not None
    assert "breaks off before the first structure" in found.left_out[str(tmp_path / "head")]


@real_output
def test_two_runs_in_one_folder_are_left_out(tmp_path):
    source = SHARED / "GaN_v_N" / "q=0" / "vasprun.xml.gz"
    for name in ("vasprun.xml.relax1.gz", "vasprun.xml.relax2.gz"):
        shutil.copy(source, tmp_path / name)
    host = make_host(Structure.from_file(SHARED / "GaN_v_N" / "bulk" / "CONTCAR.gz"), (1, 1, 1))
    found = ingest(host, tmp_path)
    assert found.records == {}
    assert "a folder of its own" in found.left_out[str(tmp_path)]


@real_output
def test_ingest_from_the_shell(workplace):
    host = workplace / "POSCAR"
    host.write_bytes(gzip.decompress((SHARED / "GaN_Mg_Ga" / "bulk" / "POSCAR.gz").read_bytes()))
    arguments = ["ingest", str(SHARED / "GaN_Mg_Ga"), "--host", str(host), "--store", "records.jsonl"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with open_store("records.jsonl", read_only=True) as records:
        assert len(list(records.records())) == 2
    assert runner.invoke(app, ["ingest", str(workplace), "--host", str(host)]).exit_code == 2
