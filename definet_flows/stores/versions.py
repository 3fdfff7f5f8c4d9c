"""Reading documents of any age, and the published schema.

A change of `definet_flows.schemas` that old documents do not satisfy raises `SCHEMA_VERSION` by 1
and adds a function here; a document is brought up to date step by step when it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from definet_flows.errors import BadDocumentError, InputError
from definet_flows.schemas import SCHEMA_VERSION, DefectRecord
from definet_flows.stores.sound import check_sound

if TYPE_CHECKING:
    from collections.abc import Callable

Raw = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

UPGRADES: dict[int, Callable[[Raw], Raw]] = {}
"""Functions that turn a document of version n into version n + 1; a projection, which lacks fields, must pass too."""

REMEDY = "remove it from the store or write it anew"
_LONGEST = 64  # characters of an id in a message
_STORE_FIELDS = ("_id", "last_updated")


def upgraded(raw: Raw) -> Raw:
    """Return `raw` as the current version has it, without the fields that belong to the store.

    Raises
    ------
    InputError
        If the document comes from a newer version of this package, or from a version too old to read.
    BadDocumentError
        If it does not name its version.
    """
    raw = {key: value for key, value in raw.items() if key not in _STORE_FIELDS}
    version = raw.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise bad_document(raw, f"schema_version: {version!r} is no version")
    if version > SCHEMA_VERSION:
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
    BadDocumentError
        If the document does not fit the model, or holds an impossible value.
    InputError
        If it is of a version that cannot be read.
    """
    current = upgraded(raw)
    try:
        document = model.model_validate(current)
        check_sound(document)
    except ValidationError as error:
        raise bad_document(raw, first_problem(error)) from None
    except BadDocumentError as error:
        raise bad_document(raw, str(error)) from None
    return document


def parse_as(model: type[Model]) -> Callable[[Raw], Model]:
    """Return the function that reads a stored document as `model`; raises as `parse`."""
    return lambda raw: parse(raw, model)


def first_problem(error: ValidationError) -> str:
    """Return field and reason of the first fault."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def bad_document(raw: Raw, problem: str) -> BadDocumentError:
    """Return the error that names a document and its fault."""
    identity = str(raw.get("id"))
    if len(identity) > _LONGEST:
        identity = f"{identity[:_LONGEST]}..."
    return BadDocumentError(f"document {identity}: {problem}; {REMEDY}")


def record_schema() -> Raw:
    """Return the JSON schema of a stored DefectRecord, with the version that it describes."""
    schema = DefectRecord.model_json_schema(mode="serialization")
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION, "type": "integer"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
