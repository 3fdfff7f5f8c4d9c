"""A record as a query reads it: everything but the structures, below 2 kB."""

from __future__ import annotations

from pydantic import Field

from definet_flows.schemas import Frozen, Ledger, PredictionNote, Start, Status


class HostKey(Frozen):
    """What a query needs to know of a record's host."""

    formula: str
    hash: str
    n_sites: int


class ChargeKey(Frozen):
    """What a query needs to know of a record's configuration."""

    charge: int = Field(default=0, description="net charge, e")


class LedgerRow(Frozen):
    """A DefectRecord without structures, edits and provenance."""

    kind: str
    id: str
    schema_version: int
    configuration_id: str
    settings_hash: str
    engine: str
    start: Start
    status: Status
    host: HostKey
    name: str = Field(description="defect names, such as v_S+W_Mo")
    n_defects: int
    configuration: ChargeKey
    prediction: PredictionNote | None = None
    ledger: Ledger | None = None
    error: str | None = None

    @property
    def steps(self) -> int:
        """Force evaluations this relaxation is known to have taken; zero if it made none."""
        return (self.ledger.ionic_steps or 0) if self.ledger else 0

    @property
    def charge(self) -> int:
        """Net charge of the configuration, e."""
        return self.configuration.charge

    @property
    def weights(self) -> str | None:
        """The sha256 of the weights that predicted this start or were refused."""
        return self.prediction.weights if self.prediction else None

    @property
    def pairing(self) -> tuple[str, str]:
        """What both relaxations of a pair share: configuration and settings."""
        return self.configuration_id, self.settings_hash


LEDGER_FIELDS = [
    *(name for name in LedgerRow.model_fields if name not in ("host", "configuration")),
    *(f"host.{name}" for name in HostKey.model_fields),
    "configuration.charge",
]
"""The projection that a LedgerRow is read with."""
