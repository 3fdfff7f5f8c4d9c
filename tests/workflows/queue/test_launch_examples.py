"""The files in `examples/cluster`, each loaded by what reads it in production."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fireworks import FWorker
from fireworks.utilities.fw_serializers import load_object_from_file
from jobflow.core.store import JobStore
from maggma.stores import GridFSStore, MongoStore
from monty.json import MontyDecoder
from queue_helpers import EXAMPLES, example

from definet_flows.settings import Settings
from definet_flows.workflows.queue.jobflow_remote import without_scheduler
from definet_flows.workflows.queue.routing import read_placement

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("category", ["gpu", "cpu", "light"])
def test_a_worker_takes_its_category_only(category):
    worker = FWorker.from_file(str(EXAMPLES / f"my_fworker_{category}.yaml"))
    assert worker.query["spec._category"] == category


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_queue_resources_of_a_job_replace_the_adapters(kind):
    adapter = load_object_from_file(str(EXAMPLES / f"my_qadapter_{kind}.yaml"))
    placement = read_placement(EXAMPLES / "placement.yaml")
    place = placement.predict if kind == "gpu" else placement.relax
    adapter.update(place.fireworks["_queueadapter"])
    script = adapter.get_script_str("folder")
    assert f"--partition={kind}" in script
    assert f"--time={place.queue['walltime']}" in script
    assert f"my_fworker_{kind}.yaml" in script
    assert "None" not in script


def test_the_job_store_has_trajectories_in_gridfs():
    store = JobStore.from_dict_spec(example("jobflow.yaml")["JOB_STORE"])
    assert isinstance(store.docs_store, MongoStore)
    assert isinstance(store.additional_stores["data"], GridFSStore)
    assert store.docs_store.mongoclient_kwargs["tls"]


def test_the_settings_name_a_record_store(monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(EXAMPLES / "definet_flows.yaml"))
    settings = Settings()
    store = MontyDecoder().process_decoded(settings.record_stores[settings.record_store])
    assert (store.database, store.auth_source, store.mongoclient_kwargs["tls"]) == ("definet", "definet", True)


def test_the_launchpad_encrypts():
    content = example("my_launchpad.yaml")
    assert content["mongoclient_kwargs"]["tls"]
    assert content["authsource"] == content["name"]


def test_the_remote_project_knows_every_name_of_the_placement():
    base = pytest.importorskip("jobflow_remote.config.base", reason="pip install -e '.[remote]'")
    project = base.Project.model_validate(example("jobflow_remote.yaml"))
    placement = read_placement(EXAMPLES / "placement.yaml")
    for place in (placement.predict, placement.relax, placement.light):
        assert place.worker in project.workers
        assert place.exec_config in project.exec_config


def test_resources_are_left_out_where_there_is_no_scheduler():
    base = pytest.importorskip("jobflow_remote.config.base", reason="pip install -e '.[remote]'")
    content = example("jobflow_remote.yaml")
    placement = read_placement(EXAMPLES / "placement.yaml")
    content["workers"]["cpu"]["scheduler_type"] = "shell"
    bare = without_scheduler(base.Project.model_validate(content))
    assert bare == {"cpu", "light"}
    given = placement.without_resources(bare)
    assert (given.predict, given.relax.remote) == (placement.predict, {"worker": "cpu", "exec_config": "vasp"})
    content["workers"]["gpu"]["scheduler_type"] = "shell"
    assert None in without_scheduler(base.Project.model_validate(content))
    nowhere = placement.relax.model_copy(update={"worker": None})
    placement = placement.model_copy(update={"relax": nowhere})
    assert placement.without_resources({None}).relax.resources == {}
    assert placement.without_resources(set()).relax.resources


@pytest.mark.parametrize("page", ["cluster-admin.md", "cluster-user.md"])
def test_every_file_that_a_page_names_is_there(page):
    for name in re.findall(r"examples/cluster/([\w.]+\.yaml)", (DOCS / page).read_text()):
        assert (EXAMPLES / name).is_file(), name
