"""Structures as files, drawn by matplotlib: a configuration seen from above and from the side."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.figure import Figure

from definet_flows.report.figures.charts import COLORS
from definet_flows.report.figures.overlays import arrow_scale
from definet_flows.report.figures.overlays import title as named
from definet_flows.report.figures.static import STYLE, Format, plain, write_figure
from definet_flows.schemas import VACANCY, FloatArray

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from definet_flows.report.figures.overlays import Overlay

REACH = 6.0
"""Å; atoms farther from the defects' centre are left out of the drawing"""
_MARGIN = 1.0  # Å
_WIDTH = 88  # characters of a line of the title
_AXES = "xyz"


def write_overlay(overlay: Overlay, path: Path, form: Format) -> None:
    """Write a configuration seen from above and from the side.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 8.0), layout="constrained")
        limits = _limits(overlay)
        heights = [high - low for low, high in limits[1:]]
        panels = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        scale = arrow_scale(overlay)
        for axes, up in zip(panels, (1, 2), strict=True):
            _draw_structure(overlay, axes, (0, up), scale)
            axes.set(ylabel=f"{_AXES[up]} [Å]", aspect="equal", xlim=limits[0], ylim=limits[up])
        panels[1].set_xlabel("x [Å]")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        lines = [line for fact in overlay.facts for line in textwrap.wrap(fact, _WIDTH)]
        title = "\n".join(map(plain, [named(overlay), *lines, _arrows(overlay, scale)]))
        figure.suptitle(title, fontsize=9)
        write_figure(figure, path, form)


def _limits(overlay: Overlay) -> list[tuple[float, float]]:
    """Return the range that is drawn along x, y and z, Å."""
    points = np.array(overlay.unrelaxed)
    near = points[np.linalg.norm(points[:, :2], axis=1) < REACH]
    return [(float(low) - _MARGIN, float(high) + _MARGIN) for low, high in zip(near.min(0), near.max(0), strict=True)]


def _arrows(overlay: Overlay, scale: int) -> str:
    end = "relaxed" if overlay.relaxed else "predicted"
    return f"arrows: unrelaxed to {end}, {scale} times as long"


def _draw_structure(overlay: Overlay, axes: Axes, plane: tuple[int, int], scale: int) -> None:
    across, up = plane
    start = np.array(overlay.unrelaxed)
    end = np.array(overlay.relaxed or overlay.predicted or overlay.unrelaxed)
    near = np.linalg.norm(start[:, :2], axis=1) < REACH
    vacant = np.array([marker == str(VACANCY) for marker in overlay.markers])
    drawn, order = near & ~vacant, np.argsort(start[:, ({0, 1, 2} - set(plane)).pop()])
    for first, second in overlay.bonds:
        if near[first] and near[second]:
            axes.plot(*end[[first, second]][:, plane].T, color="#b8bec5", linewidth=1.5, zorder=1)
    for row in order[drawn[order]]:
        number = atomic_numbers[overlay.elements[row]]
        axes.scatter(
            end[row, across],
            end[row, up],
            s=160 * covalent_radii[number] ** 2,
            color=jmol_colors[number],
            edgecolor="black",
            linewidth=0.5,
            zorder=2,
        )
    _ring(axes, start[drawn], plane, COLORS["unrelaxed"], "unrelaxed")
    if overlay.predicted is not None and overlay.relaxed is not None:
        _ring(axes, np.array(overlay.predicted)[drawn], plane, COLORS["predicted"], "predicted")
    axes.scatter(start[vacant, across], start[vacant, up], s=420, facecolor="none", edgecolor="#c1121f", linestyle="--")
    axes.scatter([], [], s=60, facecolor="none", edgecolor="#c1121f", linestyle="--", label="vacancy")
    moved = scale * (end - start)[drawn][:, plane]
    axes.quiver(
        *start[drawn][:, plane].T,
        *moved.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.006,
        color="black",
        zorder=5,
        label="displacement",
    )


def _ring(axes: Axes, points: FloatArray, plane: tuple[int, int], color: str, name: str) -> None:
    axes.scatter(
        points[:, plane[0]],
        points[:, plane[1]],
        s=28,
        facecolor="none",
        edgecolor=color,
        linewidth=1.2,
        zorder=4,
        label=name,
    )
