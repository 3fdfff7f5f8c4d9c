"""Weights of two hosts, and the search for their structures."""

import pytest
from file_helpers import small_checkpoint

from definet_flows.structures.match import finder_for


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("weights") / "small.safetensors", "MoS2", "WSe2")


@pytest.fixture
def finder(checkpoint):
    return finder_for(checkpoint.card, "MoS2", (4, 4, 1))
