"""Relaxations of one configuration from both starts, found by an id, its beginning, or a name that is unique."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import DefectRecord, Pair, Prediction, PredictionNote
from definet_flows.stores import Filter
from definet_flows.stores.analysis.gates import base_of, both_starts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from definet_flows.stores import Records
    from definet_flows.stores.analysis.gates import Starts, StartsKey
    from definet_flows.stores.analysis.rows import RecordRow

_ID = 32  # characters of a whole id
_SHOWN = 5  # candidates named in an error


@dataclass(frozen=True, eq=False)
class CaseRecords:
    """Both relaxations of a configuration with the same settings and weights; a record may be missing."""

    unrelaxed: DefectRecord | None
    predicted: DefectRecord | None
    pair: Pair | None

    @property
    def records(self) -> list[DefectRecord]:
        """The records that exist, the unrelaxed start first."""
        return [record for record in (self.unrelaxed, self.predicted) if record is not None]

    @property
    def shown(self) -> DefectRecord:
        """The record whose structures are shown: from the prediction if it is done, else from the unrelaxed start."""
        done = [record for record in (self.predicted, self.unrelaxed) if record is not None and record.status == "done"]
        return (done or self.records[::-1])[0]

    @property
    def note(self) -> PredictionNote | None:
        """The prediction, as either record has it."""
        return next((record.prediction for record in self.records[::-1] if record.prediction is not None), None)


def find_cases(records: Records, identity: str) -> list[CaseRecords]:
    """Return the cases that an id or a name means: all of a configuration, or the case that a record belongs to.

    Parameters
    ----------
    records
        An open store.
    identity
        A configuration_id or the id of a record, or the beginning of either; or a name such as v_S, if a single
        configuration of the store has it.

    Raises
    ------
    InputError
        If no configuration begins like that or has that name, or several do.
    """
    configuration_id, record_id = _resolve(records, identity)
    where = Filter(configuration_ids=(configuration_id,))
    pairs: dict[StartsKey, Pair] = {(p.configuration_id, p.settings_hash, p.weights): p for p in records.pairs(where)}
    whole = {record.id: record for record in records.records(where)}
    cases = [
        _case(records, whole, both, pairs.get(both.key)) for both in sorted(both_starts(records, where), key=_order)
    ]
    cases = [case for case in cases if case.records]
    return [case for case in cases if record_id is None or record_id in {record.id for record in case.records}]


def told_once(cases: list[CaseRecords]) -> tuple[list[CaseRecords], list[CaseRecords]]:
    """Return the cases that show a relaxation of their own, and those that only add a proposal to relaxations shown."""
    own: list[CaseRecords] = []
    proposals: list[CaseRecords] = []
    shown: set[str] = set()
    for case in sorted(cases, key=lambda case: -len(case.records)):
        ids = {record.id for record in case.records}
        (proposals if ids <= shown else own).append(case)
        shown |= ids
    return own, proposals


def _order(both: Starts) -> tuple[str, str]:
    return both.rows[0].settings_hash, both.rows[0].id


def _case(records: Records, whole: Mapping[str, DefectRecord], both: Starts, pair: Pair | None) -> CaseRecords:
    # A record that cannot be read has a row, but is left out of `whole`.
    predicted = None if both.predicted is None else whole.get(both.predicted.id)
    unrelaxed = None if both.unrelaxed is None else whole.get(both.unrelaxed.id)
    if unrelaxed is None:
        return CaseRecords(None, predicted, pair)
    if both.weights is not None and both.gate is not None:
        unrelaxed = _as_seen_by(records, unrelaxed, both.weights)
    return CaseRecords(unrelaxed, predicted, pair)


def _as_seen_by(records: Records, record: DefectRecord, weights: str) -> DefectRecord:
    """Return a relaxation from the unrelaxed start with the prediction of these weights, which the record may lack."""
    base = base_of(records, record.host.hash, record.settings_hash)
    said = None if base is None else records.prediction(Prediction.identity(record.configuration_id, weights, base))
    if said is None:
        return record
    note = PredictionNote(**{name: getattr(said, name) for name in PredictionNote.model_fields})
    sites = record.sites
    if sites is not None:
        predicted = None
        if said.displacements is not None:
            predicted = sites.unrelaxed.copy()
            predicted[: record.host.n_sites] += said.displacements
        sites = sites.model_copy(update={"predicted": predicted})
    return record.model_copy(update={"prediction": note, "sites": sites})


def _resolve(records: Records, identity: str) -> tuple[str, str | None]:
    """Return the configuration_id, and the id of the record if `identity` names a record."""
    given = identity.strip().lower()
    if len(given) == _ID:
        record = records.record(given)
        if record is not None:
            return record.configuration_id, record.id
    found: dict[str, tuple[str, set[str]]] = {}
    for row in records.record_rows():
        by_record = row.id.startswith(given)
        if given and (by_record or row.configuration_id.startswith(given)):
            _, ids = found.setdefault(row.configuration_id, (row.name, set()))
            ids.update([row.id] if by_record else [])
    if given in found:  # a whole id; other ids may begin with it
        found = {given: found[given]}
    if not found:
        return _named(records, identity.strip()), None
    if len(found) != 1:
        raise InputError(_complaint(identity, found))
    [(configuration_id, (_, ids))] = found.items()
    whole = configuration_id.startswith(given)
    return configuration_id, None if whole or len(ids) != 1 else ids.pop()


def _named(records: Records, name: str) -> str:
    """Return the configuration_id of a name that a single configuration has."""
    found = {row.configuration_id: row for row in records.record_rows() if name and row.name == name}
    if not found:
        msg = f"no configuration or record begins with {name!r} or has that name: `definet report` lists the ids"
        raise InputError(msg)
    if len(found) > 1:
        some = ", ".join(f"{identity[:12]} ({_told(records, row)})" for identity, row in sorted(found.items())[:_SHOWN])
        more = ", ..." if len(found) > _SHOWN else ""
        msg = f"{name!r} is the name of {len(found)} configurations: {some}{more}; give the beginning of an id"
        raise InputError(msg)
    return next(iter(found))


def _told(records: Records, row: RecordRow) -> str:
    """Say what tells configurations of one name apart: supercell, edited sites, charge."""
    record = records.record(row.id)
    if record is None:
        return f"{row.host}, {row.n_sites} sites"
    configuration = record.configuration
    edited = [str(edit.site) for edit in configuration.edits if edit.site is not None]
    site = f", on {' and '.join(edited)}" if edited else ""
    charge = f", charge {configuration.charge:+d}" if configuration.charge else ""
    return f"{row.host}, {row.n_sites} sites{site}{charge}"


def _complaint(identity: str, found: dict[str, tuple[str, set[str]]]) -> str:
    some = ", ".join(f"{whole[:12]} ({name})" for whole, (name, _) in sorted(found.items())[:_SHOWN])
    more = ", ..." if len(found) > _SHOWN else ""
    return f"{identity!r} begins the ids of {len(found)} configurations: {some}{more}; give more characters"
