"""Campaigns whose starts come from recorded fields, several pre-relaxers, or a choice by evidence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import killed_proposals
import numpy as np
import pytest
from ase.calculators.emt import EMT
from flow_helpers import CU, engine, run, stored
from pymatgen.core import Lattice, Structure

from definet_flows import open_store
from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, Choice, Prediction
from definet_flows.starts import potential
from definet_flows.stores import Filter, savings_by
from definet_flows.workflows.campaign import choosing
from definet_flows.workflows.campaign.preflight import preflight
from definet_flows.workflows.campaign.prerelaxers import name_prerelaxers

pytest_plugins = ["flow_fixtures"]


@pytest.fixture
def pairs_too(maker):
    """A vacancy and pairs of vacancies, with an unrelaxed control each."""
    return replace(maker, defects=("v_Cu",), max_defects=2, control_fraction=1.0)


def starts(records):
    return {
        (record.name, record.start, record.prediction.prerelaxer) for record in records if record.start != "unrelaxed"
    }


def test_fields_begin_where_the_stage_before_ended(pairs_too, jobs):
    output, _ = run(replace(pairs_too, prerelaxer="fields").make(CU), jobs)
    records, pairs = stored()
    singles = [record for record in records if record.n_defects == 1]
    assert {record.start for record in singles} == {"unrelaxed"}
    assert all("no record" in record.prediction.gate.reason for record in singles)
    from_fields = [record for record in records if record.start == "predicted"]
    assert from_fields
    assert all(record.n_defects == 2 and record.prediction.prerelaxer == "fields" for record in from_fields)
    assert all(record.prediction.learned_from for record in from_fields)
    assert {pair.verdict for pair in pairs} == {"same minimum"}
    assert output["saving"] > 0.2


def test_twice_relaxes_nothing_twice_although_fields_have_learned_since(pairs_too, jobs):
    flow = replace(pairs_too, prerelaxer="fields")
    _, first = run(flow.make(CU), jobs)
    output, second = run(flow.make(CU), jobs)
    assert second == first
    assert (output["relaxations_run"], output["host"]) == (0, "reused")


def test_several_pre_relaxers_share_one_control(pairs_too, jobs, weights):
    output, _ = run(replace(pairs_too, prerelaxer=("definet", "fields")).make(CU), jobs)
    records, pairs = stored()
    assert output["saving"] is None  # two starts of a configuration have no saving in common
    for name in ("definet", "fields"):
        keys = {record.prediction.weights for record in records if record.prediction.prerelaxer == name}
        mine = [pair for pair in pairs if pair.weights in keys and pair.verdict == "same minimum"]
        share = 1 - sum(pair.steps_predicted for pair in mine) / sum(pair.steps_unrelaxed for pair in mine)
        assert f"{name}: {share:.1%} of ionic steps saved" in output["message"]
    by_configuration = {}
    for record in records:
        by_configuration.setdefault(record.configuration_id, []).append(record)
    for same in by_configuration.values():
        assert [record.start for record in same].count("unrelaxed") == 1
        keys = [record.prediction.weights for record in same if record.start == "predicted"]
        assert len(keys) == len(set(keys)) == (2 if same[0].n_defects == 2 else 1)
        assert weights.sha256 in keys
    with open_store("records.sqlite") as store:
        found = savings_by(store, "prerelaxer")
    assert set(found) == {"definet", "fields"}
    for one in found.values():  # rejected proposals of fields cost too
        made = one.proposals
        assert (made.count, made.without_seconds, made.without_core_hours) == (len(by_configuration), 0, 0)
        assert one.core_hours.spending.prerelaxing == made.core_hours > 0
        assert one.seconds.prerelaxing == made.seconds > 0
    assert all(record.prediction.core_seconds > 0 for record in records)
    assert found["fields"].same_minimum == sum(len(same) == 3 for same in by_configuration.values())


def test_a_larger_cell_starts_from_the_fields_of_the_smaller(maker, jobs):
    run(replace(maker, control_fraction=1.0, prerelaxer="fields").make(CU), jobs)
    larger = replace(maker, supercell=(3, 3, 3), control_fraction=1.0, prerelaxer="fields")
    output, _ = run(larger.make(CU), jobs)
    large = [record for record in stored()[0] if record.host.n_sites == 108]
    assert {(record.name, record.start) for record in large} == {
        (name, start) for name in ("v_Cu", "Ni_Cu") for start in ("unrelaxed", "predicted")
    }
    assert output["saving"] > 0


@pytest.mark.parametrize("relaxed_first", [True, False])
def test_fields_carry_over_between_the_host_as_given_and_as_relaxed(maker, jobs, relaxed_first):
    first = replace(maker, defects=("v_Cu",), prerelaxer="fields", control_fraction=1.0)
    run(replace(first, relax_host=relaxed_first).make(CU), jobs)
    run(replace(first, relax_host=not relaxed_first, supercell=(3, 3, 3)).make(CU), jobs)
    assert {(record.host.n_sites, record.start) for record in stored()[0]} == {
        (32, "unrelaxed"),
        (108, "unrelaxed"),
        (108, "predicted"),
    }


def test_records_of_other_settings_are_no_evidence(maker, jobs):
    run(replace(maker, prerelaxer="fields").make(CU), jobs)
    other = engine()
    other.relax_kwargs = {**other.relax_kwargs, "fmax": 0.03}
    run(replace(maker, prerelaxer="fields", engine=other).make(CU), jobs)
    assert starts(stored()[0]) == set()


def test_auto_asks_the_network_first_and_keeps_its_choice(pairs_too, jobs, weights):
    flow = replace(pairs_too, prerelaxer=AUTO)
    _, first = run(flow.make(CU), jobs)
    records, _ = stored()
    assert {record.prediction.prerelaxer for record in records} <= {"definet", "fields"}
    predicted = [record for record in records if record.start == "predicted"]
    assert all(record.prediction.note.startswith("auto: ") for record in predicted)
    singles = [record for record in predicted if record.n_defects == 1]
    assert {record.prediction.weights for record in singles} == {weights.sha256}
    with open_store("records.sqlite") as store:
        choices = list(store.find(Choice))
    assert len(choices) == len({record.configuration_id for record in records})
    output, second = run(flow.make(CU), jobs)
    assert (second, output["relaxations_run"]) == (first, 0)


def test_auto_reuses_what_the_network_alone_has_relaxed(maker, jobs):
    _, first = run(maker.make(CU), jobs)
    output, second = run(replace(maker, prerelaxer=AUTO).make(CU), jobs)
    assert (second, output["relaxations_run"]) == (first, 0)


def test_auto_asks_what_was_measured_here_beside_its_own_candidates(maker, jobs, monkeypatch):
    emt = potential.PotentialPreRelaxer("potential:emt", EMT, "emt")
    named = potential.potential_named
    monkeypatch.setattr(potential, "potential_named", lambda name: emt if name == emt.name else named(name))
    monkeypatch.setattr(choosing, "_POTENTIALS", ())
    silver = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.09), ["Ag"], [[0, 0, 0]])
    small = replace(maker, defects=("v_Ag", "Cu_Ag", "Ni_Ag"), control_fraction=1.0)
    run(replace(small, prerelaxer=emt.name).make(silver), jobs)
    run(replace(small, prerelaxer=AUTO, supercell=(3, 2, 2)).make(silver), jobs)
    large = [record for record in stored()[0] if record.host.n_sites == 48 and record.start == "predicted"]
    assert emt.name in {record.prediction.prerelaxer for record in large}
    assert any("by 3 pairs here" in record.prediction.note for record in large)


def test_auto_falls_to_fields_then_unrelaxed_for_a_host_that_the_network_does_not_know(maker, jobs, monkeypatch):
    monkeypatch.setattr(choosing, "_POTENTIALS", ())
    silver = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.09), ["Ag"], [[0, 0, 0]])
    small = replace(maker, defects=("v_Ag",), prerelaxer=AUTO, control_fraction=0.0)
    run(small.make(silver), jobs)
    (record,) = stored()[0]
    assert record.start == "unrelaxed"
    assert "no pre-relaxer" in record.prediction.gate.reason
    assert "fields: no prediction: no record of v_Ag" in record.prediction.gate.reason
    run(replace(small, supercell=(3, 3, 3)).make(silver), jobs)
    (large,) = [record for record in stored()[0] if record.host.n_sites == 108]
    assert (large.start, large.prediction.prerelaxer) == ("predicted", "fields")
    assert np.isfinite(large.ledger.max_force)


def test_a_configuration_without_a_record_falls_to_the_next_way_and_says_so(maker, jobs, monkeypatch):
    emt = potential.PotentialPreRelaxer("potential:emt", EMT, "emt")
    named = potential.potential_named
    monkeypatch.setattr(potential, "potential_named", lambda name: emt if name == emt.name else named(name))
    monkeypatch.setattr(choosing, "_POTENTIALS", (emt.name,))
    silver = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.09), ["Ag"], [[0, 0, 0]])
    run(replace(maker, defects=("v_Ag",), prerelaxer=AUTO, control_fraction=0.0).make(silver), jobs)
    (record,) = stored()[0]
    assert (record.start, record.prediction.prerelaxer) == ("predicted", emt.name)
    assert "fields: no prediction: no record of v_Ag" in record.prediction.note


def test_a_killed_prediction_job_keeps_the_proposals_of_a_potential_that_it_made(tmp_path, monkeypatch):
    tests = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests / 'support'}"}
    command = [sys.executable, str(tests / "support" / "killed_proposals.py")]
    (tmp_path / "slow").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as child:
        assert child.stdout.readline() == "hanging\n"
        os.kill(child.pid, signal.SIGKILL)
    store = str(tmp_path / "records.sqlite")
    with open_store(store, read_only=True) as records:
        (kept,) = records.find(Prediction)
    (tmp_path / "slow").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(potential, "potential_named", killed_proposals.emt)
    assert killed_proposals.proposed() == {"configurations": 3, "predicted": 2, "accepted": 3}
    with open_store(store, read_only=True) as records:
        assert (kept.id, kept.seconds) in {(one.id, one.seconds) for one in records.find(Prediction)}


@pytest.mark.parametrize(
    ("names", "saying"),
    [
        ((), "name each once"),
        (("fields", "fields"), "name each once"),
        (("auto", "fields"), "auto alone"),
        (("magic",), "choose auto, definet, fields"),
        (("potential:sevennet+fields",), "a chain is"),
        (("potential:nothing",), "unknown potential"),
    ],
)
def test_names_that_are_none(names, saying):
    with pytest.raises(InputError, match=saying):
        name_prerelaxers(names, "definet-2dmd", "0" * 64)


def test_a_prediction_job_that_failed_is_told_under_the_name_of_its_pre_relaxer(maker, jobs, monkeypatch):
    def fail(*_, **__):
        msg = "no fields today"
        raise RuntimeError(msg)

    monkeypatch.setattr("definet_flows.workflows.campaign.prerelaxers.recorded", fail)
    run(replace(maker, defects=("v_Cu",), prerelaxer="fields").make(CU), jobs)
    (record,) = stored()[0]
    assert (record.start, record.prediction.prerelaxer) == ("unrelaxed", "fields")
    assert "the prediction job failed" in record.prediction.gate.reason


def told(maker, subject="expected"):
    return [line.text for line in preflight(maker, CU) if line.subject == subject]


def test_check_tells_the_steps_that_may_be_saved(pairs_too, jobs):
    fields = replace(pairs_too, prerelaxer=("fields", "definet"))
    unknown = "unknown: no pair of Cu with these settings and pre-relaxers is in the store"
    assert told(fields) == [unknown] * 2
    assert told(replace(fields, control_fraction=0.0)) == [f"{unknown}, and no control would make one"] * 2
    run(fields.make(CU), jobs)
    with open_store("records.sqlite") as store:
        found = savings_by(store, "prerelaxer", Filter(n_defects=2))["fields"]
    single, *pairs = told(fields)  # of one defect no field has a pair: those of two defects are taken
    assert [text.partition(":")[0] for text in (single, *pairs)] == ["definet", "definet", "fields"]
    count, ionic = found.same_minimum, found.ionic
    low, high = ionic.interval
    assert pairs[-1] == (
        f"fields: some {ionic.unrelaxed - ionic.predicted:.0f} of {ionic.unrelaxed:.0f} ionic steps; "
        f"{found.saving:.0%} in {count} of {count} pairs in the same minimum (95 %: {low:.0%} to {high:.0%})"
    )
    asked = [text.partition(":")[0] for text in told(replace(fields, prerelaxer=AUTO))]
    assert asked == ["definet", "definet", "fields"]
    other = engine()
    other.relax_kwargs = {**other.relax_kwargs, "fmax": 0.03}
    assert told(replace(fields, engine=other)) == [unknown] * 2
    assert "at most" in told(fields, "campaign")[0]


def test_check_tells_the_stages_and_does_not_warn_of_a_domain_that_others_serve(maker):
    silver = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.09), ["Ag"], [[0, 0, 0]])
    asked = replace(maker, defects=("v_Ag",), max_defects=2, prerelaxer=AUTO, control_fraction=1.0)
    lines = preflight(asked, silver)
    assert [line.text for line in lines if line.subject == "starts"] == ["auto"]
    first, second = (line.text for line in lines if line.subject == "stage")
    assert first == "1 defect: 1 configuration, 1 with a control, 2 relaxations"
    assert second.startswith("2 defects: ")
    (domain,) = [line for line in lines if line.subject == "domain"]
    assert (domain.level, "the network proposes nothing there" in domain.text) == ("ok", True)
    alone = preflight(replace(asked, prerelaxer="definet"), silver)
    assert [line.level for line in alone if line.subject == "domain"] == ["warn"]
    assert not [line for line in alone if line.subject == "stage"]
    assert not [line for line in preflight(replace(asked, prerelaxer="fields"), silver) if line.subject == "model"]
