"""The report: an HTML file that holds everything and opens without a network."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

import definet_flows
from definet_flows.atomic import write_whole
from definet_flows.foreign import plain
from definet_flows.report import summary
from definet_flows.report.figures.accuracy import accuracy_charts
from definet_flows.report.figures.costs import cost_charts
from definet_flows.report.figures.interactive import figure_json
from definet_flows.report.figures.overlays import arrow_scale, title
from definet_flows.schemas import signed

if TYPE_CHECKING:
    from pathlib import Path

    from definet_flows.report.cards import Card
    from definet_flows.report.figures.charts import Chart
    from definet_flows.report.figures.overlays import Overlay
    from definet_flows.report.reading import Contents

_ASSETS = files("definet_flows.report") / "assets"
_SCRIPTS = ("theme.js", "figures.js", "structures.js", "table.js")

COLUMNS = (
    "defects",
    "charge",
    "configuration",
    "host",
    "sites",
    "n",
    "engine",
    "start from",
    "gate",
    "unrelaxed",
    "predicted",
    "saved",
    "error [Å]",
    "outcome",
    "why",
)
"""Of the table of configurations"""


def all_charts(contents: Contents) -> list[Chart]:
    """Return every chart of the report in the order of the page."""
    return [*cost_charts(contents), *accuracy_charts(contents)]


def write_page(contents: Contents, path: Path) -> int:
    """Write the page and return its size, bytes; only a complete page replaces an existing file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    html = render(contents)
    write_whole(path, html)
    return len(html.encode())


def render(contents: Contents) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("definet_flows.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    scripts = [get_plotlyjs(), _text("3Dmol-min.js"), *map(_text, _SCRIPTS)]
    charts = all_charts(contents)
    return environment.get_template("page.html.j2").render(
        **_words(contents),
        charts=[chart for chart in charts if not chart.empty],
        not_drawn=[chart for chart in charts if chart.empty],
        style=_text("page.css"),
        scripts=scripts,
        hashes=[_csp_hash(script) for script in scripts],
        data=_plain(
            {
                "charts": {chart.key: figure_json(chart) for chart in charts if not chart.empty},
                "overlays": [_drawn(drawing) for drawing in contents.worst],
                "columns": list(COLUMNS),
                "rows": _table(contents),
            }
        ),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - what the page shows
    """Return text, alone or in lists and tables, with its control characters visible; scripts stay as they are."""
    if type(value) is str:  # no Markup, which is a str too
        return plain(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _text(name: str) -> str:
    text = (_ASSETS / name).read_text(encoding="utf-8")
    assert "</script" not in text  # noqa: S101 - it would end the element that the text stands in
    return text


def _csp_hash(script: str) -> str:
    """Return the source that lets this script, and no other, run in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _words(contents: Contents) -> dict[str, Any]:
    """Return the words of the template."""
    engines = sorted({row.engine for row in contents.rows})
    return {
        "contents": contents,
        "worst": [{"title": title(one), "largest": one.largest} for one in contents.worst],
        "cards": [_card(card) for card in contents.cards],
        "message": contents.total.message,
        "same_meaning": summary.SAME_MEANING,
        "counts": summary.counts(contents.total),
        "judges": summary.judges(engines),
        "wall_time": summary.wall_time(contents.spent),
        "hosts": ", ".join(sorted({row.host for row in contents.rows})),
        "configurations": len({row.configuration_id for row in contents.rows}),
        "group_headings": summary.GROUP_HEADINGS,
        "groups": {
            summary.GROUP_LABELS.get(by, by): summary.group_rows(groups)
            for by, groups in contents.groups.items()
            if groups
        },
        "columns": COLUMNS,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": definet_flows.__version__,
    }


def _card(card: Card) -> dict[str, Any]:
    """Return the words of a card."""
    savings = card.savings
    return {
        "label": card.label,
        "known": savings.saving is not None,
        "saved": summary.percent(savings.saving),
        "interval": summary.interval(savings.ionic),
        "pairs": savings.same_minimum,
        "unrelaxed": f"{savings.ionic.unrelaxed or 0:,.0f}",
        "predicted": f"{savings.ionic.predicted or 0:,.0f}",
        "message": savings.message,
        "last": card.times.last[:16].replace("T", " ") if card.times else "",
        "costs": summary.costs(savings),
        "wall_time": "" if savings.core_hours.pairs else summary.wall_time(card.spent),
        "outcomes": summary.outcomes(savings),
    }


def _drawn(drawing: Overlay) -> dict[str, Any]:
    shown = drawing.model_dump(mode="json", exclude={"record_id", "largest", "charge"})
    return shown | {"name": title(drawing), "scale": arrow_scale(drawing)}


def _table(contents: Contents) -> list[list[object]]:
    """Return the cells of the table, in the order of `COLUMNS`."""
    return [
        [
            row.name,
            signed(row.charge),
            row.configuration_id,
            row.host,
            row.n_sites,
            row.n_defects,
            row.engine,
            row.start,
            row.gate,
            row.steps_unrelaxed,
            row.steps_predicted,
            _saved(row.steps_unrelaxed, row.steps_predicted),
            None if row.key not in contents.errors else round(contents.errors[row.key], 4),
            row.outcome,
            row.error or row.reason,
        ]
        for row in contents.rows
    ]


def _saved(unrelaxed: int | None, predicted: int | None) -> float | None:
    return round(1 - predicted / unrelaxed, 4) if unrelaxed and predicted is not None else None
