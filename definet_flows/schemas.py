"""What crosses a job or a store: frozen, versioned, every physical field with its unit.

Everything here is plain data. Structures are built from it where they are needed
(`definet_flows.hosts`, `definet_flows.defects`), so that a document stays small: coordinate tables
are stored as whole numbers of 1e-6 Å in one flat list, which keeps the record of a 192-site cell
below 30 kB in BSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pymatgen.core import Element

SCHEMA_VERSION = 1

PRISTINE, SUBSTITUTION, VACANCY, INSERTED = 0, 1, 2, 3
"""Site markers: the first three are the network's input, an inserted atom it does not know."""

_MICRO = 1_000_000

FloatArray = npt.NDArray[np.float64]
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
IntMatrix = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


def _table_from(value: object) -> FloatArray:
    """Accept an array in Å or the stored flat list of whole 1e-6 Å."""
    if isinstance(value, np.ndarray):
        return np.asarray(value, dtype=np.float64).reshape(-1, 3)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return np.asarray(value, dtype=np.float64).reshape(-1, 3) / _MICRO
    msg = f"a coordinate table is an array [n, 3] in Å or a list of whole 1e-6 Å, not {value!r}"
    raise ValueError(msg)


def _table_to(value: FloatArray) -> list[int]:
    return [int(x) for x in np.rint(np.asarray(value) * _MICRO).ravel()]


Table = Annotated[
    FloatArray,
    BeforeValidator(_table_from),
    PlainSerializer(_table_to, return_type=list[int]),
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "description": "1e-6 Å, row by row"}),
]
"""Coordinates or displacements, shape [n, 3], Å in memory, whole 1e-6 Å when stored."""


def content_hash(*parts: object) -> str:
    """Return 32 hex digits that depend on nothing but the content of `parts` (JSON-able)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Frozen(BaseModel):
    """Base of everything that crosses a boundary: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


# ------------------------------------------------------------------ host and configuration


class Host(Frozen):
    """A validated pristine supercell with a fixed site order; rows are sites everywhere else."""

    formula: str = Field(description="reduced formula, such as MoS2")
    lattice: Matrix = Field(description="lattice vectors as rows, Å")
    numbers: tuple[int, ...] = Field(description="atomic number of each site, [n_sites]")
    frac_coords: tuple[Vector, ...] = Field(description="fractional coordinates in [0, 1), [n_sites, 3]")
    matrix: IntMatrix = Field(description="supercell matrix that multiplied the unit cell's vectors")
    dimensionality: int = Field(ge=0, le=3, description="2 for a layer, 3 for a bulk crystal")
    vacuum: float | None = Field(default=None, description="gap between periodic layers, Å; None in bulk")
    provenance: dict[str, str] = Field(
        default_factory=dict, description="where the cell comes from: source, functional, notes"
    )

    @property
    def n_sites(self) -> int:
        """Number of pristine sites."""
        return len(self.numbers)

    @property
    def hash(self) -> str:
        """Identity of the supercell as given: lattice, elements, positions and site order."""
        lattice = [round(x, 5) + 0.0 for row in self.lattice for x in row]
        coords = [round(x % 1.0, 5) % 1.0 for row in self.frac_coords for x in row]
        return content_hash("host", lattice, list(self.numbers), coords)

    @property
    def cartesian(self) -> FloatArray:
        """Cartesian coordinates of the sites, Å, [n_sites, 3]."""
        return np.array(self.frac_coords, dtype=np.float64) @ np.array(self.lattice, dtype=np.float64)


