"""What a relaxation starts from, and what its record says: pure, no jobs."""

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings
