"""The flat rows that every query works on: what a record or a pair says without its structures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from definet_flows.errors import InputError
from definet_flows.schemas import Start, Status, Verdict
from definet_flows.stores.versions import upgraded

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    n_sites: int
    name: str
    n_defects: int
    weights: str | None
    gate: str | None
    gate_reason: str | None
    error: str | None
    converged: bool | None
    ionic_steps: int | None
    electronic_steps: int | None
    core_hours: float | None
    wall_seconds: float | None
    start_max_force: float | None
    max_force: float | None
    energy: float | None

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
    n_sites: int
    name: str
    n_defects: int
    verdict: Verdict
    steps_unrelaxed: int
    steps_predicted: int
    electronic_unrelaxed: int | None
    electronic_predicted: int | None
    core_hours_unrelaxed: float | None
    core_hours_predicted: float | None
    floor: int | None


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

ARM_NEEDED = Arm._fields.index("weights")
ENDS_NEEDED = Ends._fields.index("electronic_unrelaxed")
"""How many of the fields, from the first on, every document has."""


def arm_of(raw: Mapping[str, Any]) -> Arm:
    """Return the row of a stored record, upgraded if it is old.

    Raises
    ------
    InputError
        If it comes from a newer version, or lacks a field.
    """
    return Arm(*_values(raw, ARM_PATHS, ARM_NEEDED))


def ends_of(raw: Mapping[str, Any]) -> Ends:
    """Return the row of a stored pair. Raises as `arm_of`."""
    return Ends(*_values(raw, ENDS_PATHS, ENDS_NEEDED))


def _values(raw: Mapping[str, Any], paths: tuple[str, ...], needed: int) -> list[Any]:
    current = upgraded(dict(raw))
    values = [_at(current, parts) for parts in _split(paths)]
    if None in values[:needed]:
        field = paths[values.index(None)]
        msg = f"document {raw.get('id')}: {field}: missing; remove it from the store or write it anew"
        raise InputError(msg)
    return values


@cache
def _split(paths: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(path.split(".")) for path in paths)


def _at(raw: Mapping[str, Any], parts: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever stands there
    value: Any = raw
    for part in parts:
        value = value.get(part) if isinstance(value, dict) else None
    return value
