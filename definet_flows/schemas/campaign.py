"""Documents that a launch leaves in the record store, to show its progress without enumerating again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from definet_flows.schemas.base import Document, content_hash


class LaunchedCampaign(Document):
    """A campaign that was launched; some 75 bytes for each configuration."""

    kind: Literal["campaign"] = "campaign"
    name: str = Field(description="host, its number of sites, and the number of configurations")
    engine: str
    settings_hash: str
    weights: str = Field(description="key of the pre-relaxer; a hash of several")
    keys: tuple[str, ...] = Field(default=(), description="keys of the pre-relaxers; empty: `weights` is the only one")
    configuration_ids: tuple[str, ...]
    sizes: tuple[int, ...] = Field(default=(), description="number of defects of each configuration; empty: unknown")
    controls: tuple[str, ...] = Field(description="ids of those that are relaxed from both starts")
    launched: str = Field(description="first launch: UTC, ISO 8601")
    queue: str = Field(description="fireworks or jobflow-remote")

    @staticmethod
    def identity(ids: tuple[str, ...], controls: tuple[str, ...], settings_hash: str, weights: str) -> str:
        """Return the id of a campaign."""
        return content_hash("campaign", sorted(ids), sorted(controls), settings_hash, weights)
