"""The savings in words: the headline, the counted pairs, and everything that is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from definet_flows.schemas import signed
from definet_flows.stores.analysis.figures import UNASKED, sum_in_words
from definet_flows.stores.analysis.pairs import SAME_DISTANCE, SAME_ENERGY, SAME_MOMENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from definet_flows.report.cards import Card, Group
    from definet_flows.report.names import Names
    from definet_flows.stores import Counts, Quantity, Savings
    from definet_flows.stores.analysis.figures import Proposals
    from definet_flows.stores.analysis.savings import Evidence

_T = TypeVar("_T")

POTENTIALS = {"sevennet", "chgnet", "vasp-dry-run"}
"""Engines that are machine-learned potentials, or relax with one; their savings are no DFT time."""

SAME_MEANING = f"ends within {SAME_DISTANCE:g} Å, {1000 * SAME_ENERGY:g} meV per cell and {SAME_MOMENT:g} μB"


class SummaryLine(NamedTuple):
    """A number of the summary."""

    label: str
    value: str
    meaning: str


def percent(share: float | None) -> str:
    """Return a share in words; a dash where nothing can be stated."""
    return "–" if share is None else f"{100 * share:.1f} %".replace("-", "−")


def interval(quantity: Quantity) -> str:
    """Return the 95 % interval in words, or that there are too few pairs; a dash without any."""
    if quantity.interval is None:
        return "too few" if quantity.pairs else "–"
    low, high = quantity.interval
    return f"{percent(low)} to {percent(high)}"


def costs(total: Savings) -> list[SummaryLine]:
    """Return the other costs and the bounds of the headline."""
    return [
        *(
            SummaryLine(
                f"{label} saved",
                percent(quantity.saving),
                f"{_number(quantity.unrelaxed)} from unrelaxed starts, {_number(quantity.predicted)} from predictions, "
                f"of {quantity.pairs} of {total.same_minimum} pairs; 95 % interval {interval(quantity)}; "
                f"campaign {percent(quantity.campaign)}, net {percent(quantity.spending.net)}"
                if quantity.pairs
                else "no pair in the same minimum knows it",
            )
            for label, quantity in (("electronic steps", total.electronic), ("core-hours", total.core_hours))
        ),
        SummaryLine(
            "median pair",
            percent(total.ionic.median_saving),
            f"{_number(total.ionic.median_unrelaxed)} ionic steps from the unrelaxed start, "
            f"{_number(total.ionic.median_predicted)} from the prediction (medians)",
        ),
        SummaryLine(
            "the most that could be saved",
            percent(total.ceiling),
            "the optimiser's floor in every relaxation from a prediction: a line search of conjugate gradient is three "
            "evaluations, any other optimiser needs two",
        ),
        SummaryLine(
            "campaign", percent(total.campaign), "ionic saving with every gated-out configuration counted as none"
        ),
        SummaryLine(
            "net",
            percent(total.spending.net),
            "of all ionic steps: controls, host relaxations and failures are paid for too; below zero where most "
            "configurations have a control",
        ),
        SummaryLine("pre-relaxing", _number(_rounded(total.proposals.seconds), " s"), _prerelaxing(total.proposals)),
    ]


def counts(total: Savings) -> list[SummaryLine]:
    """Return how many of each there are; nothing is dropped in silence."""
    return [
        SummaryLine("same minimum", str(total.same_minimum), f"counted in the headline: {SAME_MEANING}"),
        SummaryLine("better minimum", str(total.better_minimum), "the predicted end is lower; not in the headline"),
        SummaryLine("other minimum", str(total.other_minimum), "the ends differ and the predicted end is not lower"),
        SummaryLine("unconverged", str(total.unconverged), "a relaxation stopped above its force criterion"),
        SummaryLine("not comparable", str(total.not_comparable), "the inputs differ in more than the positions"),
        SummaryLine("gated out", str(total.gated), "prediction rejected, relaxed from the unrelaxed start only"),
        SummaryLine("failed", str(total.failed), "relaxations that ended in an error"),
        SummaryLine("not finished", str(total.running), "relaxations still running"),
    ]


def outcomes(total: Savings) -> str:
    """Return in a line how many pairs and relaxations are not in the headline, zeros too."""
    return ", ".join(f"{line.label} {line.value}" for line in counts(total)[1:])


def wall_time(spent: Counts) -> str:
    """Return the wall time and cores of relaxations in words, as far as their ledgers tell."""
    if not spent.stated["wall_seconds"]:
        return "No relaxation states its time."
    seconds = sum_in_words(spent.wall_seconds, spent.stated["wall_seconds"], spent.ended, ",.0f")
    cores = "cores not stated" if spent.cores is None else f"on {cores_in_words(spent.cores)} cores each"
    return f"Wall time of the relaxations, controls included: {seconds} s, {cores}."


def cores_in_words(cores: tuple[int, int] | None) -> str:
    """Return the fewest and the most cores; a dash if no ledger states them."""
    if cores is None:
        return "-"
    return str(cores[0]) if cores[0] == cores[1] else f"{cores[0]} to {cores[1]}"


def labelled(by: str | None, groups: Mapping[str | int, _T], names: Names) -> dict[str, _T]:
    """Return groups by what a person reads: weights by name, charges with their sign."""
    if by == "weights":
        labels = names.labels(str(key) for key in groups if key != UNASKED)
        return {labels.get(str(key), str(key)): group for key, group in groups.items()}
    return {group_value(by, key): group for key, group in groups.items()}


def group_value(by: str | None, key: str | int) -> str:
    """Return a group as a person reads it: charges with their sign."""
    return signed(key) if by == "charge" and isinstance(key, int) else str(key)


def headlines(evidence: Evidence, names: Names) -> list[str]:
    """Return the saving in a line: of each pre-relaxer and weights that has pairs, never of several together."""
    paired = {pair.weights for pair in evidence.pairs}
    if len(paired) <= 1:
        return [evidence.total().message]
    found = {str(key): savings for key, savings in evidence.by("weights").items() if key in paired}
    labels = names.labels(found)
    return [f"{labels[key]}: {savings.message}" for key, savings in found.items()]


def card_headlines(cards: Sequence[Card], total: Savings) -> list[str]:
    """Return the saving of each card in a line; without cards why there is none."""
    if len(cards) <= 1:
        return [card.savings.message for card in cards] or [total.message]
    return [f"{card.label}: {card.savings.message}" for card in cards]


def group_rows(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Return the line of text of each group."""
    return [
        (
            group.label,
            group.value,
            percent(group.savings.saving),
            interval(group.savings.ionic),
            percent(group.savings.core_hours.saving),
            *(str(getattr(group.savings, count)) for count in _GROUP_COUNTS),
        )
        for group in groups
    ]


