"""Every figure of the report as a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.report.figures.drawing import write_overlay
from definet_flows.report.figures.static import Format, write_chart
from definet_flows.report.page import all_charts

if TYPE_CHECKING:
    from pathlib import Path

    from definet_flows.report.reading import Contents


def write_figures(contents: Contents, folder: Path, form: Format) -> list[Path]:
    """Write the charts that have something to draw and the worst configurations; return the files.

    Raises
    ------
    InputError
        If the folder cannot be made or a file not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made a folder ({error.strerror}): name another for the figures"
        raise InputError(msg) from None
    paths = []
    for chart in all_charts(contents):
        if not chart.empty:
            paths.append(folder / f"{chart.key}.{form}")
            write_chart(chart, paths[-1], form)
    for number, overlay in enumerate(contents.worst, start=1):
        paths.append(folder / f"worst-{number:02d}.{form}")
        write_overlay(overlay, paths[-1], form)
    return paths
