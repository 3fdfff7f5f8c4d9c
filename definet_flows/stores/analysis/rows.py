"""The flat rows that every query works on: a record, a pair or a prediction without its structures."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from definet_flows.schemas import Start, Status, Verdict
from definet_flows.schemas.configuration import MOST_CHARGED
from definet_flows.stores.sound import Cost, Count, Measure
from definet_flows.stores.versions import bad_document, upgraded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Shared = Annotated[str, AfterValidator(sys.intern)]
"""A hash that stands in many rows; it is in memory once."""

Charge = Annotated[int, Field(ge=-MOST_CHARGED, le=MOST_CHARGED)]
"""Net charge of a configuration, e."""


class RecordRow(NamedTuple):
    """A relaxation: charge in e, costs in force evaluations, electronic steps, h, s; forces in eV/Å, energy in eV.

    `proposal_seconds` is the wall time that the proposal took, `proposal_core_seconds` the same times the busy cores.
    """

    id: str
    configuration_id: Shared
    settings_hash: str
    engine: str
    start: Start
    status: Status
    host: str
    host_hash: str
    n_sites: Count
    name: str
    n_defects: Count
    charge: Charge
    weights: Shared | None
    gate: Literal["accepted", "flagged", "rejected"] | None
    gate_reason: str | None
    error: str | None
    proposal_seconds: Cost | None
    proposal_core_seconds: Cost | None
    converged: bool | None
    ionic_steps: Count | None
    electronic_steps: Count | None
    core_hours: Cost | None
    cores: Count | None
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
    configuration_id: Shared
    settings_hash: str
    engine: str
    weights: Shared
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
    charge: Charge | None = None
    """Of the configuration; a stored pair has none, `with_charges` adds it"""


class PredictionRow(NamedTuple):
    """The gate's verdict on a prediction and its cost in seconds, without its displacements."""

    id: str
    configuration_id: Shared
    weights: Shared
    base: Shared
    gate: Literal["accepted", "flagged", "rejected"]
    gate_reason: str
    in_domain: bool
    seconds: Cost | None
    core_seconds: Cost | None


_DEEPER = {
    "host": "host.formula",
    "host_hash": "host.hash",
    "n_sites": "host.n_sites",
    "charge": "configuration.charge",
    "weights": "prediction.weights",
    "gate": "prediction.gate.verdict",
    "gate_reason": "prediction.gate.reason",
    "proposal_seconds": "prediction.seconds",
    "proposal_core_seconds": "prediction.core_seconds",
    **{field: f"ledger.{field}" for field in RecordRow._fields[RecordRow._fields.index("converged") :]},
}
RECORD_PATHS = tuple(_DEEPER.get(field, field) for field in RecordRow._fields)
"""Where a stored record has each field of a RecordRow."""

PAIR_PATHS = tuple("host_formula" if field == "host" else field for field in PairRow._fields if field != "charge")
"""Where a stored pair has each field of a PairRow."""

_GATE = ("gate.verdict", "gate.reason", "gate.in_domain")
PREDICTION_PATHS = ("id", "configuration_id", "weights", "base", *_GATE, "seconds", "core_seconds")
"""Where a stored prediction has each field of a PredictionRow."""

RECORD_NEEDED = RecordRow._fields.index("weights")
PAIR_NEEDED = PairRow._fields.index("electronic_unrelaxed")
PREDICTION_NEEDED = PredictionRow._fields.index("seconds")
"""How many of the fields, from the first on, every document has."""

Of = Literal["record", "pair", "prediction"]
"""The kinds of documents that have rows."""

Row = RecordRow | PairRow | PredictionRow


class Form(NamedTuple):
    """The row of a kind of documents."""

    row: type[Row]
    paths: tuple[str, ...]
    needed: int


FORMS: dict[Of, Form] = {
    "record": Form(RecordRow, RECORD_PATHS, RECORD_NEEDED),
    "pair": Form(PairRow, PAIR_PATHS, PAIR_NEEDED),
    "prediction": Form(PredictionRow, PREDICTION_PATHS, PREDICTION_NEEDED),
}


def row_of(of: Of, raw: Mapping[str, Any]) -> Row:
    """Return the row of a stored document, upgraded if it is old; types and numbers are checked.

    Raises
    ------
    BadDocumentError
        If it lacks a field, or holds an impossible value.
    InputError
        If it comes from a newer version.
    """
    return checked_row(of, _values(raw, FORMS[of]))


def unchecked_row(of: Of, raw: Mapping[str, Any]) -> Row:
    """Return the row of a document that is about to be written, as it is."""
    return FORMS[of].row(*_values(raw, FORMS[of]))


def checked_row(of: Of, values: Sequence[Any]) -> Row:
    """Return the row of these values, types and numbers checked; raises BadDocumentError."""
    try:
        row: Row = _adapter(of).validate_python([tuple(values)])[0]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place, paths = first["loc"][1] if first["loc"][1:] else 0, FORMS[of].paths
        field = paths[place] if isinstance(place, int) and place < len(paths) else place
        raise bad_document({"id": values[0]}, f"{field}: {first['msg']}") from None
    return row


def checked_rows(of: Of, text: str) -> list[Row] | None:
    """Return the rows of a JSON list of lists, types and numbers checked; None if any of them is wrong."""
    try:
        rows: list[Row] = _adapter(of).validate_json(text)
    except ValidationError:
        return None
    return rows


def with_charges(pairs: Iterable[PairRow], rows: Iterable[RecordRow]) -> list[PairRow]:
    """Return pairs with the charges of their configurations; None where `rows` has no relaxation of it."""
    charges = {row.configuration_id: row.charge for row in rows}
    return [pair._replace(charge=charges.get(pair.configuration_id)) for pair in pairs]


@cache
def _adapter(of: Of) -> TypeAdapter[list[Any]]:
    row: Any = FORMS[of].row
    return TypeAdapter(list[row])


def _values(raw: Mapping[str, Any], form: Form) -> list[Any]:
    current = upgraded(dict(raw))
    values = [_at(current, parts) for parts in _split(form.paths)]
    if None in values[: form.needed]:
        raise bad_document(current, f"{form.paths[values.index(None)]}: missing")
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
