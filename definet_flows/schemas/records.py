"""Documents of predictions and relaxations."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field

from definet_flows.schemas.base import VACANCY, Document, Frozen, IntMatrix, Matrix, Table, content_hash
from definet_flows.schemas.configuration import Configuration, Host
from definet_flows.schemas.starts import DEFINET

# ------------------------------------------------------------------ prediction


class Gate(Frozen):
    """Whether a prediction may start a relaxation."""

    verdict: Literal["accepted", "flagged", "rejected"]
    in_domain: bool = Field(default=True, description="elements, markers, charge and host are ones the weights saw")
    reason: str = Field(default="", description="why it was flagged or rejected, in words with numbers")


NOT_PREDICTED = Gate(verdict="rejected", reason="no prediction: the prediction job failed")
"""The verdict on a prediction that is missing."""


class Prediction(Document):
    """A pre-relaxer's proposal for a configuration, written on the machine of the record store."""

    kind: Literal["prediction"] = "prediction"
    configuration_id: str
    weights: str = Field(description="key of the pre-relaxer: for the network, sha256 of the weights")
    base: str = Field(description="hash of the host positions that the displacements were added to")
    displacements: Table | None = Field(
        description="per pristine site, then per inserted atom where the pre-relaxer moves these, Å; None if it failed"
    )
    gate: Gate
    seconds: float | None = Field(description="wall seconds per structure, batch shared out evenly; None if unknown")
    core_seconds: float | None = Field(
        default=None, description="wall seconds times the cores that were busy, per structure; None if unknown"
    )
    device: str
    uncertainty: float | None = Field(default=None, description="expected mean |error|, Å")
    error: str | None = None
    prerelaxer: str = Field(default=DEFINET, description="name of the pre-relaxer")
    learned_from: str | None = Field(default=None, description="hash of what it learned from; None: `weights` says it")
    note: str = Field(default="", description="what a reader must know about the proposal")

    @staticmethod
    def identity(configuration_id: str, weights: str, base: str) -> str:
        """Return the id of the prediction of a configuration by a pre-relaxer's key."""
        return content_hash("prediction", configuration_id, weights, base)


class PredictionNote(Frozen):
    """The part of a prediction that a record keeps."""

    weights: str = Field(description="key of the pre-relaxer: for the network, sha256 of the weights")
    seconds: float | None = Field(description="wall seconds per structure; None if unknown")
    core_seconds: float | None = Field(
        default=None, description="wall seconds times the cores that were busy, per structure; None if unknown"
    )
    device: str
    uncertainty: float | None = Field(default=None, description="expected mean |error|, Å")
    gate: Gate
    prerelaxer: str = Field(default=DEFINET, description="name of the pre-relaxer")
    learned_from: str | None = Field(default=None, description="hash of what it learned from; None: `weights` says it")
    note: str = Field(default="", description="what a reader must know about the proposal")


# ------------------------------------------------------------------ relaxation


class Attempt(Frozen):
    """One execution of the engine; custodian may need several for one relaxation."""

    ionic_steps: int = Field(ge=0, description="force evaluations")
    electronic_steps: int | None = None
    optimizer: str | None = None
    corrections: tuple[str, ...] = ()
    changed_tags: dict[str, str] = Field(default_factory=dict, description="INCAR tags this attempt changed")
    finished: bool = True
    directory: str | None = Field(default=None, description="machine:/folder it ran in")


class Ledger(Frozen):
    """What a relaxation cost and where it ended; below 2 kB, readable without the structures."""

    ionic_steps: int | None = Field(ge=0, description="all force evaluations, restarts included; None if unknown")
    electronic_steps: int | None = None
    attempts: tuple[Attempt, ...] = ()
    converged: bool = Field(description="final maximum force at or below the criterion")
    force_criterion: float | None = Field(description="eV/Å; None if unknown")
    start_max_force: float | None = Field(default=None, description="largest |force| at the start, eV/Å")
    max_force: float | None = Field(default=None, description="largest |force| at the end, eV/Å")
    energy: float | None = Field(default=None, description="final energy of the cell, eV")
    magnetization: float | None = Field(default=None, description="final total moment, μB")
    optimizer: str | None = None
    wall_seconds: float | None = Field(default=None, description="wall time of all attempts, s")
    cores: int | None = None
    core_hours: float | None = Field(
        default=None, description="cores x wall time, with an ASE calculator processor time, of all attempts, h"
    )
    point_group_start: str | None = None
    point_group_end: str | None = None
    inputs: str | None = Field(default=None, description="hash of all that the engine was given but the positions")
    potcars: dict[str, str] = Field(default_factory=dict, description="TITEL of each POTCAR and sha256 of its file")
    notes: tuple[str, ...] = Field(default=(), description="what a reader must know, e.g. a changed optimiser")


