"""Named filters for records, pairs and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from definet_flows.errors import InputError
from definet_flows.schemas import Frozen

if TYPE_CHECKING:
    from definet_flows.stores.analysis.rows import PairRow, PredictionRow, RecordRow

# The same thing sits deeper in a record than in a pair.
_FIELDS = {
    "record": {
        "host": "host.formula",
        "weights": "prediction.weights",
        "n_sites": "host.n_sites",
        "charge": "configuration.charge",
    },
    "pair": {"host": "host_formula"},
    "prediction": {},
}


class Filter(Frozen):
    """Conditions on documents; a filter of None lets everything through.

    Examples
    --------
    >>> Filter(host="MoS2", engine="sevennet").criteria("pair")
    {'kind': 'pair', 'engine': 'sevennet', 'host_formula': 'MoS2'}
    """

    name: str | None = Field(default=None, description="defect names, such as v_S+W_Mo")
    host: str | None = Field(default=None, description="reduced formula, such as MoS2")
    engine: str | None = Field(default=None, description="engine name, such as vasp")
    settings_hash: str | None = Field(default=None, description="hash of the engine's settings")
    weights: str | tuple[str, ...] | None = Field(
        default=None, description="key of the pre-relaxer, for the network the sha256 of its weights; or several keys"
    )
    n_defects: int | None = Field(default=None, description="number of defects in a configuration")
    n_sites: int | None = Field(default=None, description="number of sites of the bulk supercell")
    charge: int | None = Field(default=None, description="net charge of a configuration, e")
    configuration_ids: tuple[str, ...] | None = Field(default=None, description="ids of configurations")

    @classmethod
    def parse(cls, given: Mapping[str, str | None]) -> Filter:
        """Return the filter of values that a person has typed; values of None let everything through.

        Raises
        ------
        InputError
            If there is no such field, or a value is of the wrong type.
        """
        known = sorted((cls.model_fields.keys() | {"prerelaxer"}) - {"configuration_ids"})
        if unknown := sorted(given.keys() - set(known)):
            msg = f"records have no field {unknown[0]!r}: choose from {', '.join(known)}"
            raise InputError(msg)
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            msg = f"{first['loc'][0]}={first['input']}: {first['msg'].split(',')[0].lower()}"
            raise InputError(msg) from None

    @property
    def keys(self) -> frozenset[str] | None:
        """Keys of pre-relaxers that are asked for; None: any."""
        given = (self.weights,) if isinstance(self.weights, str) else self.weights
        return None if given is None else frozenset(given)

    def matcher(self) -> Callable[[RecordRow | PairRow | PredictionRow], bool] | None:
        """Return the function that `filter` takes to choose flat rows; None: all rows match."""
        given = tuple(self.model_dump(exclude_none=True, exclude={"configuration_ids", "weights"}).items())
        ids = None if self.configuration_ids is None else frozenset(self.configuration_ids)
        keys = self.keys

        if ids is None and keys is None and not given:
            return None

        def matches(row: RecordRow | PairRow | PredictionRow) -> bool:
            if ids is not None and row.configuration_id not in ids:
                return False
            if keys is not None and row.weights not in keys:
                return False
            return all(getattr(row, field) == value for field, value in given)

        return matches

    def criteria(self, kind: Literal["record", "pair", "prediction"]) -> dict[str, Any]:
        """Return the MongoDB filter for documents of one kind."""
        given = self.model_dump(exclude_none=True)
        ids = given.pop("configuration_ids", None)
        if isinstance(self.weights, tuple):
            given["weights"] = {"$in": list(self.weights)}
        chosen = {"kind": kind} | {_FIELDS[kind].get(key, key): value for key, value in sorted(given.items())}
        return chosen if ids is None else chosen | {"configuration_id": {"$in": list(ids)}}
