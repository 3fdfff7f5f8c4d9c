"""The order in which `auto` asks: as given without evidence, else by what was saved, with room for what is untried."""

from __future__ import annotations

import pytest

from definet_flows.starts.auto import EXPECTED, TRIED, Measured, expected, ranked, trials

KEYS = ("network", "fields", "potential")
IDS = [f"{number:032x}" for number in range(400)]


def pairs(*savings: float, n_defects: int = 2) -> list[Measured]:
    return [Measured(saving, n_defects) for saving in savings]


def order(measured: dict[str, list[Measured]], n_defects: int = 2, *, trial: bool = False) -> list[str]:
    return [one.key for one in ranked(KEYS, measured, n_defects, trial=trial)]


def test_without_evidence_the_order_is_as_given() -> None:
    assert order({}) == list(KEYS)
    assert order({"potential": pairs(0.9, 0.9)}) == list(KEYS)
    assert order({"potential": pairs(0.9, 0.9, 0.9)})[0] == "potential"
    reason = "expected to save 30%, by 0 pairs here with as many defects, 0 with more or fewer"
    assert ranked(KEYS, {}, 2)[0].reason == reason


def test_what_saved_most_goes_first_and_what_is_untried_before_what_saved_little() -> None:
    assert order({"network": pairs(0.1, 0.0, 0.2), "potential": pairs(0.4, 0.5, 0.6)}) == [
        "potential",
        "fields",
        "network",
    ]


@pytest.mark.parametrize(("n_defects", "first"), [(1, "potential"), (2, "fields")])
def test_pairs_of_as_many_defects_outweigh_those_of_others(n_defects: int, first: str) -> None:
    """A potential that helps single defects is not asked for pairs where fields were seen to save more."""
    measured = {
        "potential": [*pairs(0.7, 0.7, 0.7, n_defects=1), *pairs(0.1, 0.1, 0.1)],
        "fields": pairs(0.45, 0.45, 0.45),
    }
    assert order(measured, n_defects)[0] == first


def test_what_single_defects_show_is_a_hint_for_pairs() -> None:
    single, same = pairs(0.6, n_defects=1), pairs(0.6)
    assert EXPECTED < expected(single, 2) < expected(same, 2) < 0.6
    assert expected(single * 1000, 2) == pytest.approx(0.6, abs=1e-3)
    measured = {"potential": pairs(0.6, 0.6, 0.6, n_defects=1)}
    assert order(measured)[0] == "potential"
    assert "0 pairs here with as many defects, 3 with more or fewer" in ranked(KEYS, measured, 2)[0].reason


def test_a_tenth_of_a_batch_tries_what_is_measured_least() -> None:
    assert trials(IDS[: TRIED - 1]) == frozenset()
    assert trials(IDS[::-1]) == set(IDS[: len(IDS) // TRIED])
    measured = {"network": pairs(0.5, 0.5, 0.5, 0.5), "potential": pairs(0.1), "fields": pairs(0.2, 0.2)}
    assert order(measured)[0] == "network"
    assert order(measured, trial=True) == ["potential", "fields", "network"]
    (first, *_) = ranked(KEYS, measured, 2, trial=True)
    assert first.reason.startswith("tried as measured less than others; expected to save 20%, by 1 pair here")
