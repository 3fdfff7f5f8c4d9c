"""Documents as text: JSON, with MongoDB's extended forms for values that JSON lacks (times, bytes, ObjectIds, NaN)."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import orjson
from bson import json_util
from monty.json import jsanitize

from definet_flows.errors import InputError

Doc = dict[str, Any]

_PLAIN = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_BITS = 63


def encode(doc: Doc) -> tuple[Doc, str]:
    """Return a document as it is read back, and its text, which `decode` turns into just that.

    Times are kept to the millisecond in UTC, as MongoDB keeps them. Objects of monty (MSONable objects, arrays) are
    written as dictionaries.

    Raises
    ------
    InputError
        If the document would not be read back as it is: names the first such field.
    """
    doc = {key: _time(value) if isinstance(value, datetime) else value for key, value in doc.items()}
    try:
        text = orjson.dumps(doc, default=json_util.default, option=_PLAIN)
        if (back := decode(text)) == doc:
            return back, text.decode()
    except (TypeError, ValueError, OverflowError):
        pass  # jsanitize makes a document of it, or nothing does
    return _encode_slowly(doc)


def decode(text: str | bytes) -> Doc:
    """Return the document of a text. Raises ValueError if it is none."""
    doc: Doc = loads(text)
    special = text.count('"$') if isinstance(text, str) else text.count(b'"$')
    if not special:
        return doc
    # Most documents have a single such value, the time of the last change: it needs none of the steps below.
    times = {key: _meant(value) for key, value in doc.items() if isinstance(value, dict) and set(value) == {"$date"}}
    return {**doc, **times} if len(times) == special else revived(doc)


def loads(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return plain JSON; NaN is accepted, which orjson does not know."""
    try:
        return orjson.loads(text)  # four times as fast
    except orjson.JSONDecodeError:
        return json.loads(text)


def revived(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON with MongoDB's extended forms turned into values. Raises ValueError if a form has no meaning."""
    if isinstance(value, dict):
        whole = {key: revived(part) for key, part in value.items()}
        return _meant(whole) if any(key.startswith("$") for key in whole) else whole
    return [revived(part) for part in value] if isinstance(value, list) else value


def _meant(form: Doc) -> Any:  # noqa: ANN401 - a time, bytes, an ObjectId ...
    try:
        return json_util.object_hook(form)
    except Exception as error:  # its parsers raise whatever they meet, IndexError among others
        msg = f"{next(iter(form))}: no value of MongoDB's extended JSON"
        raise ValueError(msg) from error


def _encode_slowly(doc: Doc) -> tuple[Doc, str]:
    clean: Doc = jsanitize(doc, allow_bson=True, recursive_msonable=True)
    try:
        text = json.dumps(_spelled(clean), default=json_util.default, separators=(",", ":"), allow_nan=False)
        text.encode()
        back = decode(text)
    except Exception as error:  # noqa: BLE001 - of whatever a library makes of such a value
        msg = f"a document cannot be stored ({type(error).__name__}: {error}): mend it, nothing of it was written"
        raise InputError(" ".join(msg.split())) from None
    if (place := _difference(clean, back)) is not None:
        msg = f"a document cannot be stored: {place or 'it'} would not be read back as it is; nothing of it was written"
        raise InputError(msg)
    return back, text


def _spelled(value: Any) -> Any:  # noqa: ANN401 - any JSON, and what json_util knows
    """Return a value with the numbers that JSON does not know in MongoDB's extended form."""
    if isinstance(value, dict):
        return {key: _spelled(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$numberDouble": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, int) and value.bit_length() > _BITS:
        msg = f"the whole number {value} has more than 64 bits"
        raise OverflowError(msg)
    return value


def _time(value: datetime) -> datetime:
    """Return a time as it is read back: UTC without a time zone, to the millisecond."""
    utc = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _difference(given: Any, back: Any, place: str = "") -> str | None:  # noqa: ANN401 - any JSON
    """Return the path of the first part that differs, empty for the whole; None if all is equal."""
    if isinstance(given, dict) and isinstance(back, dict) and given.keys() == back.keys():
        parts = ((str(key), part, back[key]) for key, part in given.items())
    elif isinstance(given, list | tuple) and isinstance(back, list) and len(given) == len(back):
        parts = ((str(k), part, other) for k, (part, other) in enumerate(zip(given, back, strict=True)))
    else:
        return None if _equal(given, back) else place
    found = (_difference(first, other, f"{place}.{name}".lstrip(".")) for name, first, other in parts)
    return next((path for path in found if path is not None), None)


def _equal(given: Any, back: Any) -> bool:  # noqa: ANN401 - any JSON
    if isinstance(given, datetime):
        return bool(_time(given) == back)
    if isinstance(given, float) and math.isnan(given):
        return isinstance(back, float) and math.isnan(back)
    return type(given) is type(back) and bool(given == back)
