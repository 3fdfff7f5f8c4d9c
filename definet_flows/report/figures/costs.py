"""Figures of the costs of relaxations: savings, steps of every pair, steps and core-hours against size, versions.

What holds a single point, or nothing, is left out with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from definet_flows.report.figures.charts import Boxes, Chart, Points, Role, left_out
from definet_flows.report.summary import percent
from definet_flows.schemas import signed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from definet_flows.report.cards import Card
    from definet_flows.report.reading import Contents
    from definet_flows.report.rows import Key
    from definet_flows.schemas import Pair
    from definet_flows.stores import Quantity

SAME = "same minimum"
_STARTS: tuple[tuple[Role, str], ...] = (("unrelaxed", "from unrelaxed"), ("predicted", "from predicted"))
_MANY = 300  # pairs beyond which marks get smaller
_COSTS = (("ionic", "ionic steps"), ("electronic", "electronic steps"), ("core_hours", "core-hours"))


def cost_charts(contents: Contents) -> list[Chart]:
    """Return the figures of costs in the order of the page."""
    same = [pair for pair in contents.pairs if pair.verdict == SAME]
    charges = {row.key: row.charge for row in contents.rows}
    return [
        _savings(contents.cards),
        _steps(contents.pairs, contents.cards, charges),
        _sizes("steps-size", "Ionic steps against size", "ionic steps", same, ("steps_unrelaxed", "steps_predicted")),
        _sizes(
            "core-hours-size",
            "Core-hours against size",
            "core-hours",
            same,
            ("core_hours_unrelaxed", "core_hours_predicted"),
        ),
        _versions(contents.cards),
    ]


def _savings(cards: Sequence[Card]) -> Chart:
    key, title = "savings", "What was saved"
    series, missing = [], []
    for cost, label in _COSTS:
        known = [(card.label, quantity) for card in cards if (quantity := getattr(card.savings, cost)).pairs]
        known = [(name, quantity) for name, quantity in known if quantity.saving is not None]
        if known:
            role: Role = "predicted" if cost == "ionic" else "neutral" if cost == "electronic" else "unrelaxed"
            series.append(_with_intervals(label, role, [name for name, _ in known], [one for _, one in known]))
        else:
            missing.append(label)
    points = sum(len(one.y) for one in series)
    if points <= 1:
        why = "a single saving is known, which stands above" if points else "no pair ended in the same minimum"
        return left_out(key, title, why)
    unknown = f" Not known of any pair: {', '.join(missing)}." if missing else ""
    return Chart(
        key=key,
        title=title,
        caption="1 - sum(predicted) / sum(unrelaxed) over pairs in the same minimum of each pre-relaxer and weights, "
        f"with the 95 % interval from five configurations on.{unknown}",
        x="",
        y="saved",
        percent=True,
        series=tuple(series),
    )


def _with_intervals(name: str, role: Role, x: list[str], quantities: Sequence[Quantity]) -> Points:
    """Return savings with their intervals; where there is none the bar has no length."""
    saved = np.array([quantity.saving for quantity in quantities], dtype=float)
    ends = np.array([quantity.interval or (quantity.saving,) * 2 for quantity in quantities], dtype=float)
    ends = ends.reshape(-1, 2)
    labels = tuple(
        f"{percent(share)} over {quantity.pairs} pairs" for share, quantity in zip(saved, quantities, strict=True)
    )
    return Points(name, role, x, saved, labels, interval=(ends[:, 0], ends[:, 1]))


def _steps(pairs: Sequence[Pair], cards: Sequence[Card], charges: Mapping[Key, int]) -> Chart:
    """Return the steps by configuration: a control serves all pre-relaxers, so it has a single mark."""
    key, title = "steps", "Ionic steps of every pair"
    controls = {(pair.configuration_id, pair.settings_hash): pair for pair in pairs}
    if len(controls) <= 1:
        why = "a single configuration has a pair" if controls else "no configuration was relaxed from both starts"
        return left_out(key, title, why)
    ordered = sorted(controls.values(), key=lambda pair: (pair.steps_unrelaxed, pair.name, pair.configuration_id))
    rank = {(pair.configuration_id, pair.settings_hash): number for number, pair in enumerate(ordered, start=1)}
    series = [_marks(ordered, rank, charges, "unrelaxed", "from unrelaxed")]
    for number, card in enumerate(cards):
        own = [pair for pair in pairs if pair.weights == card.key]
        own.sort(key=lambda pair: rank[pair.configuration_id, pair.settings_hash])
        for counted in (True, False):
            some = [pair for pair in own if (pair.verdict == SAME) == counted]
            name = f"from {card.label}{'' if counted else ', not counted'}"
            series += [_marks(some, rank, charges, "predicted", name, number, hollow=not counted)] if some else []
    others = sum(pair.verdict != SAME for pair in pairs)
    return Chart(
        key=key,
        title=title,
        caption="Force evaluations, restarts included, from the starts of each configuration, sorted by the unrelaxed "
        f"start. {len(pairs) - others} pairs in the same minimum; "
        + (
            f"hollow marks: {others} pair{'s' * (others != 1)} that no saving counts."
            if others
            else "there are no other pairs."
        ),
        x="configuration, sorted",
        y="ionic steps",
        series=tuple(series),
    )


def _marks(
    pairs: Sequence[Pair],
    rank: Mapping[tuple[str, str], int],
    charges: Mapping[Key, int],
    role: Role,
    name: str,
    number: int = 0,
    *,
    hollow: bool = False,
) -> Points:
    return Points(
        name=name,
        role=role,
        x=np.array([rank[pair.configuration_id, pair.settings_hash] for pair in pairs], dtype=float),
        y=np.array([getattr(pair, f"steps_{role}") for pair in pairs], dtype=float),
        labels=tuple(_called(pair, charges) + f": {pair.verdict}" * (role == "predicted") for pair in pairs),
        hollow=hollow,
        number=number,
        small=len(rank) > _MANY,
    )


def _called(pair: Pair, charges: Mapping[Key, int]) -> str:
    charge = charges.get((pair.configuration_id, pair.settings_hash, pair.weights))
    return f"{pair.name}{'' if charge is None else ' ' + signed(charge)} ({pair.host_formula})"


def _sizes(key: str, title: str, unit: str, pairs: Sequence[Pair], fields: tuple[str, str]) -> Chart:
    known = sorted(
        (pair for pair in pairs if None not in (getattr(pair, fields[0]), getattr(pair, fields[1]))),
        key=lambda pair: pair.n_sites,
    )
    sizes = [str(pair.n_sites) for pair in known]
    if len(set(sizes)) <= 1:
        why = f"all pairs have {sizes[0]} sites" if sizes else f"no pair in the same minimum knows its {unit}"
        return left_out(key, title, why)
    values = [np.array([getattr(pair, field) for pair in known], dtype=float) for field in fields]
    more = f"; {len(pairs) - len(known)} more do not know their {unit}" if len(known) < len(pairs) else ""
    return Chart(
        key=key,
        title=title,
        caption=f"Median, quartiles and range over {len(known)} pairs in the same minimum, of all pre-relaxers{more}.",
        x="sites of the supercell",
        y=unit,
        log=all(bool((costs > 0).all()) for costs in values) and unit == "core-hours",
        series=tuple(Boxes(name, role, sizes, costs) for (role, name), costs in zip(_STARTS, values, strict=True)),
    )


def _versions(cards: Sequence[Card]) -> Chart:
    key, title = "versions", "Model versions and pre-relaxers over time"
    known = [(card, card.times) for card in reversed(cards) if card.times and card.savings.saving is not None]
    known.sort(key=lambda pair: pair[1].first)
    if len(known) <= 1:
        why = f"{known[0][0].label} alone has" if known else "no pre-relaxer has"
        return left_out(key, title, f"{why} a pair in the same minimum and a time")
    shown = {card.key for card, _ in known}
    without = ", ".join(card.label for card in cards if card.key not in shown)
    points = _with_intervals(
        "saved", "predicted", [times.first[:19] for _, times in known], [card.savings.ionic for card, _ in known]
    )
    return Chart(
        key=key,
        title=title,
        caption="Ionic saving of each pre-relaxer and weights, 95 % interval, at the time its first relaxation "
        "finished (UTC). They may have been asked about different configurations."
        + (f" Without a time or a pair in the same minimum: {without}." if without else ""),
        x="first relaxation (UTC)",
        y="ionic steps saved",
        percent=True,
        times=True,
        series=(
            Points(
                "saved",
                "predicted",
                points.x,
                points.y,
                tuple(card.label for card, _ in known),
                interval=points.interval,
                named=True,
            ),
        ),
    )
