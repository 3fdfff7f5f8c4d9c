"""The main flow with VASP's stand-in: 20 configurations, both arms, every way to fail, every step counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from flow_helpers import CU, stored
from jobflow import run_locally
from monty.io import zopen
from monty.json import MontyEncoder
from pymatgen.core import Structure
from vasp_helpers import WARNINGS

from definet_flows import Choices, InputError, defect_flow
from definet_flows.defects import enumerate_configurations
from definet_flows.hosts import make_host
from definet_flows.ledger import read_executions
from definet_flows.schemas import dump
from definet_flows.stores import Filter, open_store, savings
from definet_flows.workflows.campaign.jobs import relax_configuration
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator
from definet_flows.workflows.engines.vasp.run import RECORD_FILE
from definet_flows.workflows.recording.cases import Pristine
from definet_flows.workflows.recovery.probe import probe_flow, symmetric_ends
from definet_flows.workflows.recovery.retry import collect_killed, retry_flow, unfinished

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

STORE = "records.sqlite"
PLAN = {
    1: ["scf"],
    3: ["zbrent"],
    5: ["edddav"],
    7: ["nsw"],
    9: ["kill"],
    11: ["potcar"],
    13: ["disk"],
    15: ["hang"],
    17: ["positive"],
    18: ["exit"],
    21: ["positive", "positive"],
    23: ["zbrent", "zbrent"],
    25: ["scf", "edddav", "nsw"],
    27: ["edddav", "..."],
    29: ["zbrent", "kill"],
    31: ["hang", "exit"],
}
"""What fails: folder by number, the host's is 0; modes of its executions."""

MODES = {"scf", "zbrent", "edddav", "nsw", "kill", "potcar", "disk", "hang", "positive", "exit"}
"""Every way to fail."""

FAILED = {9, 11, 13, 18, 27, 29, 31}
"""Folders in which custodian finds no way out."""


@pytest.fixture
def campaign(weights):
    choices = Choices(defects=("v_Cu", "Ni_Cu"), max_defects=2, max_distance=4.5)
    return {
        "supercell": (2, 2, 3),
        "defects": choices,
        "control_fraction": 1,
        "model": str(weights.path),
        "store": "records.sqlite",
    }


def folder(record):
    return record.provenance.directory


def check_ledger(record, standin):
    """Compare the ledger with the stand-in's own account of the record's folders, step for step."""
    places = list(dict.fromkeys(attempt.directory.split(":", 1)[1] for attempt in record.ledger.attempts))
    for event, field in (("force", "ionic_steps"), ("electronic", "electronic_steps")):
        logged = [number for place in places for number in standin.counts(place, event)]
        assert [getattr(attempt, field) for attempt in record.ledger.attempts] == logged
        assert getattr(record.ledger, field) == sum(logged)
    by_place = [[entry["time"] for entry in standin.entries() if entry["directory"] == place] for place in places]
    assert record.ledger.wall_seconds > sum(max(times) - min(times) for times in by_place)
    assert record.ledger.cores == 4
    assert record.ledger.core_hours == pytest.approx(4 * record.ledger.wall_seconds / 3600)


def relax(jobs, **campaign):
    """Run the flow on the host as given; return its totals."""
    flow = defect_flow(CU, engine="vasp", relax_host=False, **campaign)
    return run_locally(flow, store=jobs, create_folders=True, log=False)[flow.output.uuid][1].output


def retry(jobs, ids):
    flow = retry_flow(ids, "vasp", "records.sqlite")
    return run_locally(flow, store=jobs, create_folders=True, log=False)[flow.output.uuid][1].output


def test_what_failed_goes_on_from_its_last_positions(campaign, jobs, standin):
    campaign |= {"supercell": (2, 2, 2), "defects": ("v_Cu", "Ni_Cu")}
    standin.fails({0: ["kill"], 1: ["exit"], 2: ["zbrent", "disk"], 4: ["exit"]})
    assert relax(jobs, **campaign)["savings"]["failed"] == 3
    before = {record.id: record for record in stored()[0] if record.status == "failed"}
    with open_store("records.sqlite") as records:
        assert sorted(before) == unfinished(records, "vasp")
    assert retry(jobs, sorted(before)) == {"done": 2, "failed": 1}
    after = {record.id: record for record in stored()[0]}
    again = [record for record in after.values() if record.status == "failed"]
    assert len(again) == 1
    assert retry(jobs, [again[0].id]) == {"done": 1}
    records, pairs = stored()
    assert len(pairs) == 2
    for record in records:
        assert record.status == "done"
        assert record.sites.last is None
        check_ledger(record, standin)
    first = next(r for r in records if r.ledger.attempts[0].directory.endswith(standin.directories()[0]))
    second = list(dict.fromkeys(attempt.directory for attempt in first.ledger.attempts))[1]
    went_on = poscar(second.split(":", 1)[1])
    reached = before[first.id].sites.last[list(first.sites.permutation)]
    moved = went_on.frac_coords - went_on.lattice.get_fractional_coords(reached)
    assert np.abs(moved - np.rint(moved)).max() < 1e-6
    assert first.ledger.inputs == next(r for r in records if r.id != first.id and r.name == first.name).ledger.inputs


