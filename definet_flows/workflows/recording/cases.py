"""From a configuration to its relaxations: the starts, their structures and records. Pure: no jobs here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from definet_flows.defects import build_structure, nodes, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.schemas import (
    NOT_PREDICTED,
    VACANCY,
    Configuration,
    DefectRecord,
    FloatArray,
    Frozen,
    Host,
    HostNote,
    Prediction,
    PredictionNote,
    Provenance,
    SiteMap,
    Start,
    Table,
    base_hash,
    content_hash,
)
from definet_flows.workflows.recording.provenance import now, versions

if TYPE_CHECKING:
    import numpy.typing as npt
    from pymatgen.core import Structure

    from definet_flows.workflows.engines.base import Engine


class Pristine(Frozen):
    """The bulk supercell and the positions that a campaign's edits and displacements start from."""

    host: Host
    base: Table = Field(description="Cartesian positions of the host's sites, Å, [n_sites, 3]")
    source: Literal["as given", "relaxed", "reused"] = Field(
        description="whether the base is the host as given, or relaxed by the engine, now or earlier"
    )

    @property
    def base_hash(self) -> str:
        """Identity of the base: positions in whole 1e-6 Å, as they are stored."""
        return base_hash(self.base)


def settings_hash_of(engine: Engine, *, relaxed_host: bool) -> str:
    """Return the hash that the relaxations of a pair must share: settings of the engine, and kind of base."""
    return engine.settings_hash if relaxed_host else content_hash("host as given", engine.settings_hash)


@dataclass(frozen=True)
class PlannedConfiguration:
    """A configuration of a campaign; its starts, their structures and their records follow from it.

    Attributes
    ----------
    pristine
        Host and base.
    configuration
        The edits.
    engine
        The engine of both relaxations.
    weights
        Key of the pre-relaxer; for the network the sha256 of the weights.
    prediction
        Its proposal; None if it failed as a whole.
    """

    pristine: Pristine
    configuration: Configuration
    engine: Engine
    weights: str
    prediction: Prediction | None

    @property
    def configuration_id(self) -> str:
        """Identity of the configuration."""
        return self.configuration.id_in(self.pristine.host.hash)

    @property
    def settings_hash(self) -> str:
        """Hash that both relaxations share."""
        return settings_hash_of(self.engine, relaxed_host=self.pristine.source != "as given")

    @property
    def note(self) -> PredictionNote:
        """The part of the prediction that the records keep; a missing prediction counts as rejected."""
        if self.prediction is None:
            return PredictionNote(weights=self.weights, seconds=None, device="none", gate=NOT_PREDICTED)
        kept = {name: getattr(self.prediction, name) for name in PredictionNote.model_fields}
        return PredictionNote(**kept)

    def starts(self, *, control: bool) -> tuple[Start, ...]:
        """Return the starts to relax: predicted if the prediction is fit; unrelaxed if it is not, or for control."""
        if self.predicted is None or self.note.gate.verdict == "rejected":
            return ("unrelaxed",)
        return ("unrelaxed", "predicted") if control else ("predicted",)

    def record_id(self, start: Start) -> str:
        """Return the identity of the record of a start."""
        return DefectRecord.identity(self.configuration_id, self.settings_hash, start, self.weights)

    @cached_property
    def unrelaxed(self) -> FloatArray:
        """Cartesian positions of all rows before any relaxation, Å, [n_rows, 3]."""
        table = unrelaxed_positions(self.pristine.host, self.configuration)
        table[: len(self.pristine.base)] = self.pristine.base
        return table

    @cached_property
    def predicted(self) -> FloatArray | None:
        """Cartesian positions of all rows as predicted, Å, [n_rows, 3]; None without a prediction."""
        if self.prediction is None or self.prediction.displacements is None:
            return None
        table = self.unrelaxed.copy()
        moved = self.prediction.displacements
        table[: len(moved)] += moved
        return table

    def structure(self, start: Start) -> Structure:
        """Return the structure that the engine gets for a start.

        Raises
        ------
        InputError
            For the predicted start of a configuration without a prediction.
        """
        if start not in self._structures:
            self._structures[start] = self._structure(start)
        return self._structures[start]

    @cached_property
    def _structures(self) -> dict[Start, Structure]:
        return {}

    def _structure(self, start: Start) -> Structure:
        positions = self.unrelaxed if start == "unrelaxed" else self.predicted
        if positions is None:
            msg = f"configuration {self.configuration_id} has no prediction to start from"
            raise InputError(msg)
        host = self.pristine.host
        _, markers = nodes(host, self.configuration)
        defects = self.unrelaxed[markers != 0] @ np.linalg.inv(host.lattice)
        unrelaxed = build_structure(host, self.configuration, self.unrelaxed)
        return self.engine.prepare(build_structure(host, self.configuration, positions), unrelaxed, defects)

    def running(self, start: Start, job_uuid: str, earlier: DefectRecord | None = None) -> DefectRecord:
        """Return the record of a start before its relaxation, which `finished` completes.

        Parameters
        ----------
        start
            The start.
        job_uuid
            The engine's job.
        earlier
            The record of this start from a run that stopped: its attempts count, and its last positions are kept.
        """
        numbers, markers = nodes(self.pristine.host, self.configuration)
        atoms = np.flatnonzero(markers != VACANCY)
        permutation = atoms[list(self.engine.site_order(self.structure(start)))]
        running = earlier is not None and earlier.status == "running"  # its folder is looked for by `take_over`
        place = earlier.provenance if earlier is not None and running else Provenance()
        return DefectRecord(
            id=self.record_id(start),
            configuration_id=self.configuration_id,
            settings_hash=self.settings_hash,
            engine=self.engine.name,
            start=start,
            status="running",
            host=HostNote.of(self.pristine.host),
            name=self.configuration.name,
            n_defects=len(self.configuration.edits),
            configuration=self.configuration,
            sites=SiteMap(
                numbers=tuple(numbers.tolist()),
                markers="".join(map(str, markers)),
                unrelaxed=self.unrelaxed,
                predicted=self.predicted,
                last=earlier.sites.last if earlier and earlier.sites else None,
                rattle=self._rattle(permutation),
                permutation=tuple(permutation.tolist()),
            ),
            prediction=self.note,
            ledger=earlier.ledger if earlier else None,
            provenance=Provenance(
                versions=versions(),
                started=now(),
                job_uuid=job_uuid,
                hostname=place.hostname,
                directory=place.directory,
            ),
        )

    def _rattle(self, permutation: npt.NDArray[np.int64]) -> FloatArray | None:
        vectors = self.engine.rattle(len(permutation))
        if vectors is None:
            return None
        table = np.zeros_like(self.unrelaxed)
        table[permutation] = vectors
        return table
