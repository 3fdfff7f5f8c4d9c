"""A second network on a campaign that a first network has relaxed: what it gates out is done, and is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flow_helpers import CU, run, write_weights

from definet_flows import open_store
from definet_flows.schemas import Gate, Prediction
from definet_flows.starts import gate
from definet_flows.stores import Filter, counts, starts_rows
from definet_flows.workflows.queue.plan import enlist, look_up, make_plan, missing_flows
from definet_flows.workflows.queue.status import statuses

pytest_plugins = ["flow_fixtures"]

ACCEPT = Gate(verdict="accepted")


@pytest.fixture
def networks(maker, workplace):
    """The same campaign by two networks."""
    second = write_weights(workplace / "second.safetensors", seed=1)
    return maker, replace(maker, model=str(second.path))


@pytest.fixture
def gated(monkeypatch):
    """Sets which defects each weights gate out."""

    def gating(refused):
        def judge(checkpoint, _, configuration, *__, **___):
            if (checkpoint.sha256, configuration.name) not in refused:
                return ACCEPT
            return Gate(verdict="rejected", reason=f"no trust of {checkpoint.sha256[:4]}")

        monkeypatch.setattr(gate, "judge", judge)

    return gating


def shas(networks):
    return [one.campaign(CU).weights for one in networks]


def left(maker):
    """Names of the configurations that a launch would add, and of those that are done."""
    plan = make_plan(maker, CU)
    with open_store(maker.store) as records:
        begun = look_up(plan, records).progress.begun
    parts = [part for part, _ in missing_flows(plan, begun)]
    return sorted(one.name for part in parts for one in part.configurations)


def test_gated_again_by_a_second_network(networks, jobs, gated):
    first, second = networks
    w1, w2 = shas(networks)
    gated({(w1, "v_Cu"), (w2, "v_Cu")})
    before, _ = run(first.make(CU), jobs)
    assert (before["savings"]["gated"], left(first)) == (1, [])
    assert left(second) == ["Ni_Cu", "v_Cu"]
    enlist(make_plan(second, CU), "fireworks")
    after, relaxed = run(second.make(CU), jobs)
    assert (after["relaxations_run"], after["relaxations_reused"]) == (1, 2)
    assert after["savings"]["gated"] == 1
    assert after["savings"]["campaign"] < after["saving"] or after["saving"] <= 0
    assert left(second) == []
    with open_store(second.store, read_only=True) as records:
        (status,) = statuses(records)
        rows = {row.name: row for row in starts_rows(records, Filter(weights=w2))}
        assert counts(records, Filter(weights=w2)).gated == 1
    assert (status.recorded, status.ended) == (2, True)
    assert (rows["v_Cu"].gate, rows["v_Cu"].reason) == ("rejected", f"no trust of {w2[:4]}")
    again, same = run(second.make(CU), jobs)
    assert (again["relaxations_run"], same) == (0, relaxed)


def test_gated_by_the_first_only(networks, jobs, gated):
    first, second = networks
    w1, w2 = shas(networks)
    gated({(w1, "v_Cu")})
    run(first.make(CU), jobs)
    done, _ = run(second.make(CU), jobs)
    assert (done["savings"]["gated"], left(first), left(second)) == (0, [], [])
    with open_store(second.store, read_only=True) as records:
        gates = {one: starts_rows(records, Filter(name="v_Cu", weights=one))[0].gate for one in (w1, w2)}
    assert gates == {w1: "rejected", w2: "accepted"}


def test_gated_by_the_second_only(networks, jobs, gated):
    first, second = networks
    gated({(shas(networks)[1], "v_Cu")})
    found = [run(one.make(CU), jobs)[0]["savings"]["gated"] for one in networks]
    assert (found, left(first), left(second)) == ([0, 1], [], [])


@pytest.mark.parametrize("relax_host", [True, False])
def test_a_prediction_job_that_failed_is_a_verdict_of_its_weights(networks, jobs, gated, relax_host):
    """Configurations whose relaxation is shared are then done for the second network too."""
    first, second = (replace(one, relax_host=relax_host) for one in networks)
    w1, w2 = shas(networks)
    gated({(w1, "v_Cu"), (w1, "Ni_Cu")})
    run(first.make(CU), jobs)
    flow = second.make(CU)
    path = Path(second.model)
    kept = path.read_bytes()
    write_weights(path, seed=7)  # not the weights that the flow names
    lost, _ = run(flow, jobs)
    assert lost["savings"]["gated"] == 2
    path.write_bytes(kept)
    assert left(second) == []
    with open_store(second.store, read_only=True) as records:
        stored = [one for one in records.find(Prediction) if one.weights == w2]
    assert [(one.gate.verdict, one.displacements, one.error) for one in stored] == [
        ("rejected", None, "the prediction job failed")
    ] * 2
    run(second.make(CU), jobs)  # asked again
    with open_store(second.store, read_only=True) as records:
        assert all(one.gate.verdict == "accepted" for one in records.find(Prediction) if one.weights == w2)