def poscar(place):
    """Return the structure that VASP was first given in a folder."""
    with zopen(next(Path(place).glob("POSCAR.orig*")), "rt") as file:
        return Structure.from_str(file.read(), fmt="poscar")


def test_a_run_killed_with_its_parents_is_found_again(campaign, jobs, standin):
    campaign |= {"supercell": (2, 2, 2), "defects": ("v_Cu",), "control_fraction": 0}
    standin.fails({0: ["zbrent", "kill"]})
    relax(jobs, **campaign)
    with open_store("records.sqlite") as records:
        (record,) = records.records()
        assert record.ledger.ionic_steps > 0
        sites = record.sites.model_copy(update={"last": None})
        records.put(record.model_copy(update={"status": "running", "ledger": None, "error": None, "sites": sites}))
        (found,) = collect_killed(records, ".")
        assert found.ledger.ionic_steps == record.ledger.ionic_steps
        np.testing.assert_allclose(found.sites.last, record.sites.last, atol=1e-6)
        assert "killed in" in found.error
        assert collect_killed(records, ".") == []
    relax(jobs, **campaign)  # the same flow goes on too
    ((record,), _) = stored()
    assert record.status == "done"
    check_ledger(record, standin)
    assert len({attempt.directory for attempt in record.ledger.attempts}) == 2


def arms_of(configuration, control):
    """Return the two jobs, relaxation and record, of an unrelaxed arm, as the flow's bookkeeping makes them."""
    host = make_host(CU, (2, 2, 2))
    pristine = Pristine(host=host, base=host.cartesian, source="as given")
    store = str(Path(STORE).absolute())
    made = relax_configuration.original(
        pristine, configuration(host), engine="vasp", weights="0", store=store, control=control, predicted=None
    )
    return made.detour.jobs


def run_in(name, store, *made):
    """Run jobs one after another in a new folder."""
    store.connect()
    Path(name).mkdir()
    with chdir(name):
        for one in made:
            one.run(store)


def vacancy(host):
    (found,) = enumerate_configurations(host, Choices(defects=("v_Cu",)))
    return found


RUN_AGAIN = """
import json, sys, time
from types import SimpleNamespace
import custodian.custodian
from jobflow import JobStore
from maggma.stores import MemoryStore
from monty.json import MontyDecoder

custodian.custodian.time = SimpleNamespace(sleep=lambda _: time.sleep(0.02))
store = JobStore(MemoryStore())
store.connect()
MontyDecoder().process_decoded(json.load(open(sys.argv[1]))).run(store)
"""


@pytest.mark.parametrize("again", ["same job", "new job"])
def test_a_run_whose_process_was_killed_goes_on(workplace, jobs, standin, again):
    """As FireWorks runs a lost job again, in another folder; or as a user starts a killed flow again."""
    standin.fails({0: ["zbrent", "worker"]})
    arm, recording = arms_of(vacancy, control=False)
    (workplace / "job.json").write_text(json.dumps(arm, cls=MontyEncoder))
    (workplace / "first").mkdir()
    environment = {**os.environ, "PMG_VASP_PSP_DIR": str(standin.potcars)}
    command = [sys.executable, "-c", RUN_AGAIN, str(workplace / "job.json")]
    ended = subprocess.run(command, check=False, cwd=workplace / "first", env=environment)
    assert ended.returncode == -signal.SIGKILL
    with open_store(STORE) as records:
        (running,) = records.records()
    assert (running.status, running.provenance.directory) == ("running", str(workplace / "first"))
    if again == "new job":
        arm, recording = arms_of(vacancy, control=False)
    run_in("second", jobs, arm, recording)
    with open_store(STORE) as records:
        (record,) = records.records()
    assert record.status == "done"
    check_ledger(record, standin)
    assert [Path(attempt.directory).name for attempt in record.ledger.attempts] == ["first", "first", "second"]
    assert not record.ledger.attempts[1].finished
    assert record.ledger.core_hours == pytest.approx(4 * record.ledger.wall_seconds / 3600)
    went_on, reached = poscar(workplace / "second"), read_executions(workplace / "first")[-1].last
    moved = went_on.frac_coords - reached.frac_coords
    assert np.abs(moved - np.rint(moved)).max() < 1e-6
    assert record.ledger.point_group_start != "1"


