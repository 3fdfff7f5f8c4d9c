"""The documentation site: `nox -s docs` builds it, and every warning is an error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import definet_flows

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent)]
from messages import page  # noqa: E402 - lies beside this file

project = "definet_flows"
author = "The definet_flows developers"
project_copyright = author
version = release = definet_flows.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links to a heading are those of GitHub
suppress_warnings = ["myst.header"]  # tables that commands print begin with a heading of the third level

autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_ivar = True  # an attribute that is documented in its class is not listed twice
napoleon_use_rtype = False
rst_epilog = r".. |component| replace:: \|component\|"  # docstrings write a mean of absolute values so

ON_THE_SITE = {
    "CONTRIBUTING.md": "/contributing.md",
    "examples/cluster": "/examples.md",
    "definet_flows/model/weights/definet-2dmd.md": "/model-card.md",
}
"""Files of the repository outside of this folder, each with the page that shows it."""

_OUTSIDE = re.compile(r"\]\((?:\.\./)+(" + "|".join(map(re.escape, ON_THE_SITE)) + r")\)")


def stay_on_the_site(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Point a link to a file of the repository at the page that shows the file."""
    source[0] = _OUTSIDE.sub(lambda link: f"]({ON_THE_SITE[link[1]]})", source[0])


def write_messages(_app: Sphinx) -> None:
    """Write the page of all messages from the code."""
    (HERE / "_api").mkdir(exist_ok=True)
    (HERE / "_api" / "messages.md").write_text(page(), encoding="utf-8")


def write_reports(app: Sphinx, error: Exception | None) -> None:
    """Write the report of each campaign that has committed records, `reports/NAME-gpaw.html` of the site."""
    from standins.dft_campaign import CAMPAIGNS  # noqa: PLC0415 - of the repository, and only where a site is built
    from standins.dft_page import write_report  # noqa: PLC0415

    for campaign in CAMPAIGNS.values():
        if error is None and app.builder.format == "html" and campaign.data.is_file():
            path = Path(app.outdir) / "reports" / f"{campaign.name}-gpaw.html"
            path.parent.mkdir(exist_ok=True)
            write_report(campaign.data, path)


def setup(app: Sphinx) -> None:
    """Connect all of them to the build."""
    app.connect("builder-inited", write_messages, priority=100)
    app.connect("source-read", stay_on_the_site)
    app.connect("build-finished", write_reports)
