"""Ledgers of many records in one document, so that a query of a MongoDB never reads a structure.

A server that is asked for a field of 100,000 records reads 100,000 documents of 30 kB to find it. So each write of a
record, a pair or a prediction also sets its row in a document of kind `page`, in the same command: a
client that dies leaves both or neither. `definet records build` makes the pages anew where documents were stored by
another program.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pymongo import UpdateOne

from definet_flows.errors import BadDocumentError, InputError
from definet_flows.schemas import content_hash
from definet_flows.stores.analysis.rows import FORMS, Of, Row, checked_row, checked_rows, unchecked_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from definet_flows.stores.filters import Filter

Raw = dict[str, Any]
_T = TypeVar("_T")

PAGES = 1024
"""Pages of each kind: some forty kilobytes each at 100,000 records."""

FORMAT = 3
"""First entry of every row; raised whenever the fields of RecordRow, PairRow or PredictionRow change."""

_HEAD = f"[{FORMAT},"
_SHOWN = 40  # characters of a broken row in a message


def mark(of: Of) -> Raw:
    """Return the document that marks that the pages of this format hold everything of a kind."""
    names = ("pages", FORMAT) if of in ("record", "pair") else ("pages", FORMAT, of)
    return {"id": content_hash(*names), "kind": "pages"}


def updates(documents: Iterable[Raw]) -> list[UpdateOne]:
    """Return the updates that set the rows of stored records, pairs and predictions; other documents have none."""
    rows: dict[tuple[Of, int], dict[str, str]] = defaultdict(dict)
    for raw in documents:
        if raw["kind"] in FORMS:
            row = unchecked_row(raw["kind"], raw)
            rows[raw["kind"], _number(raw["configuration_id"])][f"rows.{raw['id']}"] = encode(row)
    return [
        UpdateOne(
            {"id": page_id(of, number)},
            {"$set": changed, "$setOnInsert": {"kind": "page", "of": of}},
            upsert=True,
        )
        for (of, number), changed in rows.items()
    ]


def encode(row: Row) -> str:
    """Return a row as JSON, which is a single value to a server."""
    return orjson.dumps([FORMAT, *row]).decode()


def criteria(of: Of, where: Filter) -> Raw:
    """Return the MongoDB filter of the pages that can hold the rows of `where`."""
    if where.configuration_ids is None:
        return {"kind": "page", "of": of}
    return {"id": {"$in": sorted({page_id(of, _number(identity)) for identity in where.configuration_ids})}}


def decode(of: Of, encoded: Sequence[str]) -> tuple[list[Row], list[BadDocumentError]]:
    """Return the rows that `encode` has written, checked, and the faults of those that cannot be.

    Parameters
    ----------
    of
        Kind of the documents.
    encoded
        Rows as JSON.

    Raises
    ------
    InputError
        If a row is of another format, or no row at all.
    """
    listed = f"[[{',['.join(text.removeprefix(_HEAD) for text in encoded)}]" if encoded else "[]"
    rows = checked_rows(of, listed)  # all at once: a call for each takes three times as long
    if rows is not None and len(rows) == len(encoded):
        return rows, []
    return tried(lambda text: checked_row(of, _parsed(text)), encoded)


def tried(read: Callable[[_T], Row], items: Iterable[_T]) -> tuple[list[Row], list[BadDocumentError]]:
    """Return the rows that can be read, and the faults of the others."""
    found, faults = list[Row](), list[BadDocumentError]()
    for item in items:
        try:
            found.append(read(item))
        except BadDocumentError as error:
            faults.append(error)
    return found, faults


def texts(page: Raw) -> list[str]:
    """Return the rows in a page, as JSON. Raises InputError if the page is broken."""
    rows = page.get("rows")
    if not isinstance(rows, dict) or not all(isinstance(text, str) for text in rows.values()):
        msg = f"page {page.get('id')} of the record store is broken: make the pages anew by `definet records build`"
        raise InputError(msg)
    return list(rows.values())


def _parsed(text: str) -> list[Any]:
    """Return the values of a row. Raises InputError if it is of another format, or broken."""
    try:
        version, identity, *rest = orjson.loads(text)
        newer = version > FORMAT
    except (TypeError, ValueError):
        msg = f"a row of the record store is broken ({text[:_SHOWN]!r}): make the rows anew by `definet records build`"
        raise InputError(msg) from None
    if version != FORMAT:
        remedy = "update definet_flows" if newer else "update the machine that wrote it"
        msg = f"the ledger of {identity} has format {version}, this definet_flows reads {FORMAT}: {remedy}"
        raise InputError(msg)
    return [identity, *rest]


def page_id(of: Of | str, number: int) -> str:
    """Return the id of a page."""
    return content_hash("page", of, number)


def _number(configuration_id: str) -> int:
    return int(hashlib.sha256(configuration_id.encode()).hexdigest()[:8], 16) % PAGES
