"""Figures as plain data: points, boxes and their roles. `interactive` and `static` draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from definet_flows.schemas import FloatArray

Role = Literal["unrelaxed", "predicted", "neutral"]

COLORS: dict[Role, str] = {"unrelaxed": "#d55e00", "predicted": "#2a7fba", "neutral": "#7f8790"}
"""Distinct to the colour-blind; contrast at least 3:1 against the light and the dark ground of the page."""


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
    faint: bool = False
    """Small and translucent, for very many marks"""
    interval: tuple[FloatArray, FloatArray] | None = None
    """Lower and upper ends of error bars"""


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

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw; the caption then says why."""
        return not self.series