class Edit(Frozen):
    """One edited site of the pristine supercell, or one inserted atom."""

    marker: Literal[1, 2, 3] = Field(description="1 substitution, 2 vacancy, 3 inserted atom")
    site: int | None = Field(default=None, description="pristine site index; None for an inserted atom")
    old: int | None = Field(default=None, description="atomic number that was there; None if inserted")
    new: int | None = Field(default=None, description="atomic number placed there; None for a vacancy")
    position: Vector | None = Field(default=None, description="fractional coordinates of an inserted atom")

    @model_validator(mode="after")
    def _consistent(self) -> Edit:
        inserted = self.marker == INSERTED
        complete = (
            (self.site is None) == inserted
            and (self.old is None) == inserted
            and (self.position is None) == (not inserted)
            and (self.new is None) == (self.marker == VACANCY)
        )
        if not complete:
            msg = f"an edit with marker {self.marker} cannot have site={self.site}, old={self.old}, new={self.new}"
            raise ValueError(msg)
        return self

    @property
    def name(self) -> str:
        """Name in the field's notation: `v_S`, `W_Mo`, `Li_i`."""
        if self.marker == INSERTED:
            return f"{_symbol(self.new)}_i"
        return f"{'v' if self.marker == VACANCY else _symbol(self.new)}_{_symbol(self.old)}"


def _step(coordinate: float) -> int:
    """Return a fractional coordinate in whole 1e-5; the offset keeps simple fractions away from where it rounds."""
    return round((coordinate + 1.37e-6) * 1e5) % 100_000


def _symbol(number: int | None) -> str:
    return str(Element.from_Z(number or 0).symbol)


def joined_name(names: Iterable[str]) -> str:
    """Return the name of a combination of defects: vacancies first, such as `v_S+W_Mo`."""
    return "+".join(sorted(names, key=lambda name: (not name.startswith("v_"), name)))


class Configuration(Frozen):
    """A small edit list on a pristine supercell, in its symmetry-canonical placement."""

    edits: tuple[Edit, ...]
    charge: int = Field(default=0, description="net charge, elementary charges")
    multiplicity: int = Field(default=1, ge=1, description="symmetry-equivalent placements in the supercell")

    @property
    def name(self) -> str:
        """Names of the defects, vacancies first, such as `v_S+W_Mo` or `v_S+v_S`."""
        return joined_name(edit.name for edit in self.edits)

    def id_in(self, host_hash: str) -> str:
        """Return the configuration_id: hash of the supercell, the placement and the charge."""
        edits = sorted(
            [e.site if e.site is not None else -1, e.marker, e.new or 0, *map(_step, e.position or ())]
            for e in self.edits
        )
        return content_hash("configuration", host_hash, edits, self.charge)


# ------------------------------------------------------------------ prediction


class Gate(Frozen):
    """Whether a prediction may start a relaxation."""

    verdict: Literal["accepted", "flagged", "rejected"]
    in_domain: bool = Field(default=True, description="elements, markers, charge and host are ones the weights saw")
    reason: str = Field(default="", description="why it was flagged or rejected, in words with numbers")


class Document(Frozen):
    """What a record store holds; `id` is its identity and the key of the upsert."""

    kind: str
    id: str
    schema_version: int = SCHEMA_VERSION


class Prediction(Document):
    """What the network said of one configuration; written on the record store's side."""

    kind: Literal["prediction"] = "prediction"
    configuration_id: str
    weights: str = Field(description="sha256 of the weights")
    base: str = Field(description="hash of the host positions that the displacements were added to")
    displacements: Table | None = Field(description="per pristine site, Å; None if the prediction failed")
    gate: Gate
    seconds: float = Field(description="wall seconds per structure, batch shared out evenly")
    device: str
    uncertainty: float | None = Field(default=None, description="expected mean |error|, Å")
    error: str | None = None

    @staticmethod
    def identity(configuration_id: str, weights: str, base: str) -> str:
        """Return the id of the prediction of one configuration by one set of weights."""
        return content_hash("prediction", configuration_id, weights, base)


class PredictionNote(Frozen):
    """The part of a prediction that a record keeps."""

    weights: str = Field(description="sha256 of the weights")
    seconds: float = Field(description="wall seconds per structure")
    device: str
    uncertainty: float | None = Field(default=None, description="expected mean |error|, Å")
    gate: Gate


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

    ionic_steps: int = Field(ge=0, description="all force evaluations, restarts included")
    electronic_steps: int | None = None
    attempts: tuple[Attempt, ...] = ()
    converged: bool = Field(description="final maximum force at or below the criterion")
    force_criterion: float = Field(description="eV/Å")
    start_max_force: float | None = Field(default=None, description="largest |force| at the start, eV/Å")
    max_force: float | None = Field(default=None, description="largest |force| at the end, eV/Å")
    energy: float | None = Field(default=None, description="final energy of the cell, eV")
    magnetization: float | None = Field(default=None, description="final total moment, μB")
    optimizer: str | None = None
    wall_seconds: float | None = Field(default=None, description="wall time of all attempts, s")
    cores: int | None = None
    core_hours: float | None = Field(default=None, description="cores x wall time, h")
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


