"""Charts as files, drawn by matplotlib: no browser is needed, and SVG text stays text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from definet_flows import foreign
from definet_flows.atomic import replacing
from definet_flows.report.figures.charts import COLORS, Boxes, Chart, Points

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes


Format = Literal["png", "svg"]

DPI = 200
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def write_chart(chart: Chart, path: Path, form: Format) -> None:
    """Write a chart; only a complete file replaces an existing file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        _draw(chart, axes)
        write_figure(figure, path, form)


def write_figure(figure: Figure, path: Path, form: Format) -> None:
    """Write a figure whole or not at all; `InputError` if the file cannot be written."""
    FigureCanvasAgg(figure)
    with replacing(path) as part:
        figure.savefig(part, format=form, dpi=DPI)


def plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics, and that an SVG file can hold."""
    return foreign.plain(text).replace("$", r"\$")


def _draw(chart: Chart, axes: Axes) -> None:
    axes.set(xlabel=chart.x, ylabel=chart.y, title=chart.title)
    if chart.empty:
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center")
        return
    boxes = [series for series in chart.series if isinstance(series, Boxes)]
    for number, start in enumerate(boxes):
        _draw_boxes(start, axes, number - (len(boxes) - 1) / 2)
    for series in chart.series:
        if isinstance(series, Points):
            _draw_points(series, axes)
    if chart.log:
        axes.set_yscale("log")
    elif not chart.diagonal:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if chart.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.margins(x=0.3)
    if chart.diagonal:
        axes.axline((0, 0), slope=1, color=COLORS["neutral"], linestyle="--", linewidth=1)
        axes.set_aspect("equal", adjustable="datalim")
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize=8)


def _draw_points(points: Points, axes: Axes) -> None:
    color = points.color
    places = [plain(x) for x in points.x] if isinstance(points.x, list) else points.x
    if points.interval is not None:
        low, high = points.interval
        axes.errorbar(places, points.y, yerr=[points.y - low, high - points.y], fmt="none", ecolor=color, capsize=4)
    axes.plot(
        places,
        points.y,
        color=color,
        label=plain(points.name),
        linestyle={"": "none", "solid": "-", "dash": "--"}[points.line],
        marker="o" if points.marks else "none",
        markersize=2 if points.faint or points.small else 4,
        markerfacecolor="none" if points.hollow else color,
        alpha=0.3 if points.faint else 0.9,
        zorder=1 if points.faint else 3,
        rasterized=points.faint,  # thousands of circles would make the file heavy
    )
    for x, y, label in zip(places, points.y, points.labels, strict=True) if points.named else ():
        axes.annotate(plain(label), (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)


def _draw_boxes(boxes: Boxes, axes: Axes, offset: float) -> None:
    """Draw the boxes of one start beside those of the other; `offset` is in widths of a box."""
    categories = list(dict.fromkeys(boxes.categories))
    groups = [boxes.values[[c == category for c in boxes.categories]] for category in categories]
    color, width = COLORS[boxes.role], 0.3
    drawn = axes.boxplot(
        groups,
        positions=[k + offset * width for k in range(len(categories))],
        widths=0.9 * width,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": "black"},
        flierprops={"markersize": 2, "markeredgecolor": color},
    )
    for box in drawn["boxes"]:
        box.set(facecolor=color, alpha=0.7)
    drawn["boxes"][0].set_label(plain(boxes.name))
    axes.set_xticks(range(len(categories)), categories)
