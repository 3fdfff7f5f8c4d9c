"""Assertions in modules of fixtures are rewritten, whichever module imports them first; tables have one width."""

import os

import pytest

pytest.register_assert_rewrite("flow_fixtures", "mongo_server", "queue_helpers", "vasp_fixtures")

# rich keeps the COLUMNS of the moment at which a console is made: made without, it follows what each test sets.
os.environ.pop("COLUMNS", None)
import definet_flows.cli.app  # noqa: F401, E402