def test_a_launch_that_cannot_be_read_is_told(workplace, jobs, standin):
    arm, recording = arms_of(vacancy, control=False)
    with open_store(STORE) as records:
        (record,) = records.records()
        gone = record.provenance.model_copy(update={"hostname": "node7", "directory": "/scratch/gone"})
        records.put(record.model_copy(update={"provenance": gone}))
    run_in("here", jobs, arm, recording)
    with open_store(STORE) as records:
        (record,) = records.records()
    assert record.status == "done"
    assert "an earlier launch in node7:/scratch/gone cannot be read from here" in " ".join(record.ledger.notes)
    check_ledger(record, standin)
    assert record.provenance.directory == str(workplace / "here")


def test_a_worker_without_the_database_relaxes_all_the_same(workplace, jobs, standin, monkeypatch):
    arm, recording = arms_of(vacancy, control=False)

    def unreachable(name):
        message = f"record store {name!r} is not reachable"
        raise InputError(message)

    with monkeypatch.context() as patched:
        patched.setattr("definet_flows.workflows.recovery.relaunch.open_store", unreachable)
        run_in("here", jobs, arm)
    assert json.loads((workplace / "here" / RECORD_FILE).read_text())["record"]
    recording.run(jobs)
    with open_store(STORE) as records:
        (record,) = records.records()
    assert record.status == "done"
    check_ledger(record, standin)


def test_a_rattle_is_recorded_and_the_same_in_both_arms(campaign, jobs, standin):
    maker = VaspDefectRelaxMaker(input_set_generator=VaspDefectSetGenerator(rattle=0.03, rattle_seed=5))
    campaign |= {"supercell": (2, 2, 2), "defects": ("Ni_Cu",)}
    standin.fails({0: ["exit"], 1: ["kill"]})
    flow = defect_flow(CU, engine=maker, relax_host=False, **campaign)
    run_locally(flow, store=jobs, create_folders=True, log=False)
    with open_store(STORE) as records:
        ids = unfinished(records, maker)
    flow = retry_flow(ids, maker, STORE)
    run_locally(flow, store=jobs, create_folders=True, log=False)
    records, pairs = stored()
    assert [record.status for record in records] == ["done", "done"]
    for record in records:
        check_ledger(record, standin)
        sites = record.sites
        first = next(Path(a.directory.split(":", 1)[1]) for a in record.ledger.attempts)
        rows = list(sites.permutation)
        start = (sites.unrelaxed if record.start == "unrelaxed" else sites.predicted) + sites.rattle
        given = poscar(first)
        moved = given.frac_coords - given.lattice.get_fractional_coords(start[rows])
        assert np.abs(moved - np.rint(moved)).max() < 1e-6
        assert np.linalg.norm(sites.rattle[rows], axis=1) == pytest.approx(0.03, abs=2e-6)
        assert any(note.startswith("start rattled") for note in record.ledger.notes)
    np.testing.assert_array_equal(records[0].sites.rattle, records[1].sites.rattle)
    assert [pair.same_inputs for pair in pairs] == [True]


def test_symmetric_ends_are_rattled_and_relaxed_again(campaign, jobs, standin):
    campaign |= {"supercell": (2, 2, 2), "defects": ("v_Cu",), "relax_host": False}
    flow = defect_flow(CU, engine="vasp", **campaign)
    run_locally(flow, store=jobs, create_folders=True, log=False)
    records, _ = stored()
    symmetric = [record for record in records if record.ledger.point_group_end != "1"]
    assert any("not tested for stability" in note for note in symmetric[0].ledger.notes)
    with open_store("records.sqlite") as opened:
        ids = symmetric_ends(opened, {record.settings_hash for record in records}, 5)
    assert ids == sorted(record.id for record in symmetric)
    flow = probe_flow(ids, "vasp", "records.sqlite", rattle=0.05)
    run_locally(flow, store=jobs, create_folders=True, log=False)
    with open_store("records.sqlite") as opened:
        probes = list(opened.probes())
        assert symmetric_ends(opened, {record.settings_hash for record in records}, 5) == []
    assert [probe.record_id for probe in probes] == ids
    for probe in probes:
        assert probe.verdict == "minimum"
        assert abs(probe.energy_difference) < 0.005
        assert probe.ledger.ionic_steps == sum(
            standin.counts(probe.ledger.attempts[0].directory.split(":")[1], "force")
        )
    assert [dump(record) for record in stored()[0]] == [dump(record) for record in records]


