"""Makers that relax the atoms of a fixed cell."""

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings
