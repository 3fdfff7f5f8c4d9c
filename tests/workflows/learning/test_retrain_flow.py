"""Flows with registered weights: the champion by name, found by workers, named in predictions and records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flow_helpers import CU, run, stored, write_weights
from retrain_helpers import new_cache

from definet_flows import InputError, open_store
from definet_flows.hosts import make_host
from definet_flows.schemas.models import HostTrial, Model, ModelRef, Trial
from definet_flows.settings import load_settings
from definet_flows.stores.learning.registry import promote, register
from definet_flows.stores.learning.training_set import supercell_of
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.learning.label_sets import pair_sets, read_training_set
from definet_flows.workflows.recording.cases import settings_hash_of

pytest_plugins = ["flow_fixtures"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(new_cache(tmp_path)))


@pytest.fixture
def registered(maker, tmp_path):
    """Other weights than the flow's, as champion of its settings."""
    checkpoint = write_weights(tmp_path / "other.safetensors", seed=7)
    settings = settings_hash_of(resolve_engine(maker.engine), relaxed_host=maker.relax_host)
    model = Model(
        id="emt-1234",
        settings_hash=settings,
        engine="EmtRelaxMaker",
        sha256="",
        size=0,
        recipe={},
        hosts=("Cu",),
        data_hash="",
        configurations=0,
        counts=(),
        refused=0,
        parent=None,
    )
    host = HostTrial(host="Cu", n=9, champion=0.2, challenger=0.1, nothing=0.3, p=0.01)
    against = ModelRef(name="definet-2dmd", sha256="0" * 64)
    trial = Trial(champion=against, held_out="", hosts=(host,), steps=None, passed=True, reason="", at="2026-01-01")
    with open_store("records.sqlite") as records:
        model = register(records, model, checkpoint.path.read_bytes())
        promote(records, model, trial)
    checkpoint.path.unlink()
    return model


def test_without_a_champion_a_flow_that_wants_it_is_refused(maker):
    with open_store("records.sqlite"):
        pass
    with pytest.raises(InputError, match="no champion for these settings"):
        dataclasses.replace(maker, model="champion").make(CU)


def test_a_flow_with_the_champion_names_its_weights(maker, jobs, registered):
    run(dataclasses.replace(maker, model="champion").make(CU), jobs)
    records, pairs = stored()
    assert {record.prediction.weights for record in records} == {registered.sha256}
    assert {pair.weights for pair in pairs} == {registered.sha256}


def test_a_flow_that_was_made_keeps_its_weights_when_the_champion_changes(maker, jobs, registered):
    flow = dataclasses.replace(maker, model="champion").make(CU)
    with open_store("records.sqlite") as records:
        records.store.remove_docs({"kind": "champion"})
    run(flow, jobs)
    assert {record.prediction.weights for record in stored()[0]} == {registered.sha256}


def test_weights_come_from_the_store_once_and_are_checked(registered):
    found = checkpoint_of("emt-1234", "records.sqlite")
    assert found.sha256 == registered.sha256
    assert found.path.parent == load_settings().cache_dir / "models"
    found.path.write_bytes(b"torn")
    assert checkpoint_of(registered.sha256[:8], "records.sqlite").sha256 == registered.sha256
    with open_store("records.sqlite") as records:
        records.store.remove_docs({"kind": "model"})
    assert checkpoint_of("emt-1234", "records.sqlite", registered.sha256).sha256 == registered.sha256
    with pytest.raises(InputError, match="no model 'emt-1234'"):
        checkpoint_of("emt-1234", "records.sqlite")


@pytest.mark.filterwarnings("ignore:host Cu is Cm within:UserWarning")  # a larger tolerance is not meant
def test_records_of_a_flow_become_a_training_set_on_the_host_as_given(maker, jobs):
    shifted = CU.copy()
    shifted.translate_sites([0], [0.03, 0.02, 0.035], frac_coords=False)  # so that relaxing the host moves its sites
    maker.defects = ("v_Cu",)
    run(maker.make(shifted), jobs)
    host = make_host(shifted, maker.supercell)
    records, _ = stored()
    with open_store("records.sqlite", read_only=True) as opened:
        training = read_training_set(opened, records[0].settings_hash)
        assert supercell_of(opened, records[0]) == host
    assert not training.refused
    assert len(training.entries) == len({record.configuration_id for record in records}) > 1
    (pairs,) = pair_sets(training)
    assert pairs.host == host
    by_id = {record.configuration_id: record for record in records if record.start == "unrelaxed"}
    for identity, moved in zip(pairs.ids, pairs.relaxed, strict=True):
        sites = by_id[identity].sites
        assert np.abs(sites.unrelaxed - host.cartesian).max() > 0.01
        off = (sites.relaxed - sites.unrelaxed - moved)[[marker != "2" for marker in sites.markers]]
        np.testing.assert_allclose(off, np.broadcast_to(off.mean(0), off.shape), atol=1e-5)