class HostNote(Frozen):
    """The part of the host that a record keeps."""

    formula: str
    hash: str
    lattice: Matrix = Field(description="lattice vectors as rows, Å")
    matrix: IntMatrix
    dimensionality: int
    n_sites: int
    provenance: dict[str, str] = Field(default_factory=dict)


class RelaxedHost(Document):
    """The pristine supercell relaxed by one engine; the base that displacements are added to."""

    kind: Literal["host"] = "host"
    host: HostNote
    settings_hash: str
    relaxed: Table = Field(description="Cartesian, host site order, Å")
    ledger: Ledger
    provenance: Provenance = Provenance()

    @staticmethod
    def identity(host_hash: str, settings_hash: str) -> str:
        """Return the id of one host relaxed with one set of settings."""
        return content_hash("relaxed host", host_hash, settings_hash)


Start = Literal["unrelaxed", "predicted"]
Status = Literal["running", "done", "failed"]


class DefectRecord(Document):
    """One relaxation of one configuration, from one start."""

    kind: Literal["record"] = "record"
    configuration_id: str
    settings_hash: str = Field(description="hash of everything the two arms of a pair must share")
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


Verdict = Literal["same minimum", "better minimum", "other minimum", "unconverged", "not comparable"]


class Pair(Document):
    """Two records of one configuration and settings, one from each start, compared."""

    kind: Literal["pair"] = "pair"
    configuration_id: str
    settings_hash: str
    engine: str
    weights: str
    host_formula: str
    name: str
    n_sites: int
    n_defects: int
    steps_unrelaxed: int
    steps_predicted: int
    electronic_unrelaxed: int | None = None
    electronic_predicted: int | None = None
    core_hours_unrelaxed: float | None = None
    core_hours_predicted: float | None = None
    start_force_unrelaxed: float | None = Field(default=None, description="eV/Å")
    start_force_predicted: float | None = Field(default=None, description="eV/Å")
    energy_difference: float | None = Field(
        default=None, description="E(predicted end) - E(unrelaxed end), eV per cell"
    )
    distance: float | None = Field(default=None, description="largest displacement between the two ends, Å")
    moment_difference: float | None = Field(default=None, description="| |M| of one end - |M| of the other |, μB")
    same_inputs: bool | None = Field(
        default=None, description="both arms were given the same but the positions; None if an engine does not tell"
    )
    floor: int | None = Field(default=None, description="fewest evaluations the predicted arm's optimiser can take")
    notes: tuple[str, ...] = Field(default=(), description="what a reader must know, e.g. an optimiser changed")
    verdict: Verdict

    @staticmethod
    def identity(unrelaxed_id: str, predicted_id: str) -> str:
        """Return the id of the pair of two records."""
        return content_hash("pair", unrelaxed_id, predicted_id)


class Probe(Document):
    """The end of a relaxation, rattled and relaxed again: a minimum or a saddle."""

    kind: Literal["probe"] = "probe"
    record_id: str
    configuration_id: str
    settings_hash: str
    engine: str
    name: str
    rattle: float = Field(description="displacement of every atom, Å")
    seed: int
    ledger: Ledger | None = None
    energy_difference: float | None = Field(default=None, description="E(probe's end) - E(record's end), eV per cell")
    distance: float | None = Field(default=None, description="largest displacement from the record's end, Å")
    verdict: Literal["minimum", "saddle", "elsewhere", "unconverged", "failed"]
    error: str | None = None

    @staticmethod
    def identity(record_id: str, rattle: float, seed: int) -> str:
        """Return the id of one probe of one record."""
        return content_hash("probe", record_id, rattle, seed)


def dump(document: Document) -> dict[str, Any]:
    """Return the JSON-able dict that goes to a store."""
    return document.model_dump(mode="json")
