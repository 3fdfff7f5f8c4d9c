"""Ledgers of many records in one document, so that a query of a MongoDB never reads a structure.

A server that is asked for a field of 100,000 records reads 100,000 documents of 30 kB to find it. So each write of a
record or a pair also sets its row in one of `PAGES` documents of kind `page`, in the same command: a client that dies
leaves both or neither. `definet records build` makes the pages anew where documents came in by another way.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pymongo import UpdateOne

from definet_flows.errors import InputError
from definet_flows.schemas import content_hash
from definet_flows.stores.table import Arm, Ends, arm_of, ends_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from definet_flows.stores.filters import Filter

Of = Literal["record", "pair"]
Raw = dict[str, Any]

PAGES = 1024
"""Pages of each kind: some forty kilobytes each at 100,000 records."""

FORMAT = 1
"""First entry of every row; raised whenever the fields of Arm or Ends change."""

_OWN = 2  # first entries of a row that no other row has: its id and, but for its pair, its configuration

MARK = {"id": content_hash("pages", FORMAT), "kind": "pages"}
"""Document that says that every record and pair of the store is in pages of this format."""


def updates(documents: Iterable[Raw]) -> list[UpdateOne]:
    """Return what sets the rows of stored records and pairs; other documents have none."""
    rows: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for raw in documents:
        if raw["kind"] in ("record", "pair"):
            row = arm_of(raw) if raw["kind"] == "record" else ends_of(raw)
            rows[raw["kind"], _number(raw["configuration_id"])][f"rows.{raw['id']}"] = encode(row)
    return [
        UpdateOne(
            {"id": page_id(of, number)},
            {"$set": changed, "$setOnInsert": {"kind": "page", "of": of}},
            upsert=True,
        )
        for (of, number), changed in rows.items()
    ]


def encode(row: Arm | Ends) -> str:
    """Return a row as JSON: one value to a server, whatever number of fields it has."""
    return orjson.dumps([FORMAT, *row]).decode()


def criteria(of: Of, where: Filter) -> Raw:
    """Return the MongoDB filter of the pages that can hold what is asked for."""
    if where.configuration_ids is None:
        return {"kind": "page", "of": of}
    return {"id": {"$in": sorted({page_id(of, _number(one)) for one in where.configuration_ids})}}


def arms(pages: Iterable[Raw]) -> Iterator[Arm]:
    """Yield the rows of records. Raises InputError if one is of another format."""
    return map(Arm._make, _rows(pages, Arm._fields.index("error")))


def ends(pages: Iterable[Raw]) -> Iterator[Ends]:
    """Yield the rows of pairs. Raises as `arms`."""
    return map(Ends._make, _rows(pages, Ends._fields.index("steps_unrelaxed")))


def _rows(pages: Iterable[Raw], shared: int) -> Iterator[list[Any]]:
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # names and hashes come again and again: held in memory once
    for page in pages:
        rows = page["rows"]
        parsed = orjson.loads(f"[{','.join(rows.values())}]")  # all at once: a call for each takes twice as long
        for identity, (version, *values) in zip(rows, parsed, strict=True):
            if version != FORMAT:
                remedy = "update definet_flows" if version > FORMAT else "update the machine that wrote it"
                msg = f"the ledger of {identity} has format {version}, this definet_flows reads {FORMAT}: {remedy}"
                raise InputError(msg)
            common = tuple(values[_OWN:shared])
            yield [*values[:_OWN], *known.setdefault(common, common), *values[shared:]]


def page_id(of: Of | str, number: int) -> str:
    """Return the id of one page."""
    return content_hash("page", of, number)


def _number(configuration_id: str) -> int:
    return int(hashlib.sha256(configuration_id.encode()).hexdigest()[:8], 16) % PAGES
