"""Folds of few labels: each held out once, whole motifs, every host spread."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from retrain_helpers import configurations, record

from definet_flows.schemas import Gate
from definet_flows.stores import open_store
from definet_flows.stores.learning.folds import FOLDS, LEAST_LABELS, can_be_folded, folded, with_validation
from definet_flows.stores.learning.training_set import training_set
from definet_flows.workflows.learning.judging import judging


@pytest.fixture
def labels(tmp_path):
    """Return the training set of the first n configurations."""

    def of(n):
        with open_store(tmp_path / f"{n}.sqlite") as records:
            records.put(*map(record, configurations()[:n]))
            settings = record(configurations()[0]).settings_hash
            return training_set(records, settings, lambda *_: Gate(verdict="accepted", reason="", in_domain=True))

    return of


def test_each_label_is_held_out_once_and_never_learned_from_then(labels):
    training = labels(30)
    parts = list(folded(training))
    assert len(parts) == FOLDS
    held_out = Counter(entry.configuration_id for part in parts for entry in part.of_split("test"))
    assert held_out == dict.fromkeys((entry.configuration_id for entry in training.entries), 1)
    for part in parts:
        splits = [{entry.motif for entry in part.of_split(split)} for split in ("train", "val", "test")]
        assert all(splits)
        assert len(set.union(*splits)) == sum(map(len, splits))
        assert len(part.entries) == 30
    sizes = [len(part.of_split("test")) for part in parts]
    assert min(sizes) >= 3  # motifs with several configurations stay together


def test_where_nothing_chooses_the_epoch_part_of_what_is_learned_does(labels):
    training = labels(30)
    assert with_validation(training) is training or training.of_split("val") == ()
    entries = tuple(entry for entry in training.entries if entry.split != "val")
    bare = type(training)(**{**vars(training), "entries": entries})
    given = with_validation(bare)
    assert given.of_split("test") == bare.of_split("test")
    assert given.of_split("val")
    assert len(given.of_split("val")) + len(given.of_split("train")) == len(bare.of_split("train"))


def test_what_is_enough():
    assert can_be_folded(map(str, range(LEAST_LABELS)))
    assert not can_be_folded(map(str, range(LEAST_LABELS - 1)))
    assert not can_be_folded("abcd" * LEAST_LABELS)


def test_held_out_configurations_come_before_cross_validation(labels):
    assert (judging(labels(57)).folds, judging(labels(57)).claims) == (0, ("MoS2",))
    assert (judging(labels(30)).folds, judging(labels(30)).claims) == (FOLDS, ("MoS2",))
    few = judging(labels(9))
    assert (few.claims, few.folds) == ((), 0)
    assert few.lacking.startswith("9 configurations of MoS2, 10 are needed for cross-validation")
    nothing = SimpleNamespace(entries=(), of_split=lambda _: ())
    assert judging(nothing).lacking == "no configuration to learn from, 10 of a host are needed: relax some"
