"""Relaxations that stopped or were made elsewhere: continued, rebuilt, ingested."""

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings
