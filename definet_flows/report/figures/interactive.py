"""Charts as plotly figures, without a ground or a font colour of their own: the page's theme gives both."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from definet_flows.report.figures.charts import COLORS, Boxes, Points

if TYPE_CHECKING:
    from definet_flows.report.figures.charts import Chart

_FAINT = 0.35


def figure_json(chart: Chart) -> dict[str, Any]:
    """Return `data` and `layout` for plotly.js; text is escaped, plotly.js would read tags in it."""
    figure = go.Figure([_boxes(series) if isinstance(series, Boxes) else _points(series) for series in chart.series])
    figure.update_layout(
        template=None,
        showlegend=len(chart.series) > 1,
        boxmode="group",
        margin={"l": 64, "r": 40, "t": 28, "b": 56},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "itemsizing": "constant"},
        hovermode="closest",
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)"},
        xaxis={"title": {"text": chart.x, "standoff": 12, "font": {"size": 14}}},
        yaxis={"title": {"text": chart.y, "standoff": 12, "font": {"size": 14}}},
    )
    if any(isinstance(series, Boxes) for series in chart.series):
        figure.update_xaxes(type="category")
    if chart.log:
        figure.update_yaxes(type="log", dtick=1, exponentformat="none")
    elif not chart.diagonal:
        figure.update_yaxes(rangemode="tozero")
    if chart.percent:
        figure.update_yaxes(tickformat=".0%")
    if chart.diagonal and chart.series:
        _add_diagonal(figure, chart)
    if chart.times and chart.series:
        _show_days(figure, chart)
    result: dict[str, Any] = json.loads(figure.to_json())
    return {"data": result["data"], "layout": result["layout"]}


def _points(points: Points) -> go.Scatter:
    color, labels = points.color, [escape(label) for label in points.labels]
    bars = None
    if points.interval is not None:
        low, high = points.interval
        bars = {"array": high - points.y, "arrayminus": points.y - low, "thickness": 1.5, "width": 6}
    return go.Scatter(
        name=escape(points.name),
        x=[escape(x) for x in points.x] if isinstance(points.x, list) else points.x,
        y=points.y,
        mode="+".join(
            part
            for part, wanted in (("lines", points.line), ("markers", points.marks), ("text", points.named))
            if wanted
        ),
        textposition="middle right",
        cliponaxis=not points.named,
        line={"color": color, "dash": points.line or "solid", "width": 2},
        marker={
            "color": color,
            "size": _size(points),
            "opacity": _FAINT if points.faint else 0.9,
            "symbol": "circle-open" if points.hollow else "circle",
        },
        error_y=bars,
        text=[f"  {label}" for label in labels] if points.named else labels or None,
        hovertemplate=("%{text}<br>" if labels else "") + "%{x}, %{y}<extra>%{fullData.name}</extra>",
    )


def _size(points: Points) -> int:
    if points.faint or points.small:
        return 4
    return 7 if points.interval is None else 10


def _boxes(boxes: Boxes) -> go.Box:
    return go.Box(
        name=escape(boxes.name), x=boxes.categories, y=boxes.values, marker={"color": COLORS[boxes.role], "size": 4}
    )


def _add_diagonal(figure: go.Figure, chart: Chart) -> None:
    ends = [
        np.asarray(values, dtype=float)
        for points in chart.series
        if isinstance(points, Points)
        for values in (points.x, points.y)
    ]
    low, high = min(end.min() for end in ends), max(end.max() for end in ends)
    figure.add_shape(
        type="line", x0=low, y0=low, x1=high, y1=high, line={"color": COLORS["neutral"], "dash": "dash", "width": 1}
    )
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain")


def _show_days(figure: go.Figure, chart: Chart) -> None:
    """Show at least a day on either side: about a lone point plotly would show milliseconds."""
    times = sorted(
        datetime.fromisoformat(str(x)) for points in chart.series if isinstance(points, Points) for x in points.x
    )
    margin = max(timedelta(days=1), 0.1 * (times[-1] - times[0]))
    figure.update_xaxes(type="date", range=[times[0] - margin, times[-1] + margin])
