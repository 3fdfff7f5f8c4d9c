"""A record store is named by a maggma Store, a path or a name, in each function that takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from flow_helpers import run
from maggma.stores import JSONStore, MemoryStore
from monty.json import MontyDecoder, MontyEncoder

from definet_flows import (
    DefectFlowMaker,
    InputError,
    RetrainMaker,
    checkpoint_of,
    defect_flow,
    gather,
    open_store,
    pair_frame,
    record_frame,
    savings,
)
from definet_flows.stores import SqliteStore
from definet_flows.stores.opening import name_of
from standins.copper import CU

pytest_plugins = ["flow_fixtures"]


@pytest.fixture(autouse=True)
def settings(workplace, tmp_path, monkeypatch):  # noqa: ARG001 - after it, which sets settings of its own
    """Settings with a record store in SQLite, and one in a JSON file."""
    path = tmp_path / "settings.yaml"
    json_file = {"@module": "maggma.stores", "@class": "JSONStore", "paths": [str(tmp_path / "second.json")]}
    specs = {
        "first": {**SqliteStore(str(tmp_path / "first.sqlite")).as_dict()},
        "second": {**json_file, "read_only": False, "key": "id"},
    }
    path.write_text(yaml.safe_dump({"record_stores": specs}))
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(path))
    return specs


@pytest.fixture(params=["object", "path", "name", "SQLite object"])
def store(request, tmp_path):
    """A record store as a user may name it."""
    file = tmp_path / "mine.sqlite"
    kinds = {"object": MemoryStore, "path": lambda: file, "name": lambda: "first"}
    return kinds.get(request.param, lambda: SqliteStore(str(file)))()


def test_a_campaign_and_every_reader_take_it(maker, jobs, store, weights):
    flow = defect_flow(
        CU,
        supercell=(2, 2, 2),
        defects=("v_Cu",),
        engine=maker.engine,
        model=str(weights.path),
        allow_unseen_host=True,
        control_fraction=1.0,
        store=store,
    )
    run(flow, jobs)
    assert list(record_frame(store)["start"]) == ["predicted", "unrelaxed"]
    assert len(pair_frame(store)) == savings(store).pairs == gather(store).total().pairs == 1
    with open_store(store, read_only=True) as records:
        assert len(record_frame(records)) == savings(records).pairs + 1
        assert records.store.query_one({"kind": "record"}) is not None
    assert len(record_frame(store)) == 2
    assert not Path("records.sqlite").exists()


def test_makers_keep_a_name(store):
    for made in (DefectFlowMaker(store=store), RetrainMaker(store=store)):
        assert isinstance(made.store, str)
        assert MontyDecoder().decode(MontyEncoder().encode(made)).store == made.store
    assert "password" not in MontyEncoder().encode(DefectFlowMaker(store=store))
    with pytest.raises(InputError, match="no model 'nobody'"):
        checkpoint_of("nobody", store)


def test_an_object_of_the_settings_goes_by_its_name_there(settings):
    given = JSONStore(settings["second"]["paths"], read_only=False, key="id")
    assert name_of(given) == "second"
    other = JSONStore(["other.json"], read_only=False, key="id")
    assert name_of(other) == name_of(other) != "second"


def test_an_object_of_another_process_is_refused_in_one_line():
    with pytest.raises(InputError, match="is an object of another process: name it under record_stores"):
        open_store("given as an object: MongoStore 7")


def test_what_is_no_store_is_refused():
    with pytest.raises(InputError, match=r"store=42: give the name of a record store"):
        defect_flow(CU, defects=("v_Cu",), store=42)


def test_a_path_that_is_no_store_is_refused_before_a_job_runs():
    with pytest.raises(InputError, match=r"store='records\.csv': the path of a record store ends in \.sqlite"):
        defect_flow(CU, defects=("v_Cu",), store=Path("records.csv"))