class SiteMap(Frozen):
    """One table over the pristine sites, placeholders included, then the inserted atoms."""

    numbers: tuple[int, ...] = Field(description="node's atomic number (a vacancy's is the missing element's)")
    markers: str = Field(description="one digit per row: 0 pristine, 1 substitution, 2 vacancy, 3 inserted")
    unrelaxed: Table = Field(description="Cartesian, Å")
    predicted: Table | None = Field(default=None, description="Cartesian, Å")
    rattle: Table | None = Field(
        default=None, description="added to the start, the same from both starts, Å; None: none"
    )
    relaxed: Table | None = Field(default=None, description="Cartesian, Å; a placeholder keeps its unrelaxed row")
    last: Table | None = Field(default=None, description="Cartesian, Å; where an unfinished relaxation stopped")
    permutation: tuple[int, ...] = Field(description="engine row k holds table row permutation[k]")

    @property
    def n_atoms(self) -> int:
        """Number of atoms (rows that are not vacancies)."""
        return len(self.markers) - self.markers.count(str(VACANCY))


class Provenance(Frozen):
    """Where, when and with what a record was made."""

    versions: dict[str, str] = Field(default_factory=dict)
    hostname: str | None = None
    started: str | None = Field(default=None, description="UTC, ISO 8601")
    finished: str | None = Field(default=None, description="UTC, ISO 8601")
    directory: str | None = None
    job_uuid: str | None = Field(default=None, description="the engine's job; its document holds the trajectory")
    owner: str | None = Field(default=None, description="the job that began the relaxation: no other may while it runs")
    pid: int | None = Field(default=None, description="process of a flow that ran in one process on `hostname`")
    session: str | None = Field(default=None, description="that process's lease, renewed in the store while it lives")


class HostNote(Frozen):
    """The part of the host that a record keeps."""

    formula: str
    hash: str
    lattice: Matrix = Field(description="lattice vectors as rows, Å")
    matrix: IntMatrix
    dimensionality: int
    n_sites: int
    provenance: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, host: Host) -> HostNote:
        """Return the part of a host that a record keeps."""
        return cls(**{name: getattr(host, name) for name in cls.model_fields})


class RelaxedHost(Document):
    """The bulk supercell relaxed by an engine; the base that displacements are added to."""

    kind: Literal["host"] = "host"
    host: HostNote
    settings_hash: str
    relaxed: Table = Field(description="Cartesian, host site order, Å")
    ledger: Ledger
    provenance: Provenance = Provenance()

    @staticmethod
    def identity(host_hash: str, settings_hash: str) -> str:
        """Return the id of a host relaxed with the settings of this hash."""
        return content_hash("relaxed host", host_hash, settings_hash)


Start = Literal["unrelaxed", "predicted"]
Status = Literal["running", "done", "failed"]


class DefectRecord(Document):
    """One relaxation of one configuration, from one start."""

    kind: Literal["record"] = "record"
    configuration_id: str
    settings_hash: str = Field(description="hash of everything that the relaxations of a pair must share")
    engine: str = Field(description="engine name, such as vasp or sevennet")
    start: Start
    status: Status
    host: HostNote
    name: str = Field(description="defect names, such as v_S+W_Mo")
    n_defects: int
    configuration: Configuration
    sites: SiteMap | None = Field(default=None, description="without relaxed coordinates until done")
    prediction: PredictionNote | None = None
    ledger: Ledger | None = None
    provenance: Provenance = Provenance()
    error: str | None = None

    @staticmethod
    def identity(configuration_id: str, settings_hash: str, start: Start, weights: str | None) -> str:
        """Return the record_id; `weights` (sha256) counts only for the predicted start."""
        return content_hash("record", configuration_id, settings_hash, start, weights if start == "predicted" else None)


class HostRun(Document):
    """The relaxation of a bulk supercell that has begun; a RelaxedHost says what it came to."""

    kind: Literal["host-run"] = "host-run"
    host: HostNote
    settings_hash: str
    status: Status = "running"
    sites: SiteMap
    ledger: Ledger | None = Field(default=None, description="of the launches that were killed")
    provenance: Provenance = Provenance()
    error: str | None = None

    @staticmethod
    def identity(host_hash: str, settings_hash: str) -> str:
        """Return the id of the relaxation of a host with the settings of this hash."""
        return content_hash("host run", host_hash, settings_hash)


AnyRun = TypeVar("AnyRun", DefectRecord, HostRun)
"""A relaxation that may be killed and go on: of a configuration, or of a bulk supercell."""
