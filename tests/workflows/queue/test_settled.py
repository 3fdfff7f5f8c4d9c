"""Configurations that a campaign leaves out; to find them takes a number of queries that does not grow."""

from __future__ import annotations

import pytest
from store_fixtures import SETTINGS, WEIGHTS, prediction, record

from definet_flows import open_store
from definet_flows.stores import update_pairs
from definet_flows.workflows.queue.progress import settled_in

IDS = tuple(letter * 32 for letter in "abcdef")
CONTROLS = ("a" * 32, "b" * 32)


def arm(letter, start, status="done", **more):
    return record(start, configuration_id=letter * 32, status=status, **more)


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    with open_store(str(tmp_path / "records.sqlite")) as opened:
        opened.put(
            *(prediction(letter * 32) for letter in "abcf"),
            arm("a", "unrelaxed"),
            arm("a", "predicted"),
            arm("b", "predicted"),  # a control: the other start is missing
            arm("c", "predicted", "running"),
            arm("d", "unrelaxed", gated=True),  # to be judged again
            arm("e", "predicted", "failed"),
            arm("f", "predicted"),
        )
        yield opened


def settled(records, ids=IDS):
    return settled_in(records, ids, CONTROLS, SETTINGS, (WEIGHTS,))


def test_only_what_is_complete_is_left_out_with_its_relaxations(records):
    assert settled(records) == {"f" * 32: 1}  # a run that was killed before the pair of `a` left none
    update_pairs(records, "a" * 32, SETTINGS, images=lambda _: None)
    assert settled(records) == {"a" * 32: 2, "f" * 32: 1}


def test_a_pair_that_another_campaign_makes_possible_is_missing_too(records):
    records.put(arm("f", "unrelaxed"))
    assert settled(records) == {}


def test_the_number_of_queries_does_not_grow_with_the_campaign(records, monkeypatch):
    asked, read = [], []
    query, document = type(records.store).query, type(records.store).document
    monkeypatch.setattr(type(records.store), "query", lambda *given: asked.append(given) or query(*given))
    monkeypatch.setattr(
        type(records.store), "document", lambda store, *given, **more: read.append(1) or document(store, *given, **more)
    )
    settled(records)
    first = len(asked), len(read)
    more, done = [f"{k:032x}" for k in range(300)], arm("e", "predicted")
    records.put(*(done.model_copy(update={"id": name, "configuration_id": name}) for name in more))
    asked.clear()
    read.clear()
    assert len(settled(records, (*IDS, *more))) == len(more) + 1
    assert (len(asked), len(read)) == first
