"""The order in which `auto` asks: as given without evidence, else by what was saved, with room for what is untried."""

from __future__ import annotations

from collections import Counter

import pytest

from definet_flows.starts.auto import ranked

KEYS = ("network", "fields", "potential")
IDS = [f"{number:032x}" for number in range(400)]


def first(savings: dict[str, list[float]]) -> Counter[str]:
    return Counter(ranked(KEYS, savings, identity)[0].key for identity in IDS)


def test_without_evidence_the_order_is_as_given() -> None:
    assert [one.key for one in ranked(KEYS, {}, IDS[0])] == list(KEYS)
    assert ranked(KEYS, {}, IDS[0])[0].reason == "pairs that measure it here: 0"


def test_what_saves_most_goes_first_the_surer_the_more_pairs() -> None:
    few = first({key: [saving] * 3 for key, saving in zip(KEYS, (0.1, 0.6, 0.4), strict=True)})
    many = first({key: [saving] * 100 for key, saving in zip(KEYS, (0.1, 0.6, 0.4), strict=True)})
    assert few.most_common(1)[0][0] == "fields"
    assert few["potential"] > 20
    assert many["fields"] > 390


@pytest.mark.parametrize(("saving", "least", "most"), [(0.05, 0.0, 0.25), (0.8, 0.75, 1.0)])
def test_a_low_saving_does_not_keep_others_from_being_tried(saving: float, least: float, most: float) -> None:
    share = first({"potential": [saving] * 4})["potential"] / len(IDS)
    assert least <= share <= most


def test_the_same_campaign_chooses_the_same() -> None:
    savings = {"fields": [0.5, 0.2, 0.4], "potential": [0.3]}
    assert [ranked(KEYS, savings, one) for one in IDS] == [ranked(KEYS, savings, one) for one in IDS]
    assert ranked(KEYS, savings, IDS[0])[-1].reason in {
        "pairs that measure it here: 0",
        "it saved 37% in 3 pairs here",
        "it saved 30% in 1 pair here",
    }
