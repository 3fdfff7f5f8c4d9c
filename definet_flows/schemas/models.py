"""What retraining leaves in a record store: supercells as given."""

from __future__ import annotations

from typing import Literal

from definet_flows.schemas.base import Document, content_hash
from definet_flows.schemas.configuration import Host


class Supercell(Document):
    """A pristine supercell as given: a relaxed base does not tell it, and it is what the network is shown."""

    kind: Literal["supercell"] = "supercell"
    host: Host

    @staticmethod
    def identity(host_hash: str) -> str:
        """Return the id of the supercell with this hash."""
        return content_hash("supercell", host_hash)

    @classmethod
    def of(cls, host: Host) -> Supercell:
        """Return the document of a supercell."""
        return cls(id=cls.identity(host.hash), host=host)
