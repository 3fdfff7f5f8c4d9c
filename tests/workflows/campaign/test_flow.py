"""The main flow, run: records, pairs, gate, controls, failures."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from flow_helpers import CU, FailsAlways, FailsWithNickel, documents, engine, run, stored, write_weights
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

import definet_flows
from definet_flows import open_store
from definet_flows.defects import place
from definet_flows.hosts import make_host
from definet_flows.ledger import Outcome, read_document
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.inference.predict import predict
from definet_flows.schemas import Gate, Ledger, Prediction
from definet_flows.workflows.campaign.contents import choose_controls
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.inputs import group_species
from definet_flows.workflows.recording import ends
from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine

pytest_plugins = ["flow_fixtures"]


# ------------------------------------------------------------------ the whole


def test_records_pairs_and_totals(maker, jobs, weights):
    output, relaxations = run(maker.make(CU), jobs)
    records, pairs = stored()
    assert [(r.name, r.start, r.status) for r in records] == [
        ("Ni_Cu", "predicted", "done"),
        ("Ni_Cu", "unrelaxed", "done"),
        ("v_Cu", "predicted", "done"),
        ("v_Cu", "unrelaxed", "done"),
    ]
    assert [(p.name, p.verdict, p.weights) for p in pairs] == [
        ("Ni_Cu", "same minimum", weights.sha256),
        ("v_Cu", "same minimum", weights.sha256),
    ]
    assert (output["host"], output["relaxations_run"], output["relaxations_reused"]) == ("relaxed", 4, 0)
    assert relaxations == 5
    assert output["saving"] == 1 - sum(p.steps_predicted for p in pairs) / sum(p.steps_unrelaxed for p in pairs)
    assert all(r.prediction.gate.verdict == "accepted" for r in records)
    assert len({r.settings_hash for r in records}) == 1


def test_a_record_agrees_with_its_trajectory_and_its_prediction(maker, jobs, weights):
    run(maker.make(CU), jobs)
    host = make_host(CU, (2, 2, 2))
    for record in stored()[0]:
        document = jobs.get_output(record.provenance.job_uuid, load=True)
        outcome = read_document(document)
        assert record.ledger.ionic_steps == outcome.trajectory_length
        assert Path(record.provenance.directory).is_dir()
        moved = predict(load_checkpoint(weights.path), host, [record.configuration])[0].displacements
        np.testing.assert_allclose(record.sites.predicted, record.sites.unrelaxed + moved, atol=1e-5)
        assert np.abs(moved).max() > 1e-3
        begin = record.sites.predicted if record.start == "predicted" else record.sites.unrelaxed
        given = Structure.from_dict(document["input"]["mol_or_struct"])
        rows = list(record.sites.permutation)
        np.testing.assert_allclose(given.cart_coords, begin[rows], atol=1e-5)
        np.testing.assert_allclose(_wrapped(outcome.structure, record.sites.relaxed[rows]), 0, atol=1e-5)
        placeholders = np.setdiff1d(np.arange(host.n_sites), rows)
        assert len(placeholders) == record.sites.markers.count("2")
        np.testing.assert_array_equal(record.sites.relaxed[placeholders], record.sites.unrelaxed[placeholders])
        assert np.linalg.norm(record.sites.relaxed - record.sites.unrelaxed, axis=1).max() < 1


def _wrapped(structure, coords):
    frac = structure.frac_coords - structure.lattice.get_fractional_coords(coords)
    return frac - np.rint(frac)


def test_a_second_run_relaxes_nothing(maker, jobs):
    first, relaxations = run(maker.make(CU), jobs)
    before = documents()
    second, still = run(maker.make(CU), jobs)
    assert (second["host"], second["relaxations_run"], second["relaxations_reused"]) == ("reused", 0, 4)
    assert relaxations == still
    assert second["saving"] == first["saving"]
    assert documents() == before


def test_batches_in_one_flow_and_as_flows_of_their_own(maker, jobs):
    maker.batch_size = 1
    output, relaxations = run(maker.make(CU), jobs)
    assert (output["relaxations_run"], output["savings"]["same_minimum"], relaxations) == (4, 2, 5)
    flows = maker.batches(CU)
    assert [run(flow, jobs)[0]["relaxations_reused"] for flow in flows] == [2, 2]
    maker.store = "other.jsonl"
    assert [run(flow, jobs)[0]["host"] for flow in maker.batches(CU)] == ["relaxed", "reused"]


def test_the_summary_is_logged_where_jobflow_logs(maker, jobs, caplog):
    with caplog.at_level(logging.INFO, logger="jobflow"):
        output, _ = run(maker.make(CU), jobs)
    assert output["message"].startswith("relaxations: 4 run, 0 reused; ")
    told = [entry.name for entry in caplog.records if entry.getMessage() == output["message"]]
    assert [name.split(".")[0] for name in told] == ["jobflow"]  # the logger that run_locally gives a handler


# ------------------------------------------------------------------ gate and controls


def test_an_unseen_element_is_gated_recorded_and_relaxed(maker, jobs):
    maker.defects = ("Ag_Cu",)
    output, _ = run(maker.make(CU), jobs)
    ((record,), pairs) = stored()
    assert (record.start, record.status, pairs) == ("unrelaxed", "done", [])
    gate = record.prediction.gate
    assert (gate.verdict, gate.in_domain) == ("rejected", False)
    assert "Ag never seen" in gate.reason
    assert record.sites.predicted is not None
    assert (output["saving"], output["savings"]["gated"]) == (None, 1)


def test_an_unseen_host_is_gated_unless_allowed(maker, jobs, workplace):
    silver = Structure.from_spacegroup("Im-3m", Lattice.cubic(3.3), ["Cu"], [[0, 0, 0]])
    maker.model = str(write_weights(workplace / "other.safetensors", silver).path)
    maker.defects = ("v_Cu",)
    output, _ = run(maker.make(CU), jobs)
    assert "1 were gated out" in output["message"]
    assert "control fraction" not in output["message"]  # it is 1
    ((record,), _) = stored()
    assert (record.start, record.prediction.gate.in_domain) == ("unrelaxed", False)
    maker.allow_unseen_host = True
    output, _ = run(maker.make(CU), jobs)
    assert (output["relaxations_run"], output["relaxations_reused"]) == (1, 1)
    assert [r.start for r in stored()[0]] == ["predicted", "unrelaxed"]


def test_without_controls_only_predictions_are_relaxed(maker, jobs):
    maker.control_fraction = 0
    output, _ = run(maker.make(CU), jobs)
    assert [r.start for r in stored()[0]] == ["predicted", "predicted"]
    assert "raise the control fraction" in output["message"]


@given(st.sets(st.text("0123456789abcdef", min_size=32, max_size=32), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_controls_depend_on_nothing_but_the_configuration(ids, one, two):
    low, high = sorted((one, two))
    fewer, more = choose_controls(sorted(ids), low), choose_controls(sorted(ids, reverse=True), high)
    assert fewer <= more <= ids
    assert choose_controls(list(ids), 1) == ids
    assert choose_controls(list(ids), 0) == frozenset()
    assert bool(fewer) == (low > 0)


def test_the_control_fraction_is_kept():
    ids = [definet_flows.schemas.content_hash(k) for k in range(2000)]
    assert len(choose_controls(ids, 0.3)) == pytest.approx(600, abs=60)
    grown = choose_controls(ids, 0.3) & set(ids[:500])
    assert choose_controls(ids[:500], 0.3) == grown


# ------------------------------------------------------------------ the base


@pytest.mark.filterwarnings("ignore:host Cu is Pm within:UserWarning")  # a larger tolerance is not meant
def test_defects_are_placed_on_the_relaxed_host(maker, jobs, workplace):
    strained = CU.copy()
    strained.translate_sites([0], [0.03, 0.01, 0], frac_coords=True)
    maker.supercell, maker.defects = (1, 1, 1), ("v_Cu@0",)
    maker.model = str(write_weights(workplace / "strained.safetensors", strained).path)
    maker.supercell = (2, 2, 1)
    run(maker.make(strained), jobs)
    maker.relax_host = False
    output, _ = run(maker.make(strained), jobs)
    assert (output["host"], output["relaxations_reused"]) == ("as given", 0)
    records, _ = stored()
    host = make_host(strained, (2, 2, 1))
    assert {r.configuration_id for r in records} == {records[0].configuration_id}
    bases = {r.settings_hash: r.sites.unrelaxed for r in records}
    assert len(bases) == 2
    moved = {key: np.abs(base - host.cartesian).max() for key, base in bases.items()}
    relaxed_hash = resolve_engine(maker.engine).settings_hash
    assert moved.pop(relaxed_hash) > 0.05
    assert next(iter(moved.values())) < 1e-6


def test_a_host_that_fails_costs_no_relaxation(maker, jobs):
    maker.engine = engine(FailsAlways)
    output, _ = run(maker.make(CU), jobs)
    assert (output["host"], output["relaxations_run"]) == (None, 0)
    assert not Path("records.sqlite").exists() or stored() == ([], [])


# ------------------------------------------------------------------ failures


def test_a_failed_relaxation_is_a_failed_record_and_the_rest_goes_on(maker, jobs):
    maker.engine = engine(FailsWithNickel)
    output, _ = run(maker.make(CU), jobs)
    records, pairs = stored()
    assert [(r.name, r.status) for r in records] == [("Ni_Cu", "failed")] * 2 + [("v_Cu", "done")] * 2
    assert [r.error for r in records[:2]] == ["RuntimeError: no nickel today"] * 2
    assert [p.name for p in pairs] == ["v_Cu"]
    assert (output["relaxations_run"], output["savings"]["failed"]) == (4, 2)
    again, _ = run(maker.make(CU), jobs)
    assert (again["relaxations_run"], again["relaxations_reused"]) == (2, 2)


def test_a_failed_prediction_costs_no_relaxation(maker, jobs, weights):
    flow = maker.make(CU)
    write_weights(weights.path, seed=1)  # not the weights that the flow names
    output, _ = run(flow, jobs)
    records, _ = stored()
    assert [(r.start, r.status) for r in records] == [("unrelaxed", "done")] * 2
    assert {r.prediction.gate.reason for r in records} == {"no prediction: the prediction job failed"}
    assert {r.prediction.weights for r in records} == {weights.sha256}
    assert output["savings"]["gated"] == 2


def test_a_prediction_that_failed_is_asked_again_and_the_others_are_not(maker, jobs, weights, monkeypatch):
    run(maker.make(CU), jobs)
    host = make_host(CU, (2, 2, 2))
    with open_store("records.sqlite") as records:
        old = [records.prediction(p["id"]) for p in records.store.query({"kind": "prediction"})]
        lost = next(p for p in old if p.configuration_id == place(host, ["v_Cu@0"]).id_in(host.hash))
        records.put(lost.model_copy(update={"displacements": None, "error": "out of memory"}))
    asked = []
    monkeypatch.setattr(
        "definet_flows.model.inference.predict.predict",
        lambda ck, of, some, **given: (asked.extend(c.name for c in some), predict(ck, of, some, **given))[1],
    )
    run(maker.make(CU), jobs)
    assert asked == ["v_Cu"]
    assert weights.sha256 == lost.weights


# ------------------------------------------------------------------ rows


def case(configuration, host, kind="vasp"):
    pristine = Pristine(host=host, base=host.cartesian, source="relaxed")
    moved = np.random.default_rng(0).normal(scale=0.1, size=(host.n_sites, 3))
    prediction = Prediction(
        id="p",
        configuration_id="c",
        weights="w",
        base=pristine.base_hash,
        displacements=moved,
        gate=Gate(verdict="flagged"),
        seconds=0.1,
        device="cpu",
    )
    return PlannedConfiguration(pristine, configuration, resolve_engine(kind), "w", prediction)


def test_rows_survive_an_engine_that_groups_species(monkeypatch):
    host = make_host("MoS2", (3, 3, 1))
    one = case(place(host, ["v_Mo@1", "W_Mo@4", "Se_S@12"]), host)
    assert one.starts(control=False) == ("predicted",)
    record = one.running("predicted", "uuid")
    end = group_species(one.structure("predicted"))
    assert list(record.sites.permutation) != sorted(record.sites.permutation)
    end.translate_sites(range(0, len(end), 2), [1, 0, -1], to_unit_cell=False)  # other images of the same atoms
    outcome = Outcome(
        structure=end, ledger=Ledger(ionic_steps=1, converged=True, force_criterion=1), trajectory_length=1
    )
    monkeypatch.setattr(ends, "read_document", lambda *_: outcome)
    done = ends.finished(record, {"dir_name": "node7:/scratch/run"})
    expected = one.predicted.copy()
    expected[1] = one.unrelaxed[1]
    np.testing.assert_allclose(done.sites.relaxed, expected, atol=1e-9)
    assert (done.status, done.provenance.hostname, done.provenance.directory) == ("done", "node7", "/scratch/run")
    shuffled = Structure.from_sites(end[::-1])
    monkeypatch.setattr(ends, "read_document", lambda *_: Outcome(shuffled, outcome.ledger, 1))
    failed = ends.finished(record, {})
    assert (failed.status, failed.sites.relaxed, failed.ledger) == ("failed", None, outcome.ledger)
    assert "in its own order" in failed.error


def test_both_arms_carry_the_marks_of_the_unrelaxed_structure():
    host = make_host("MoS2", (3, 3, 1))
    one = case(place(host, ["v_S@9"]), host)
    starts = [one.structure(start) for start in ("unrelaxed", "predicted")]
    assert starts[0].site_properties == starts[1].site_properties
    assert sum(starts[0].site_properties["near_defect"]) == 3
    assert starts[0].properties == starts[1].properties
