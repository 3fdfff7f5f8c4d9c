"""The gate's verdict belongs to the weights that gave it: one join of shared relaxations and predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from maggma.stores import MemoryStore
from store_fixtures import SETTINGS, host, prediction, record, relaxed_host
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.report.cases import find_cases
from definet_flows.report.explain import explain
from definet_flows.report.reading import read_contents
from definet_flows.schemas import AUTO, Gate, Prediction, RelaxedHost, base_hash
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.stores import (
    Filter,
    JournalStore,
    Records,
    counts,
    counts_by,
    savings,
    savings_by,
    starts_rows,
    update_pairs,
)
from definet_flows.stores.export.entries import finished
from definet_flows.stores.export.tables import record_frame
from definet_flows.workflows.queue.status import statuses

pytest_plugins = ["mongo_server"]

W1, W2 = "1" * 64, "2" * 64
BASE = base_hash(host().cartesian)
A, G = "a" * 32, "9" * 32


@pytest.fixture(params=["memory", "journal", pytest.param("mongo", marks=pytest.mark.mongo)])
def records(request, tmp_path):
    if request.param == "mongo":
        store = request.getfixturevalue("mongo_server").store()
    elif request.param == "journal":
        store = JournalStore(str(tmp_path / "records.jsonl"))
    else:
        store = MemoryStore(key="id")
    with Records(store) as opened:
        yield opened


def said(configuration_id, weights, verdict, *, base=BASE, move=0.01):
    gate = Gate(verdict=verdict, reason=f"{verdict} by {weights[0]}", in_domain=verdict != "rejected")
    changes = {
        "id": Prediction.identity(configuration_id, weights, base),
        "weights": weights,
        "base": base,
        "gate": gate,
        "displacements": np.full((27, 3), move),
    }
    return prediction(configuration_id).model_copy(update=changes)


def test_what_auto_found_no_start_for_counts_under_auto(records):
    records.put(record(configuration_id=G, steps=40), said(G, AUTO, "rejected"), said(A, W1, "rejected"))
    records.put(record(configuration_id=A, steps=40))
    assert {name: group.gated for name, group in savings_by(records, "prerelaxer").items()} == {"auto": 1, "definet": 1}
    assert {name: group.gated for name, group in counts_by(records, "prerelaxer").items()} == {"auto": 1, "definet": 1}


def launched(records, weights, ids=(A, G), controls=(A,)):
    """The status of a campaign by these weights."""
    identity = LaunchedCampaign.identity(ids, controls, SETTINGS, weights)
    one = LaunchedCampaign(
        id=identity,
        name="x",
        engine="sevennet",
        settings_hash=SETTINGS,
        weights=weights,
        configuration_ids=ids,
        controls=controls,
        launched="2026-01-01T00:00:00+00:00",
        queue="fireworks",
    )
    records.put(one)
    return next(status for status in statuses(records) if status.campaign == identity)


def gated_twice(records, *, stored=True):
    """A pair (40 steps, 10 from the prediction of either weights) and a configuration that both weights gate."""
    records.put(record(configuration_id=A, steps=40, weights=W1))
    for weights in (W1, W2):
        records.put(record("predicted", configuration_id=A, steps=10, weights=weights))
        if stored:
            records.put(said(A, weights, "accepted"), said(G, weights, "rejected"))
    update_pairs(records, A, SETTINGS)
    records.put(record(configuration_id=G, steps=40, gated=True, weights=W1))


@pytest.mark.parametrize("weights", [W1, W2])
def test_gated_by_two_networks_is_gated_by_each(records, weights):
    gated_twice(records)
    found = savings(records, Filter(weights=weights, configuration_ids=(A, G)))
    assert (found.gated, found.saving) == (1, pytest.approx(0.75))
    assert found.campaign == pytest.approx(0.375)
    assert savings_by(records, "weights")[weights] == savings(records, Filter(weights=weights))
    counted = counts(records, Filter(weights=weights))
    assert (counted.relaxations, counted.gated, counted.configurations) == (3, 1, 2)
    assert counts_by(records, "weights")[weights] == counted
    status = launched(records, weights)
    assert (status.recorded, status.ended) == (2, True)
    rows = {row.configuration_id: row for row in starts_rows(records, Filter(weights=weights))}
    assert (rows[G].gate, rows[G].reason) == ("rejected", f"rejected by {weights[0]}")
    assert (rows[A].steps_unrelaxed, rows[A].steps_predicted, rows[A].verdict) == (40, 10, "same minimum")


def test_without_weights_asked_for_it_is_gated_once(records):
    gated_twice(records)
    assert (savings(records).gated, counts(records).gated) == (1, 1)
    assert savings(records, Filter(name="v_S")).campaign == pytest.approx(0.375)


def test_the_note_counts_for_its_own_weights_where_no_prediction_is_stored(records):
    gated_twice(records, stored=False)
    assert savings(records, Filter(weights=W1)).campaign == pytest.approx(0.375)
    assert (savings(records, Filter(weights=W2)).gated, savings(records).gated) == (0, 1)
    assert launched(records, W1).ended
    assert not launched(records, W2).ended


def test_gated_by_the_first_and_accepted_by_the_second(records):
    records.put(
        record(configuration_id=G, steps=40, gated=True, weights=W1), said(G, W1, "rejected"), said(G, W2, "accepted")
    )
    assert launched(records, W1, (G,), ()).recorded == 1
    assert launched(records, W2, (G,), ()).recorded == 0
    assert [savings(records, Filter(weights=one)).gated for one in (W1, W2)] == [1, 0]
    assert savings(records).gated == 0  # the second network's relaxation is yet to come
    records.put(record("predicted", configuration_id=G, steps=10, weights=W2))
    update_pairs(records, G, SETTINGS)
    assert launched(records, W2, (G,), ()).recorded == 1
    assert savings(records, Filter(weights=W1)).gated == 1
    assert savings(records, Filter(weights=W2)).saving == pytest.approx(0.75)
    assert savings(records).gated == 0


def test_accepted_by_the_first_and_gated_by_the_second(records):
    gated_twice(records)
    records.put(said(A, W2, "rejected"))
    records.store.remove_docs({"id": record("predicted", configuration_id=A, weights=W2).id})
    records.store.remove_docs({"kind": "pair", "weights": W2})
    records.rebuild_pages()
    assert [savings(records, Filter(weights=one)).gated for one in (W1, W2)] == [1, 2]
    assert savings(records).gated == 1
    assert launched(records, W2).recorded == 2
    assert counts(records, Filter(weights=W2)).gated == 2


def test_what_another_campaign_runs_is_none_of_this_ones(records):
    """The first network's relaxation from the unrelaxed start failed; the second network does not want it."""
    records.put(record(configuration_id=G, status="failed", gated=True, weights=W1), said(G, W2, "accepted"))
    assert launched(records, W2, (G,), ()).failed == 0
    records.put(record("predicted", configuration_id=G, weights=W2))
    assert launched(records, W2, (G,), ()).recorded == 1
    assert launched(records, W1, (G,), ()).failed == 1


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_verdict_on_another_base_is_not_taken(records, relaxed):
    moved = host().cartesian + 0.002
    if relaxed:
        records.put(RelaxedHost(**{**relaxed_host().model_dump(), "relaxed": moved}))
    bases = (base_hash(moved), BASE) if relaxed else (BASE, base_hash(moved))
    records.put(record(configuration_id=G, steps=40, weights=W1, gated=True))
    records.put(said(G, W2, "rejected", base=bases[0]), said(G, W2, "accepted", base=bases[1]))
    assert savings(records, Filter(weights=W2)).gated == 1
    assert launched(records, W2, (G,), ()).recorded == 1
    records.put(said(G, W2, "accepted", base=bases[0]), said(G, W2, "rejected", base=bases[1]))
    assert savings(records, Filter(weights=W2)).gated == 0
    assert launched(records, W2, (G,), ()).recorded == 0


