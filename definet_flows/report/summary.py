"""The savings in words: the headline, the counted pairs, and everything that is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from definet_flows.stores.analysis.pairs import SAME_DISTANCE, SAME_ENERGY, SAME_MOMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from definet_flows.stores import Quantity, Savings
    from definet_flows.stores.analysis.figures import Proposals

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
                f"95 % interval {interval(quantity)}; {quantity.pairs} pairs in the same minimum know it; "
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


def group_rows(groups: Mapping[str | int, Savings]) -> list[tuple[str, ...]]:
    """Return the line of text of each group."""
    return [
        (
            str(key),
            percent(group.saving),
            interval(group.ionic),
            percent(group.core_hours.saving),
            *map(
                str,
                (
                    group.same_minimum,
                    group.better_minimum,
                    group.other_minimum,
                    group.unconverged,
                    group.not_comparable,
                ),
            ),
            *map(str, (group.gated, group.failed)),
        )
        for key, group in groups.items()
    ]


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
