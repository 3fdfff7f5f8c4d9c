"""MongoDB's filters as SQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from definet_flows.stores.backends.matching import wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.stores.backends.matching import Criteria

GIVEN = "(SELECT value FROM json_each(?))"
ODD = "SELECT number FROM documents WHERE odd"
HAS = "SELECT 1 FROM documents WHERE number = ?"
FIELD = re.compile(r"[\w@-]+(\.[\w@-]+)*")
"""Names of fields that SQL can index."""


def asked(criteria: Criteria) -> dict[str, tuple[Any, ...]]:
    """Return the fields that a filter asks for by value, those of an `$and` too."""
    found: dict[str, tuple[Any, ...]] = {}
    for field, condition in (criteria or {}).items():
        if field == "$and":
            for part in condition:
                found |= asked(part)
        elif not field.startswith("$") and (values := wanted(condition)) is not None:
            found[field] = values
    return found


def at(field: str) -> str:
    """Return the SQL of the value at a path."""
    path = "".join(f'."{part}"' for part in field.split("."))
    return f"json_extract(body, '${path}')"


def hidden(field: str) -> str:
    """Return the SQL that decides whether a document has a list or a dictionary at a path, or a list on the way."""
    parts = field.split(".")
    paths = ["$" + "".join(f'."{part}"' for part in parts[:k]) for k in range(1, len(parts) + 1)]
    lists = [f"json_type(body, '{path}') = 'array'" for path in paths]
    return " OR ".join([*lists, f"json_type(body, '{paths[-1]}') = 'object'", r"instr(body, '\u0000')"])


def listed(values: Sequence[Any]) -> str:
    """Return values as the parameter of `GIVEN`."""
    return orjson.dumps(list(values)).decode()