def test_two_engines_are_two_rows(records):
    gated_twice(records)
    other = "6" * 32
    second = record(configuration_id=A, steps=33, weights=W1)
    records.put(second.model_copy(update={"id": "x", "settings_hash": other, "engine": "vasp"}))
    rows = [row for row in starts_rows(records, Filter(weights=W2)) if row.configuration_id == A]
    assert [(row.engine, row.settings_hash, row.steps_unrelaxed, row.steps_predicted) for row in rows] == [
        ("sevennet", SETTINGS, 40, 10),
        ("vasp", other, 33, None),
    ]
    assert (rows[0].verdict, rows[1].verdict) == ("same minimum", None)


def test_each_weights_have_a_row_where_none_are_asked_for(records):
    gated_twice(records)
    rows = starts_rows(records, Filter())
    assert [(row.configuration_id, row.weights, row.gate) for row in rows] == [
        (G, W1, "rejected"),
        (G, W2, "rejected"),
        (A, W1, "accepted"),
        (A, W2, "accepted"),
    ]
    table = {row.key: (row.gate, row.outcome, row.reason) for row in read_contents(records, "x").rows}
    assert table[G, SETTINGS, W2] == ("rejected", "gated out", "rejected by 2")
    assert table[A, SETTINGS, W2][:2] == ("accepted", "same minimum")


def test_exports_of_weights_hold_what_they_share(records):
    gated_twice(records)
    where = Filter(weights=W2)
    frame = record_frame(records, where)
    assert sorted(zip(frame.configuration_id, frame.start, frame.weights, frame.gate, strict=True)) == [
        (G, "unrelaxed", W2, "rejected"),
        (A, "predicted", W2, "accepted"),
        (A, "unrelaxed", W2, "accepted"),
    ]
    assert sorted((one.configuration_id, one.start) for one in finished(records, where)) == [
        (G, "unrelaxed"),
        (A, "predicted"),
        (A, "unrelaxed"),
    ]


def test_explained_with_what_the_weights_of_the_case_said(records):
    gated_twice(records)
    records.put(said(G, W2, "rejected", move=0.5))
    second = explain(find_cases(records, G)[1])
    told = dict(second.paragraphs)
    assert told["gate"].startswith("rejected: rejected by 2; outside")
    assert "weights 22222222" in told["network"]
    assert "by 0.866 Å" in told["network"]  # not what the first network moved, which the record holds


def test_the_command_line_says_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    path = str(tmp_path / "records.jsonl")
    with Records(JournalStore(path)) as opened:
        gated_twice(opened)
        launched(opened, W2)
    run = CliRunner().invoke
    found = json.loads(run(app, ["savings", "--store", path, "--where", f"weights={W2}", "--json"]).stdout)
    assert (found["total"]["gated"], found["total"]["campaign"]) == (1, pytest.approx(0.375))
    assert run(app, ["status", "--store", path, "--watch"]).exit_code == 0
    by = json.loads(run(app, ["records", "--store", path, "--by", "weights", "--json"]).stdout)["by"]
    assert {weights: group["gated"] for weights, group in by.items()} == {W1: 1, W2: 1}
