"""Modules of fixtures whose helpers other tests import too: their assertions are to be rewritten whoever comes first."""

import pytest

pytest.register_assert_rewrite("flow_fixtures", "mongo_server", "queue_helpers", "vasp_fixtures")
