"""What the count of executions rests on."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from flow_helpers import CU
from jobflow import run_locally
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Structure
from vasp_helpers import WARNINGS

from definet_flows import InputError
from definet_flows.ledger import combined, read_document, read_executions, read_relaxation
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.inputs import mark_defects
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator
from definet_flows.workflows.engines.vasp.run import failed_document, fresh_handlers

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS


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
