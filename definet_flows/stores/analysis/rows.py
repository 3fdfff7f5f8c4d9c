"""The flat rows that every query works on: what a record or a pair says without its structures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from definet_flows.schemas import Start, Status, Verdict
from definet_flows.stores.sound import Cost, Count, Measure
from definet_flows.stores.versions import bad_document, upgraded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Arm(NamedTuple):
    """One relaxation: costs in force evaluations, electronic steps, hours and seconds; forces in eV/Å, energy in eV."""

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
    gate: str | None
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
    def arm(self) -> tuple[str, str]:
        """What the two arms of a pair share: configuration and settings."""
        return self.configuration_id, self.settings_hash

    @property
    def steps(self) -> int:
        """Force evaluations this relaxation took; zero if it never got so far."""
        return self.ionic_steps or 0


class Ends(NamedTuple):
    """One pair: what its two arms cost, and how their ends compare."""

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


class Judged(NamedTuple):
    """What the gate said of one prediction, without its displacements."""

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
    **{field: f"ledger.{field}" for field in Arm._fields[Arm._fields.index("converged") :]},
}
ARM_PATHS = tuple(_DEEPER.get(field, field) for field in Arm._fields)
"""Where a stored record has each field of an Arm."""

ENDS_PATHS = tuple("host_formula" if field == "host" else field for field in Ends._fields)
"""Where a stored pair has each field of an Ends."""

JUDGED_PATHS = ("id", "configuration_id", "weights", "base", "gate.verdict", "gate.reason", "gate.in_domain")
"""Where a stored prediction has each field of a Judged."""

_ARM, _ENDS, _JUDGED = TypeAdapter(Arm), TypeAdapter(Ends), TypeAdapter(Judged)
ARM_NEEDED = Arm._fields.index("weights")
ENDS_NEEDED = Ends._fields.index("electronic_unrelaxed")
"""How many of the fields, from the first on, every document has."""


def arm_of(raw: Mapping[str, Any]) -> Arm:
    """Return the row of a stored record, upgraded if it is old.

    Raises
    ------
    BadDocumentError
        If it lacks a field, or says what cannot be.
    InputError
        If it comes from a newer version.
    """
    return checked_arm(_values(raw, ARM_PATHS, ARM_NEEDED))


def ends_of(raw: Mapping[str, Any]) -> Ends:
    """Return the row of a stored pair. Raises as `arm_of`."""
    return checked_ends(_values(raw, ENDS_PATHS, ENDS_NEEDED))


def judged_of(raw: Mapping[str, Any]) -> Judged:
    """Return the row of a stored prediction. Raises as `arm_of`."""
    return checked_judged(_values(raw, JUDGED_PATHS, len(JUDGED_PATHS)))


def arm_row(raw: Mapping[str, Any]) -> Arm:
    """Return the row of a record that is about to be written, as it is."""
    return Arm(*_values(raw, ARM_PATHS, ARM_NEEDED))


def ends_row(raw: Mapping[str, Any]) -> Ends:
    """Return the row of a pair that is about to be written, as it is."""
    return Ends(*_values(raw, ENDS_PATHS, ENDS_NEEDED))


def judged_row(raw: Mapping[str, Any]) -> Judged:
    """Return the row of a prediction that is about to be written, as it is."""
    return Judged(*_values(raw, JUDGED_PATHS, len(JUDGED_PATHS)))


def checked_arm(values: Sequence[Any]) -> Arm:
    """Return the row of these values, types and numbers checked; raises BadDocumentError."""
    row: Arm = _checked(_ARM, values, ARM_PATHS)
    return row


def checked_ends(values: Sequence[Any]) -> Ends:
    """Return the row of these values, types and numbers checked; raises BadDocumentError."""
    row: Ends = _checked(_ENDS, values, ENDS_PATHS)
    return row


def checked_judged(values: Sequence[Any]) -> Judged:
    """Return the row of these values, types checked; raises BadDocumentError."""
    row: Judged = _checked(_JUDGED, values, JUDGED_PATHS)
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
