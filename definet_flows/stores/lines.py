"""The lines of a journal file: JSON, one operation each, with a checksum in front.

A line reads `{"crc":"1f2e3d4c","put":[...]}`; the checksum covers everything behind its own field.
What JSON cannot say (times, bytes, ObjectIds) is written as MongoDB's extended JSON. Operations:
`put` (documents to place by `_id`), `drop` (ids to remove), `unique` (a field that must stay unique)
and, in the first line only, `journal` (format version) with a `generation` that changes whenever the
file is rewritten.
"""

from __future__ import annotations

import json
import uuid
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
from bson import json_util

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT = 1

_TIME = "last_updated"  # in every record, and in most documents the only thing that JSON cannot say
_CRC_FIELD = b'{"crc":"%08x",'
_CRC, _BODY = _CRC_FIELD.index(b"%"), len(_CRC_FIELD % 0)

Operation = dict[str, Any]


def header() -> bytes:
    """Return the first line of a new journal."""
    return encode({"journal": FORMAT, "generation": uuid.uuid4().hex})


def read_header(file: BinaryIO) -> bytes:
    """Return the first line; it may be torn if the journal was made a moment ago.

    Raises
    ------
    InputError
        If the file is no journal (it is not to be truncated or appended to), or of a newer format.
    """
    head = file.readline()
    operation = decode(head)
    start = _CRC_FIELD[:_CRC]
    if operation is None and (head.endswith(b"\n") or len(head) > len(header()) or head[:_CRC] != start[: len(head)]):
        msg = f"{file.name} is not a journal of definet_flows: name another file"
        raise InputError(msg)
    if operation is not None and operation.get("journal", 0) != FORMAT:
        msg = f"journal {file.name} has format {operation.get('journal')}, not {FORMAT}: update definet_flows"
        raise InputError(msg)
    return head


def encode(operation: Operation) -> bytes:
    """Return the line that says `operation`, newline included."""
    body = json.dumps(operation, default=json_util.default, separators=(",", ":")).encode()
    return _CRC_FIELD % zlib.crc32(body[1:]) + body[1:] + b"\n"


def decode(line: bytes) -> Operation | None:
    """Return the operation a line says; None if the line is torn or damaged."""
    rest = line[_BODY:-1]
    if not line.endswith(b"\n") or line[:_BODY] != _CRC_FIELD % zlib.crc32(rest):
        return None
    operation: Operation = _loads(b"{" + rest)
    special = rest.count(b'"$')
    if special:
        times = [doc for doc in operation.get("put", ()) if isinstance(doc.get(_TIME), dict)]
        for doc in times:
            doc[_TIME] = json_util.object_hook(doc[_TIME])
        if len(times) < special:
            operation = _revived(operation)
    return operation


def _loads(text: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return orjson.loads(text)  # four times as fast; it knows no NaN
    except orjson.JSONDecodeError:
        return json.loads(text)


def _revived(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON with MongoDB's extended forms turned into what they mean."""
    if isinstance(value, dict):
        whole = {key: _revived(part) for key, part in value.items()}
        return json_util.object_hook(whole) if any(key.startswith("$") for key in whole) else whole
    return [_revived(part) for part in value] if isinstance(value, list) else value


def operations(file: BinaryIO) -> Iterator[tuple[int, Operation]]:
    """Yield the operations from the file's position on, each with the offset at which its line ends.

    Damage at the very end is a write that was never acknowledged: the iteration ends before it.

    Raises
    ------
    InputError
        If anything follows a damaged line: a write was acknowledged after it.
    """
    start = file.tell()
    for line in file:
        end = start + len(line)
        operation = decode(line)
        if operation is None:
            if line.endswith(b"\n") and file.read(1):
                msg = f"journal {file.name} is damaged at byte {start}: restore it from a backup or delete that line"
                raise InputError(msg)
            return
        yield end, operation
        start = end


def content(documents: Iterable[Operation], unique: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines behind the header of a journal that holds exactly these documents."""
    yield from (encode({"unique": field}) for field in unique)
    yield from (encode({"put": [document]}) for document in documents)