@pytest.mark.slow
def test_every_step_of_every_attempt_is_counted(campaign, jobs, standin):
    standin.fails(PLAN)
    flow = defect_flow(CU, engine="vasp", **campaign)
    totals = run_locally(flow, store=jobs, create_folders=True, log=False)[flow.output.uuid][1].output
    records, pairs = stored()
    assert len({record.configuration_id for record in records}) == 20
    assert len(records) == 40
    number = {place: k for k, place in enumerate(standin.directories())}
    by_number = {number[folder(record)]: record for record in records}
    assert set(by_number) == set(range(1, 41))
    assert {k for k, record in by_number.items() if record.status == "failed"} == FAILED
    for k, record in by_number.items():
        if record.ledger is None:
            assert k in {11, 18}
            assert {entry["event"] for entry in standin.entries() if entry["directory"] == folder(record)} == {"start"}
            assert record.error
        else:
            check_ledger(record, standin)
            assert record.status == "failed" or record.ledger.converged
    assert {entry["program"] for entry in standin.entries()} == {"vasp_gam"}
    started = [entry for entry in standin.entries() if entry["event"] == "start"]
    assert {entry["mode"] for entry in started} == {*MODES, ""}
    with open_store(STORE, read_only=True) as opened:
        found = savings(opened, Filter())
    host = {event: standin.counts(standin.directories()[0], event) for event in ("force", "electronic")}
    for event, field in (("force", "ionic_steps"), ("electronic", "electronic_steps")):
        counted = sum(getattr(record.ledger, field) for record in records if record.ledger)
        assert counted + sum(host[event]) == sum(entry["event"] == event for entry in standin.entries())
    assert found.spending.total == sum(entry["event"] == "force" for entry in standin.entries())
    assert totals["savings"]["failed"] == len(FAILED)
    check_words(by_number)
    check_pairs(pairs, records)


def check_words(records):
    """Look at what the ledgers tell of single failures."""
    assert "No space left on device" in records[13].error
    assert records[13].ledger.ionic_steps == 1
    assert Path(folder(records[13])).is_dir()
    assert "number of potentials" in records[11].error
    assert [attempt.corrections for attempt in records[1].ledger.attempts] == [("Unconverged",), ()]
    assert records[15].ledger.attempts[0].corrections == ("Frozen job",)
    assert records[3].ledger.attempts[1].changed_tags == {"EDIFF": "1e-07", "NELMIN": "8"}
    assert records[23].ledger.optimizer == "RMM-DIIS"  # the second ZBRENT of one relaxation, not of the process
    assert records[3].ledger.optimizer == "conjugate gradient"
    assert "optimiser changed: conjugate gradient, then RMM-DIIS" in records[7].ledger.notes
    assert [attempt.changed_tags for attempt in records[21].ledger.attempts] == [
        {},
        {"ALGO": "Normal"},
        {"POTIM": "0.25"},
    ]
    for record in records.values():
        if record.status == "failed" and record.ledger and record.ledger.ionic_steps:
            assert record.sites.last is not None


def check_pairs(pairs, records):
    steps = {(record.configuration_id, record.start): record.ledger for record in records if record.ledger}
    for pair in pairs:
        unrelaxed, predicted = (steps[pair.configuration_id, start] for start in ("unrelaxed", "predicted"))
        assert (pair.steps_unrelaxed, pair.steps_predicted) == (unrelaxed.ionic_steps, predicted.ionic_steps)
        assert pair.electronic_predicted == predicted.electronic_steps
        assert pair.core_hours_unrelaxed == unrelaxed.core_hours
    done = {record.id: record for record in records if record.status == "done"}
    assert len(pairs) == 20 - len({record.configuration_id for record in records if record.status == "failed"})
    assert {pair.same_inputs for pair in pairs} == {True}
    verdicts = [pair.verdict for pair in pairs]
    assert set(verdicts) <= {"same minimum", "better minimum", "other minimum"}  # the potential has saddles
    assert verdicts.count("same minimum") > len(pairs) / 2
    assert {pair.floor for pair in pairs} <= {2, 3}
    inputs = [record.ledger.inputs for record in done.values()]
    assert None not in inputs
    potcars = {title for record in done.values() for title in record.ledger.potcars}
    assert potcars == {"PAW_PBE Cu 01Jan2000", "PAW_PBE Ni 01Jan2000"}
