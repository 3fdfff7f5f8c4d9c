"""The identity of training data: it sees every sign, every split, every order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from training_run import pairs

from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.training.train import TrainConfig, card_of

DATA = pairs(8)


def swapped(values):
    """The first train and the first test or val entry change places."""
    other = next(k for k, value in enumerate(values) if value != values[0])
    return (values[other], *values[1:other], values[0], *values[other + 1 :])


def flipped(array):
    return -array


def permuted(array):
    return array[::-1].copy()


@pytest.mark.parametrize(
    "changes",
    [
        {"relaxed": flipped(DATA.relaxed)},
        {"relaxed": permuted(DATA.relaxed)},
        {"relaxed": np.roll(DATA.relaxed, 1, axis=2)},
        {"unrelaxed": DATA.unrelaxed + np.float32(0.01)},
        {"markers": permuted(DATA.markers)},
        {"numbers": DATA.numbers + np.uint8(1)},
        {"splits": swapped(DATA.splits)},
        {"ids": DATA.ids[::-1]},
        {"name": "other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_data_have_another_hash(changes):
    other = replace(DATA, **changes)
    assert other.data_hash != DATA.data_hash
    cards = [card_of("x", TrainConfig(), [one]).data_hash for one in (DATA, other)]
    assert cards[0] != cards[1]


def test_the_same_data_have_the_same_hash():
    assert pairs(8).data_hash == DATA.data_hash
    assert replace(DATA, relaxed=np.asfortranarray(DATA.relaxed)).data_hash == DATA.data_hash
    assert replace(DATA, relaxed=DATA.relaxed.astype(">f4")).data_hash == DATA.data_hash


def test_a_card_says_what_its_hash_is_of():
    assert card_of("x", TrainConfig(), [DATA]).data_hash.startswith("2:")
    assert not load_checkpoint("definet-2dmd").card.data_hash.startswith("2:")  # of an earlier form
