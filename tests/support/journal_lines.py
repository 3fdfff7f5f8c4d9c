"""Journals as earlier versions have written them."""

from __future__ import annotations

import json
import zlib

from bson import json_util


def line(**operation) -> bytes:
    body = json.dumps(operation, default=json_util.default, separators=(",", ":")).encode()
    return b'{"crc":"%08x",' % zlib.crc32(body[1:]) + body[1:] + b"\n"


def header(generation="f" * 32) -> bytes:
    return line(journal=1, generation=generation)


def put(*docs) -> bytes:
    """Return the line that places documents; `_id` is their id."""
    return line(put=[{**doc, "_id": f"_{doc['id']}"} for doc in docs])
