"""Reading documents of any age, and the published schema.

A change of `definet_flows.schemas` that old documents do not satisfy raises `SCHEMA_VERSION` by one
and adds one function here; a document is brought up to date step by step when it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from definet_flows.errors import InputError
from definet_flows.schemas import SCHEMA_VERSION, DefectRecord

if TYPE_CHECKING:
    from collections.abc import Callable

Raw = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

UPGRADES: dict[int, Callable[[Raw], Raw]] = {}
"""What turns a document of version n into one of n + 1; it must bear with projections, which lack fields."""

_STORE_FIELDS = ("_id", "last_updated")


def upgraded(raw: Raw) -> Raw:
    """Return `raw` as the current version has it, without the fields that belong to the store.

    Raises
    ------
    InputError
        If the document comes from a newer version of this package, or from one too old to read.
    """
    raw = {key: value for key, value in raw.items() if key not in _STORE_FIELDS}
    version = raw.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        msg = (
            f"document {raw.get('id')} has schema version {version}, this definet_flows reads up to "
            f"{SCHEMA_VERSION}: update definet_flows"
        )
        raise InputError(msg)
    for step in range(version, SCHEMA_VERSION):
        if step not in UPGRADES:
            msg = f"document {raw.get('id')} has schema version {step}, too old to read: write it anew with the Builder"
            raise InputError(msg)
        raw = {**UPGRADES[step](raw), "schema_version": step + 1}
    return raw


def parse(raw: Raw, model: type[Model]) -> Model:
    """Return a stored document as `model`, upgraded if it is old.

    Raises
    ------
    InputError
        If the document does not fit the model.
    """
    try:
        return model.model_validate(upgraded(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        msg = f"document {raw.get('id')}: {field}: {first['msg']}; remove it from the store or write it anew"
        raise InputError(msg) from None


def record_schema() -> Raw:
    """Return the JSON schema of a stored DefectRecord, with the version that it describes."""
    schema = DefectRecord.model_json_schema(mode="serialization")
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION, "type": "integer"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
