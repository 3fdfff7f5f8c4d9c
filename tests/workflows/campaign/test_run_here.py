"""A flow on this machine: it keeps nothing of the jobs that have run, and begins nothing that is recorded."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from flow_helpers import CU, FailsAlways, FailsWithNickel, engine
from jobflow import JobStore, OutputReference, run_locally
from pymatgen.core import Structure

from definet_flows import open_store
from definet_flows.workflows.campaign import local
from definet_flows.workflows.campaign.local import folder_store, run_here
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.queue.progress import settled_in
from definet_flows.workflows.recording.cases import settings_hash_of

pytest_plugins = ["flow_fixtures"]


def told(flow, folder):
    heard = []
    output = run_here(flow, folder, lambda event, name: heard.append((event, name)))
    return output, heard


def settled(maker, campaign):
    settings = settings_hash_of(resolve_engine(maker.engine), relaxed_host=maker.relax_host)
    with open_store(maker.store) as records:
        return settled_in(records, campaign.ids, campaign.controls, settings, campaign.keys)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_job_is_let_go_when_it_has_run(maker, workplace, monkeypatch, batch_size):
    """Responses and resolved inputs are some megabytes for each relaxation."""
    calls = []

    def counted(flow, **given):
        responses = run_locally(flow, **given)
        calls.append(len(responses))
        return responses

    monkeypatch.setattr(local, "run_locally", counted)
    flow = replace(maker, batch_size=batch_size).make(CU)
    jobs = [job for job, _ in flow.iterflow()]
    output, _ = told(flow, workplace / "run")
    assert output["relaxations_run"] == 4
    # the most: two relaxations of a configuration, their records, the job that begins them and the job that joins them
    assert max(calls) <= 6
    assert not any(job.function_args or job.function_kwargs for job in jobs)


def test_a_second_run_begins_nothing_that_is_recorded(maker, workplace):
    first, _ = told(maker.make(CU), workplace / "run")
    campaign = maker.campaign(CU)
    known = settled(maker, campaign)
    assert set(known) == set(campaign.ids)
    again, heard = told(maker.assemble(campaign, known), workplace / "run")
    assert [name for event, name in heard if event == "Starting"] == ["host Cu", "totals"]
    assert (again["relaxations_run"], again["relaxations_reused"]) == (0, 4)
    assert again["savings"] == first["savings"]


def test_what_is_missing_is_run_beside_what_is_recorded(maker, workplace):
    one = replace(maker, defects=("v_Cu",))
    told(one.make(CU), workplace / "run")
    campaign = maker.campaign(CU)
    output, heard = told(maker.assemble(campaign, settled(maker, campaign)), workplace / "run")
    begun = [name for event, name in heard if event == "Starting" and name.startswith("relax ")]
    assert begun == ["relax Ni_Cu"]
    assert (output["relaxations_run"], output["relaxations_reused"]) == (2, 2)


def test_a_batch_relaxes_before_the_next_predicts(maker, workplace):
    _, heard = told(replace(maker, batch_size=1).make(CU), workplace / "run")
    begun = [name.split()[0] for event, name in heard if event == "Starting" and not name.startswith("store_inputs")]
    assert begun[0] == "host"
    assert begun[-1] == begun[-2] == "totals"
    batches = " ".join(begun[1:-1]).split("predict")[1:]
    assert len(batches) == 2
    assert all(batch.split()[0] == "relax" and batch.split()[-1] == "totals" for batch in batches)
    assert [batch.split().count("record") for batch in batches] == [2, 2]


def test_an_output_without_references_is_what_jobflow_reads(workplace):
    store = folder_store(workplace / "jobs")
    store.connect()
    atoms = Structure(np.eye(3) * 4.0, ["Cu"], [[0.1, 0.2, 0.3]])
    outputs = {"a": {"atoms": atoms, "rows": [[1.5, 2.5]], "none": None}, "b": [3]}
    for uuid, output in outputs.items():
        store.update({"uuid": uuid, "index": 1, "output": output, "metadata": {}, "hosts": []})
    store.update({"uuid": "c", "index": 1, "output": {"deep": [OutputReference("b")]}, "metadata": {}, "hosts": []})
    plain = JobStore(store.docs_store, store.additional_stores)
    for uuid in ("a", "b", "c"):
        assert store.get_output(uuid) == plain.get_output(uuid)
    assert store.get_output("c") == {"deep": [[3]]}
    assert OutputReference("a").resolve(store)["atoms"] == atoms
    with pytest.raises(ValueError, match="no outputs"):
        store.get_output("d")


@pytest.mark.parametrize("kind", [FailsAlways, FailsWithNickel])
def test_jobs_run_and_fail_as_jobflow_has_it(maker, workplace, monkeypatch, kind):
    flow = replace(maker, engine=engine(kind), batch_size=1).make(CU)
    output, heard = told(flow, workplace / "run")
    with monkeypatch.context() as patch:
        patch.setattr(local, "_run", lambda flow, store, folder: run_locally(flow, False, store, True, folder))
        other = replace(maker, engine=engine(kind), batch_size=1, store=str(workplace / "other.sqlite")).make(CU)
        expected = told(other, workplace / "other")
    assert sorted(_without_ids(heard)) == sorted(_without_ids(expected[1]))  # jobflow predicts all batches first
    assert output["message"] == expected[0]["message"]


def _without_ids(heard):
    return [(event, re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "", name)) for event, name in heard]


def test_potcars_that_a_dry_run_does_not_need_are_not_warned_of(maker, workplace, monkeypatch):
    text = "No POTCAR file with matching TITEL fields was found in\n"
    monkeypatch.setattr(local, "_run", lambda *_: warnings.warn(text, stacklevel=1))
    assert told(maker.make(CU), workplace / "run") == (None, [])
