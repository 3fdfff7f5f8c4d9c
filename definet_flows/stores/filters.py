"""Which documents a query is about: one set of named filters for records and pairs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from definet_flows.schemas import Frozen

# The same thing sits deeper in a record than in a pair.
_FIELDS = {
    "record": {"host": "host.formula", "weights": "prediction.weights", "n_sites": "host.n_sites"},
    "pair": {"host": "host_formula"},
}


class Filter(Frozen):
    """What documents must be to count; a filter left at None lets everything through.

    Examples
    --------
    >>> Filter(host="MoS2", engine="sevennet").criteria("pair")
    {'kind': 'pair', 'engine': 'sevennet', 'host_formula': 'MoS2'}
    """

    name: str | None = Field(default=None, description="defect names, such as v_S+W_Mo")
    host: str | None = Field(default=None, description="reduced formula, such as MoS2")
    engine: str | None = Field(default=None, description="engine name, such as vasp")
    settings_hash: str | None = None
    weights: str | None = Field(default=None, description="sha256 of the weights")
    n_defects: int | None = None
    n_sites: int | None = None
    configuration_ids: tuple[str, ...] | None = None

    def criteria(self, kind: Literal["record", "pair"]) -> dict[str, Any]:
        """Return the MongoDB filter for documents of one kind."""
        given = self.model_dump(exclude_none=True)
        ids = given.pop("configuration_ids", None)
        chosen = {"kind": kind} | {_FIELDS[kind].get(key, key): value for key, value in sorted(given.items())}
        return chosen if ids is None else chosen | {"configuration_id": {"$in": list(ids)}}
