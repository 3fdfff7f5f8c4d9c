"""Who proposes a start: pre-relaxers by name, and the choice of one for a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from definet_flows.schemas.base import Document, Frozen, content_hash

DEFINET = "definet"
"""Name of the network as a pre-relaxer."""

FIELDS = "fields"
"""Name of the recorded displacement fields as a pre-relaxer."""

AUTO = "auto"
"""Name of the choice by evidence, a pre-relaxer for each configuration."""

NO_PRERELAXER = f"{AUTO}: no pre-relaxer; "
"""What the reason begins with where `auto` found no fit proposal; the reasons of all that were asked follow."""


class PreRelaxerName(Frozen):
    """A pre-relaxer of a campaign."""

    name: str = Field(description='what a user gives: "definet", "fields", "potential:sevennet", chains with "+"')
    key: str = Field(description="its identity in predictions and records: the sha256 of a network's weights, a hash")
    model: str | None = Field(default=None, description="registry id or path of the network that it asks")


class KnownPreRelaxer(Document):
    """The name of a key that predictions and records hold; a key without this document is a network's."""

    kind: Literal["prerelaxer"] = "prerelaxer"
    key: str
    name: str

    @classmethod
    def of(cls, named: PreRelaxerName) -> KnownPreRelaxer:
        """Return the document of a pre-relaxer."""
        return cls(id=content_hash("prerelaxer", named.key), key=named.key, name=named.name)


class Choice(Document):
    """The pre-relaxer that was chosen for a configuration; a later run keeps it."""

    kind: Literal["choice"] = "choice"
    configuration_id: str
    settings_hash: str
    name: str | None = Field(description="of the pre-relaxer; None: the relaxation starts unrelaxed")
    key: str | None = Field(description="of the pre-relaxer")
    reason: str = Field(description="why it was chosen, in words with numbers")

    @staticmethod
    def identity(configuration_id: str, settings_hash: str) -> str:
        """Return the id of the choice for a configuration with an engine's settings."""
        return content_hash("choice", configuration_id, settings_hash)
