"""Assertions in modules of fixtures are rewritten, whichever module imports them first."""

import pytest

pytest.register_assert_rewrite("flow_fixtures", "mongo_server", "queue_helpers", "vasp_fixtures")
