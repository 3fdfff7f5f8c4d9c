"""Retraining, trials and active learning."""

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings
