"""Parts of every document: frozen models, coordinate tables, content hashes, markers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

SCHEMA_VERSION = 1

PRISTINE, SUBSTITUTION, VACANCY, INSERTED = 0, 1, 2, 3
"""Site markers: the first three are the network's input, an inserted atom it does not know."""

_MICRO = 1_000_000

FloatArray = npt.NDArray[np.float64]
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
IntMatrix = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


def _table_from(value: object) -> FloatArray:
    """Accept an array in Å or the stored flat list of whole 1e-6 Å."""
    if isinstance(value, np.ndarray):
        return np.asarray(value, dtype=np.float64).reshape(-1, 3)
    if isinstance(value, Sequence) and not isinstance(value, str):
        try:
            return np.asarray(value, dtype=np.float64).reshape(-1, 3) / _MICRO
        except (TypeError, OverflowError) as error:  # pydantic turns no other than a ValueError into its own
            raise ValueError(str(error)) from None
    msg = f"a coordinate table is an array [n, 3] in Å or a list of whole 1e-6 Å, not {value!r}"
    raise ValueError(msg)


def _table_to(value: FloatArray) -> list[int]:
    return list(map(int, np.rint(np.asarray(value) * _MICRO).ravel().tolist()))


Table = Annotated[
    FloatArray,
    BeforeValidator(_table_from),
    PlainSerializer(_table_to, return_type=list[int]),
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "description": "1e-6 Å, row by row"}),
]
"""Coordinates or displacements, shape [n, 3], Å in memory, whole 1e-6 Å when stored."""


def base_hash(positions: FloatArray | Sequence[int]) -> str:
    """Return the identity of the host positions that displacements are added to; a table as in memory or as stored."""
    return content_hash("base", _table_to(_table_from(positions)))


def content_hash(*parts: object) -> str:
    """Return 32 hex digits that depend on nothing but the content of `parts` (JSON-able)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest(path: Path) -> str:
    """Return the sha256 of a file's content; read again only if the file was changed or replaced."""
    found = path.stat()
    return _digest(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Frozen(BaseModel):
    """Base of everything that crosses a boundary: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Document(Frozen):
    """A document of a record store; `id` is its identity and the key of the upsert."""

    kind: str
    id: str
    schema_version: int = SCHEMA_VERSION


def dump(document: Document) -> dict[str, Any]:
    """Return the JSON-able dict that goes to a store."""
    return document.model_dump(mode="json")
