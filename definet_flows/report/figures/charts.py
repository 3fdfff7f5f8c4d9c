"""Figures as plain data: points, boxes and their roles. `interactive` and `static` draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from definet_flows.schemas import FloatArray

Role = Literal["unrelaxed", "predicted", "neutral"]

COLORS: dict[Role, str] = {"unrelaxed": "#d55e00", "predicted": "#2a7fba", "neutral": "#7f8790"}
"""Distinct to the colour-blind; contrast at least 3:1 against the light and the dark ground of the page."""

SERIES = (COLORS["predicted"], "#1d9a6c", "#b0609f", "#a07a1e", "#5f6fd0")
"""Colours of the pre-relaxers, in the order of their cards; a sixth has the first again."""


@dataclass(frozen=True, eq=False)
class Points:
    """Marks at x, y; a line joins them if asked."""

    name: str
    role: Role
    x: FloatArray | list[str]
    y: FloatArray
    labels: tuple[str, ...] = ()
    """Of each mark, plain text; shown when pointed at"""
    line: Literal["", "solid", "dash"] = ""
    marks: bool = True
    hollow: bool = False
    small: bool = False
    number: int = 0
    """Place among the pre-relaxers, which gives marks in the role `predicted` their colour"""
    named: bool = False
    """The labels stand beside the marks"""
    faint: bool = False
    """Small and translucent, for very many marks"""
    interval: tuple[FloatArray, FloatArray] | None = None
    """Lower and upper ends of error bars"""

    @property
    def color(self) -> str:
        """Colour of marks and lines."""
        return SERIES[self.number % len(SERIES)] if self.role == "predicted" else COLORS[self.role]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Median, quartiles and range of the values at each category."""

    name: str
    role: Role
    categories: list[str]
    """The category of each value; equal categories share a box"""
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure."""

    key: str
    """Name of the file and of the element in the page"""
    title: str
    caption: str
    """The counted relaxations, and those left out"""
    x: str
    """Title of the axis, with its unit"""
    y: str
    series: tuple[Points | Boxes, ...]
    log: bool = False
    """Of the y axis"""
    percent: bool = False
    """The y axis is a share"""
    diagonal: bool = False
    """Equal scales and the line y = x"""
    times: bool = False
    """The x axis is a time, UTC"""
    reason: str = ""
    """Why it is left out; empty if it is drawn"""

    @property
    def empty(self) -> bool:
        """Whether it is left out; `reason` then says why."""
        return not self.series


def left_out(key: str, title: str, reason: str) -> Chart:
    """Return a figure that is not drawn, with the reason."""
    return Chart(key=key, title=title, caption="", x="", y="", series=(), reason=reason)
