"""Figures of the costs of relaxations: steps of every pair, steps and core-hours against size, savings, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.report.figures.charts import Boxes, Chart, Points, Role
from definet_flows.report.summary import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.report.reading import Contents, Version
    from definet_flows.schemas import Pair
    from definet_flows.stores import Quantity

SAME = "same minimum"
_STARTS: tuple[tuple[Role, str], ...] = (("unrelaxed", "from unrelaxed"), ("predicted", "from predicted"))
_MANY = 300  # pairs beyond which marks get smaller
SHORT = 8  # characters of a hash that a person reads


def cost_charts(contents: Contents) -> list[Chart]:
    """Return the figures of costs in the order of the page."""
    same = [pair for pair in contents.pairs if pair.verdict == SAME]
    return [
        _savings(contents),
        _steps(contents.pairs),
        _sizes("steps-size", "Ionic steps against size", "ionic steps", same, ("steps_unrelaxed", "steps_predicted")),
        _sizes(
            "core-hours-size",
            "Core-hours against size",
            "core-hours",
            same,
            ("core_hours_unrelaxed", "core_hours_predicted"),
        ),
        _versions(contents.versions),
    ]


def _savings(contents: Contents) -> Chart:
    total = contents.total
    known: list[tuple[str, Quantity]] = [
        (label, quantity)
        for label, quantity in (
            ("ionic steps", total.ionic),
            ("electronic steps", total.electronic),
            ("core-hours", total.core_hours),
        )
        if quantity.saving is not None
    ]
    missing = {"ionic steps", "electronic steps", "core-hours"} - {label for label, _ in known}
    counted = ", ".join(f"{label}: {quantity.pairs} pairs" for label, quantity in known)
    unknown = f" Not known of any pair: {', '.join(sorted(missing))}." if missing else ""
    return Chart(
        key="savings",
        title="What was saved",
        caption="1 - sum(predicted) / sum(unrelaxed) over pairs in the same minimum, with the 95 % interval "
        f"from five configurations on; {counted or 'no such pair'}.{unknown}",
        x="",
        y="saved",
        percent=True,
        series=(_with_intervals("saved", [label for label, _ in known], [quantity for _, quantity in known]),)
        if known
        else (),
    )


def _with_intervals(name: str, x: list[str], quantities: Sequence[Quantity]) -> Points:
    """Return savings with their intervals; where there is none the bar has no length."""
    saved = np.array([quantity.saving for quantity in quantities], dtype=float)
    ends = np.array([quantity.interval or (quantity.saving,) * 2 for quantity in quantities], dtype=float)
    ends = ends.reshape(-1, 2)
    labels = tuple(
        f"{percent(share)} over {quantity.pairs} pairs" for share, quantity in zip(saved, quantities, strict=True)
    )
    return Points(name, "predicted", x, saved, labels, interval=(ends[:, 0], ends[:, 1]))


def _steps(pairs: Sequence[Pair]) -> Chart:
    ordered = sorted(pairs, key=lambda pair: (pair.steps_unrelaxed, pair.steps_predicted, pair.name))
    rank = {pair.id: number for number, pair in enumerate(ordered, start=1)}
    counted = [pair for pair in ordered if pair.verdict == SAME]
    others = [pair for pair in ordered if pair.verdict != SAME]
    series = [_arm(counted, rank, role, name, hollow=False) for role, name in _STARTS if counted]
    series += [_arm(others, rank, role, f"{name}, not counted", hollow=True) for role, name in _STARTS if others]
    return Chart(
        key="steps",
        title="Ionic steps of every pair",
        caption="Force evaluations, restarts included, from both starts of each configuration, sorted by the "
        f"unrelaxed start. {len(counted)} pairs in the same minimum; "
        + (
            f"hollow marks: {len(others)} pairs that the headline leaves out."
            if others
            else "there are no other pairs."
        ),
        x="pair, sorted",
        y="ionic steps",
        series=tuple(series),
    )


def _arm(pairs: Sequence[Pair], rank: dict[str, int], role: Role, name: str, *, hollow: bool) -> Points:
    return Points(
        name=name,
        role=role,
        x=np.array([rank[pair.id] for pair in pairs], dtype=float),
        y=np.array([getattr(pair, f"steps_{role}") for pair in pairs], dtype=float),
        labels=tuple(f"{pair.name} ({pair.host_formula}): {pair.verdict}" for pair in pairs),
        hollow=hollow,
        small=len(rank) > _MANY,
    )


def _sizes(key: str, title: str, unit: str, pairs: Sequence[Pair], fields: tuple[str, str]) -> Chart:
    known = sorted(
        (pair for pair in pairs if None not in (getattr(pair, fields[0]), getattr(pair, fields[1]))),
        key=lambda pair: pair.n_sites,
    )
    sizes = [str(pair.n_sites) for pair in known]
    values = [np.array([getattr(pair, field) for pair in known], dtype=float) for field in fields]
    caption = f"Median, quartiles and range over {len(known)} pairs in the same minimum"
    if not known:
        caption = f"No pair in the same minimum knows its {unit}"
    elif len(known) < len(pairs):
        caption += f"; {len(pairs) - len(known)} more do not know their {unit}"
    return Chart(
        key=key,
        title=title,
        caption=f"{caption}.",
        x="sites of the supercell",
        y=unit,
        log=all(bool((costs > 0).all()) for costs in values) and unit == "core-hours",
        series=tuple(Boxes(name, role, sizes, costs) for (role, name), costs in zip(_STARTS, values, strict=True))
        if known
        else (),
    )


def _versions(versions: Sequence[Version]) -> Chart:
    known = [version for version in versions if version.first is not None and version.savings.saving is not None]
    left_out = [version.weights[:SHORT] for version in versions if version not in known]
    points = _with_intervals(
        "saved", [(version.first or "")[:19] for version in known], [version.savings.ionic for version in known]
    )
    labels = tuple(
        f"weights {version.weights[:SHORT]}: {label}" for version, label in zip(known, points.labels, strict=True)
    )
    without = f" Without a time or a pair in the same minimum: {', '.join(left_out)}." if left_out else ""
    return Chart(
        key="versions",
        title="Model versions over time",
        caption="Ionic saving of each set of weights, 95 % interval, at the time its first relaxation "
        f"finished (UTC). Versions may have been asked about different configurations.{without}",
        x="first relaxation (UTC)",
        y="ionic steps saved",
        percent=True,
        times=True,
        series=(Points(points.name, "predicted", points.x, points.y, labels, interval=points.interval),)
        if known
        else (),
    )