_GROUP_COUNTS = (
    "same_minimum",
    "better_minimum",
    "other_minimum",
    "unconverged",
    "not_comparable",
    "gated",
    "failed",
)

GROUP_LABELS = {"n_defects": "number of defects", "n_sites": "number of sites"}
"""Where the name of a grouping is not a word"""

GROUP_HEADINGS = (
    "ionic saved",
    "95 % interval",
    "core-hours saved",
    "same",
    "better",
    "other",
    "unconverged",
    "not comparable",
    "gated",
    "failed",
)


def judges(engines: list[str]) -> str:
    """Return the sentence that names the engines, and that says that a potential is no DFT."""
    names = ", ".join(engines)
    potentials = [engine for engine in engines if engine in POTENTIALS]
    if not potentials:
        return f"Relaxed by {names}."
    which = "a machine-learned potential" if len(potentials) == 1 else "machine-learned potentials"
    return f"Relaxed by {names}. {', '.join(potentials)}: {which}, so these steps are not a saving of DFT."


def _prerelaxing(made: Proposals) -> str:
    """Return in words what the proposals cost, and of how many that is known."""
    core_hours = f"{_number(_rounded(made.core_hours))} core-hours of {made.count - made.without_core_hours}"
    return (
        f"wall time of {made.count - made.without_seconds} of {made.count} proposals, {core_hours}; "
        "the net of core-hours pays for it"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:g}{unit}"
