"""MongoDB's filters, projections and orders on documents; mongomock, which maggma brings, does the matching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mongomock_ng.filtering import (  # type: ignore[attr-defined]  # NOTHING comes from elsewhere
    NOTHING,
    filter_applies,
    iter_key_candidates,
    resolve_sort_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Doc = dict[str, Any]
Criteria = dict[str, Any] | None
Properties = dict[str, Any] | list[str] | None


def matches(criteria: Criteria, doc: Doc) -> bool:
    """Return whether a document matches a MongoDB filter."""
    return not criteria or bool(filter_applies(criteria, doc))  # type: ignore[no-untyped-call]


def matcher(criteria: Criteria) -> Callable[[Doc], bool]:
    """Return the test whether a document matches a MongoDB filter, for many documents.

    A text is looked up in a long `$in`: to compare it with every value makes a query for n documents cost n².
    """
    members = {
        field: frozenset(condition["$in"])
        for field, condition in (criteria or {}).items()
        if not field.startswith("$") and isinstance(condition, dict) and set(condition) == {"$in"}
        if all(isinstance(value, str) for value in condition["$in"])
    }
    rest = {field: condition for field, condition in (criteria or {}).items() if field not in members}

    def test(doc: Doc) -> bool:
        for field, values in members.items():
            value, plain = walk(doc, field)
            if not (plain and isinstance(value, str)):
                return matches(criteria, doc)  # a list, or nothing: MongoDB has rules of its own
            if value not in values:
                return False
        return matches(rest, doc)

    return test


def sort_key(field: str, doc: Doc) -> Any:  # noqa: ANN401 - ordered as MongoDB orders values of any type
    """Return the key that sorts documents."""
    return resolve_sort_key(field, doc)  # type: ignore[no-untyped-call]


def values_at(field: str, doc: Doc) -> list[Any]:
    """Return the values of a field, those of a list each for itself, as MongoDB's `distinct` does."""
    candidates = iter_key_candidates(field, doc)  # type: ignore[no-untyped-call]
    found = [value for value in candidates if value is not NOTHING]
    return [part for value in found for part in (value if isinstance(value, list) else [value])]


def wanted(condition: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 - any MongoDB condition
    """Return the values that a condition on a field allows; None if it is another condition, or not for SQL."""
    if isinstance(condition, dict):
        if set(condition) == {"$in"}:
            values = tuple(condition["$in"])
        elif set(condition) == {"$eq"}:
            values = (condition["$eq"],)
        else:
            return None
    else:
        values = (condition,)
    plain = all(isinstance(value, str | int | float) and value == value and not _zero(value) for value in values)  # noqa: PLR0124 - NaN
    return values if plain else None


def _zero(value: object) -> bool:
    """Return whether a text holds a zero character, where SQLite would end it."""
    return isinstance(value, str) and "\0" in value


def walk(doc: Mapping[str, Any], field: str) -> tuple[Any, bool]:
    """Return the value at a path, None without, and whether SQL sees it: a list on the way hides it."""
    value: Any = doc
    for part in field.split("."):
        if isinstance(value, list):
            return None, False
        value = value.get(part) if isinstance(value, dict) else None
    return value, not (isinstance(value, list | dict) or _zero(value))


def projected(doc: Doc, properties: Properties) -> Doc:
    """Return a document with some fields only, or without some."""
    if not properties:
        return doc
    fields = dict.fromkeys(properties, 1) if isinstance(properties, list | tuple) else dict(properties)
    shown = fields.pop("_id", None)
    if not fields:
        return doc if not shown else {}
    if all(fields.values()):
        return _picked(doc, [field.split(".") for field in fields])
    kept = dict(doc)
    for field in fields:
        _drop(kept, field.split("."))
    return kept


def _picked(doc: Doc, paths: Sequence[Sequence[str]]) -> Doc:
    below: dict[str, list[Sequence[str]]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    found: Doc = {}
    for name, rest in below.items():
        if name not in doc:
            continue
        value = doc[name]
        if not all(rest):
            found[name] = value
        elif isinstance(value, dict):
            found[name] = _picked(value, rest)
        elif isinstance(value, list):
            found[name] = [_picked(part, rest) for part in value if isinstance(part, dict)]
    return found


def _drop(doc: Doc, path: Sequence[str]) -> None:
    if len(path) == 1:
        doc.pop(path[0], None)
    elif isinstance(doc.get(path[0]), dict):
        doc[path[0]] = dict(doc[path[0]])
        _drop(doc[path[0]], path[1:])
