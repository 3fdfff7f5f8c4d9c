"""The flat rows that every query works on: a record, a pair or a prediction without its structures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from definet_flows.schemas import Start, Status, Verdict
from definet_flows.stores.sound import Cost, Count, Measure
from definet_flows.stores.versions import bad_document, upgraded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RecordRow(NamedTuple):
    """A relaxation: costs in force evaluations, electronic steps, hours and seconds; forces in eV/Å, energy in eV."""

    id: str
    configuration_id: str
    settings_hash: str
    engine: str
    start: Start
    status: Status
    host: str
    host_hash: str
    n_sites: Count
    name: str
    n_defects: Count
    weights: str | None
    gate: Literal["accepted", "flagged", "rejected"] | None
    gate_reason: str | None
    error: str | None
    converged: bool | None
    ionic_steps: Count | None
    electronic_steps: Count | None
    core_hours: Cost | None
    wall_seconds: Cost | None
    start_max_force: Cost | None
    max_force: Cost | None
    energy: Measure | None

    @property
    def pairing(self) -> tuple[str, str]:
        """What both relaxations of a pair share: configuration and settings."""
        return self.configuration_id, self.settings_hash

    @property
    def steps(self) -> int:
        """Force evaluations this relaxation is known to have taken; zero if it made none."""
        return self.ionic_steps or 0


class PairRow(NamedTuple):
    """A pair: the costs from both starts, and how the ends compare."""

    id: str
    configuration_id: str
    settings_hash: str
    engine: str
    weights: str
    host: str
    n_sites: Count
    name: str
    n_defects: Count
    verdict: Verdict
    steps_unrelaxed: Count
    steps_predicted: Count
    electronic_unrelaxed: Count | None
    electronic_predicted: Count | None
    core_hours_unrelaxed: Cost | None
    core_hours_predicted: Cost | None
    floor: Count | None


class PredictionRow(NamedTuple):
    """The gate's verdict on a prediction, without its displacements."""

    id: str
    configuration_id: str
    weights: str
    base: str
    gate: Literal["accepted", "flagged", "rejected"]
    gate_reason: str
    in_domain: bool


_DEEPER = {
    "host": "host.formula",
    "host_hash": "host.hash",
    "n_sites": "host.n_sites",
    "weights": "prediction.weights",
    "gate": "prediction.gate.verdict",
    "gate_reason": "prediction.gate.reason",
    **{field: f"ledger.{field}" for field in RecordRow._fields[RecordRow._fields.index("converged") :]},
}
RECORD_PATHS = tuple(_DEEPER.get(field, field) for field in RecordRow._fields)
"""Where a stored record has each field of a RecordRow."""

PAIR_PATHS = tuple("host_formula" if field == "host" else field for field in PairRow._fields)
"""Where a stored pair has each field of a PairRow."""

PREDICTION_PATHS = ("id", "configuration_id", "weights", "base", "gate.verdict", "gate.reason", "gate.in_domain")
"""Where a stored prediction has each field of a PredictionRow."""

_RECORD, _PAIR, _PREDICTION = TypeAdapter(RecordRow), TypeAdapter(PairRow), TypeAdapter(PredictionRow)
RECORD_NEEDED = RecordRow._fields.index("weights")
PAIR_NEEDED = PairRow._fields.index("electronic_unrelaxed")
"""How many of the fields, from the first on, every document has."""


def record_row_of(raw: Mapping[str, Any]) -> RecordRow:
    """Return the row of a stored record, upgraded if it is old.

    Raises
    ------
    BadDocumentError
        If it lacks a field, or holds an impossible value.
    InputError
        If it comes from a newer version.
    """
    return checked_record_row(_values(raw, RECORD_PATHS, RECORD_NEEDED))


def pair_row_of(raw: Mapping[str, Any]) -> PairRow:
    """Return the row of a stored pair. Raises as `record_row_of`."""
    return checked_pair_row(_values(raw, PAIR_PATHS, PAIR_NEEDED))


def prediction_row_of(raw: Mapping[str, Any]) -> PredictionRow:
    """Return the row of a stored prediction. Raises as `record_row_of`."""
    return checked_prediction_row(_values(raw, PREDICTION_PATHS, len(PREDICTION_PATHS)))


def unchecked_record_row(raw: Mapping[str, Any]) -> RecordRow:
    """Return the row of a record that is about to be written, as it is."""
    return RecordRow(*_values(raw, RECORD_PATHS, RECORD_NEEDED))


def unchecked_pair_row(raw: Mapping[str, Any]) -> PairRow:
    """Return the row of a pair that is about to be written, as it is."""
    return PairRow(*_values(raw, PAIR_PATHS, PAIR_NEEDED))


def unchecked_prediction_row(raw: Mapping[str, Any]) -> PredictionRow:
    """Return the row of a prediction that is about to be written, as it is."""
    return PredictionRow(*_values(raw, PREDICTION_PATHS, len(PREDICTION_PATHS)))


def checked_record_row(values: Sequence[Any]) -> RecordRow:
    """Return the row of these values, types and numbers checked; raises BadDocumentError."""
    row: RecordRow = _checked(_RECORD, values, RECORD_PATHS)
    return row


def checked_pair_row(values: Sequence[Any]) -> PairRow:
    """Return the row of these values, types and numbers checked; raises BadDocumentError."""
    row: PairRow = _checked(_PAIR, values, PAIR_PATHS)
    return row


def checked_prediction_row(values: Sequence[Any]) -> PredictionRow:
    """Return the row of these values, types checked; raises BadDocumentError."""
    row: PredictionRow = _checked(_PREDICTION, values, PREDICTION_PATHS)
    return row


def _checked(adapter: TypeAdapter[Any], values: Sequence[Any], paths: tuple[str, ...]) -> Any:  # noqa: ANN401 - a row
    try:
        return adapter.validate_python(tuple(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = first["loc"][0] if first["loc"] else 0
        field = paths[place] if isinstance(place, int) and place < len(paths) else place
        raise bad_document({"id": values[0]}, f"{field}: {first['msg']}") from None


def _values(raw: Mapping[str, Any], paths: tuple[str, ...], needed: int) -> list[Any]:
    current = upgraded(dict(raw))
    values = [_at(current, parts) for parts in _split(paths)]
    if None in values[:needed]:
        raise bad_document(current, f"{paths[values.index(None)]}: missing")
    return values


@cache
def _split(paths: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(path.split(".")) for path in paths)


def _at(raw: Mapping[str, Any], parts: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever stands there
    value: Any = raw
    for part in parts:
        value = value.get(part) if isinstance(value, dict) else None
    return value


Arm, Ends = RecordRow, PairRow
"""Former names."""
