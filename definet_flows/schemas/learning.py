"""Documents that active learning leaves in a record store, for each round."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from definet_flows.schemas.base import Document, content_hash
from definet_flows.schemas.models import ModelRef


class Round(Document):
    """State of active learning on a pool, and the configurations that it relaxes next."""

    kind: Literal["round"] = "round"
    learning: str = Field(description="identity of the pool, the engine's settings and the strategy")
    number: int = Field(ge=0)
    strategy: str
    weights: ModelRef = Field(description="champion when this round began; its predictions start the relaxations")
    error: float | None = Field(description="its mean |component| error on held-out configurations, Å")
    held_out: int = Field(description="configurations in that mean")
    relaxed: int = Field(description="configurations that earlier rounds chose")
    ionic_steps: int = Field(description="cost of relaxing these, from all starts")
    core_hours: float | None = Field(description="what relaxing these took; None where the engine does not tell")
    chosen: tuple[str, ...] = Field(description="configuration_ids to relax in this round; none in the last")
    stop: str | None = Field(description="why this is the last round; None: it is not")
    at: str = Field(description="UTC, ISO 8601")

    @staticmethod
    def identity(learning: str, number: int) -> str:
        """Return the id of a round."""
        return content_hash("round", learning, number)
