"""Ledgers of many records in one document, so that a query of a MongoDB never reads a structure.

A server that is asked for a field of 100,000 records reads 100,000 documents of 30 kB to find it. So each write of a
record, a pair or a prediction also sets its row in a document of kind `page`, in the same command: a
client that dies leaves both or neither. `definet records build` makes the pages anew where documents were stored by
another program.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pymongo import UpdateOne

from definet_flows.errors import InputError
from definet_flows.schemas import content_hash
from definet_flows.stores.analysis.rows import (
    PAIR_PATHS,
    PREDICTION_PATHS,
    RECORD_PATHS,
    PairRow,
    PredictionRow,
    RecordRow,
    checked_pair_row,
    checked_prediction_row,
    checked_record_row,
    unchecked_pair_row,
    unchecked_prediction_row,
    unchecked_record_row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from definet_flows.stores.filters import Filter

Of = Literal["record", "pair", "prediction"]
Raw = dict[str, Any]

PAGES = 1024
"""Pages of each kind: some forty kilobytes each at 100,000 records."""

FORMAT = 1
"""First entry of every row; raised whenever the fields of RecordRow, PairRow or PredictionRow change."""

PATHS: dict[Of, tuple[str, ...]] = {"record": RECORD_PATHS, "pair": PAIR_PATHS, "prediction": PREDICTION_PATHS}
"""The kinds of documents that have rows, and the fields that these are made of."""

_ROW_OF: Mapping[str, Callable[[Raw], RecordRow | PairRow | PredictionRow]] = {
    "record": unchecked_record_row,
    "pair": unchecked_pair_row,
    "prediction": unchecked_prediction_row,
}

_OWN = 2  # first entries of a row that no other row has: its id and, but for its pair, its configuration


def mark(of: Of) -> Raw:
    """Return the document that marks that the pages of this format hold everything of a kind."""
    names = ("pages", FORMAT) if of in ("record", "pair") else ("pages", FORMAT, of)
    return {"id": content_hash(*names), "kind": "pages"}


def updates(documents: Iterable[Raw]) -> list[UpdateOne]:
    """Return the updates that set the rows of stored records, pairs and predictions; other documents have none."""
    rows: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for raw in documents:
        if raw["kind"] in _ROW_OF:
            row = _ROW_OF[raw["kind"]](raw)
            rows[raw["kind"], _number(raw["configuration_id"])][f"rows.{raw['id']}"] = encode(row)
    return [
        UpdateOne(
            {"id": page_id(of, number)},
            {"$set": changed, "$setOnInsert": {"kind": "page", "of": of}},
            upsert=True,
        )
        for (of, number), changed in rows.items()
    ]


def encode(row: RecordRow | PairRow | PredictionRow) -> str:
    """Return a row as JSON, which is a single value to a server."""
    return orjson.dumps([FORMAT, *row]).decode()


def criteria(of: Of, where: Filter) -> Raw:
    """Return the MongoDB filter of the pages that can hold the rows of `where`."""
    if where.configuration_ids is None:
        return {"kind": "page", "of": of}
    return {"id": {"$in": sorted({page_id(of, _number(identity)) for identity in where.configuration_ids})}}


def record_rows(pages: Iterable[Raw]) -> Iterator[RecordRow]:
    """Return the rows of records, each checked when it is asked for; raises InputError if a page is of another format.

    An impossible value in a row raises BadDocumentError; the rows after it can still be read.
    """
    return map(checked_record_row, _rows(pages, RecordRow._fields.index("error")))


def pair_rows(pages: Iterable[Raw]) -> Iterator[PairRow]:
    """Return the rows of pairs. Raises as `record_rows`."""
    return map(checked_pair_row, _rows(pages, PairRow._fields.index("steps_unrelaxed")))


def prediction_rows(pages: Iterable[Raw]) -> Iterator[PredictionRow]:
    """Yield the rows of predictions. Raises as `record_rows`."""
    return map(checked_prediction_row, _rows(pages, len(PredictionRow._fields)))


def _rows(pages: Iterable[Raw], shared: int) -> Iterator[list[Any]]:
    """Yield the values of each row, not checked. Raises InputError if a row is of another format, or a page broken."""
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # names and hashes come again and again: held in memory once
    for page in pages:
        try:
            rows = page["rows"]
            parsed = orjson.loads(f"[{','.join(rows.values())}]")  # all at once: a call for each takes twice as long
            identified = [(identity, *row) for identity, row in zip(rows, parsed, strict=True)]
        except (KeyError, TypeError, AttributeError, ValueError):
            msg = f"page {page.get('id')} of the record store is broken: make the pages anew by `definet records build`"
            raise InputError(msg) from None
        for identity, version, *values in identified:
            if version != FORMAT:
                remedy = "update definet_flows" if version > FORMAT else "update the machine that wrote it"
                msg = f"the ledger of {identity} has format {version}, this definet_flows reads {FORMAT}: {remedy}"
                raise InputError(msg)
            common = tuple(values[_OWN:shared])
            yield [*values[:_OWN], *known.setdefault(common, common), *values[shared:]]


def page_id(of: Of | str, number: int) -> str:
    """Return the id of a page."""
    return content_hash("page", of, number)


def _number(configuration_id: str) -> int:
    return int(hashlib.sha256(configuration_id.encode()).hexdigest()[:8], 16) % PAGES
