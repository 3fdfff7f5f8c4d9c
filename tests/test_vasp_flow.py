"""The main flow with VASP's stand-in: 20 configurations, both arms, every way to fail, every step counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flow_helpers import CU, stored
from jobflow import run_locally
from monty.io import zopen
from pymatgen.core import Structure
from vasp_helpers import WARNINGS

from definet_flows import Choices, defect_flow
from definet_flows.schemas import dump
from definet_flows.stores import Filter, open_store, savings
from definet_flows.workflows.probe import probe_flow, symmetric_ends
from definet_flows.workflows.retry import collect_killed, retry_flow, unfinished

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

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
        "store": "records.jsonl",
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


def relax(jobs, **campaign):
    """Run the flow on the host as given; return its totals."""
    flow = defect_flow(CU, engine="vasp", relax_host=False, **campaign)
    return run_locally(flow, store=jobs, create_folders=True, log=False)[flow.output.uuid][1].output


def retry(jobs, ids):
    flow = retry_flow(ids, "vasp", "records.jsonl")
    return run_locally(flow, store=jobs, create_folders=True, log=False)[flow.output.uuid][1].output


def test_what_failed_goes_on_from_its_last_positions(campaign, jobs, standin):
    campaign |= {"supercell": (2, 2, 2), "defects": ("v_Cu", "Ni_Cu")}
    standin.fails({0: ["kill"], 1: ["exit"], 2: ["zbrent", "disk"], 4: ["exit"]})
    assert relax(jobs, **campaign)["savings"]["failed"] == 3
    before = {record.id: record for record in stored()[0] if record.status == "failed"}
    with open_store("records.jsonl") as records:
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
    with open_store("records.jsonl") as records:
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


def test_symmetric_ends_are_rattled_and_relaxed_again(campaign, jobs, standin):
    campaign |= {"supercell": (2, 2, 2), "defects": ("v_Cu",), "relax_host": False}
    flow = defect_flow(CU, engine="vasp", **campaign)
    run_locally(flow, store=jobs, create_folders=True, log=False)
    records, _ = stored()
    symmetric = [record for record in records if record.ledger.point_group_end != "1"]
    assert any("not tested for stability" in note for note in symmetric[0].ledger.notes)
    with open_store("records.jsonl") as opened:
        ids = symmetric_ends(opened, {record.settings_hash for record in records}, 5)
    assert ids == sorted(record.id for record in symmetric)
    flow = probe_flow(ids, "vasp", "records.jsonl", rattle=0.05)
    run_locally(flow, store=jobs, create_folders=True, log=False)
    with open_store("records.jsonl") as opened:
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
            assert standin.counts(folder(record), "force") == []
        else:
            check_ledger(record, standin)
            assert record.status == "failed" or record.ledger.converged
    assert {entry["program"] for entry in standin.entries()} == {"vasp_gam"}
    counted = sum(record.ledger.ionic_steps for record in records if record.ledger)
    with open_store("records.jsonl", read_only=True) as opened:
        found = savings(opened, Filter())
    host = standin.counts(standin.directories()[0], "force")
    assert counted == len([entry for entry in standin.entries() if entry["event"] == "force"]) - sum(host)
    assert found.spending.total == counted + sum(host)
    assert totals["savings"]["failed"] == len(FAILED)
    check_words(by_number)
    check_pairs(pairs, records)


def check_words(records):
    """Look at what the ledgers tell of single failures."""
    assert "No space left on device" in records[13].error
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
