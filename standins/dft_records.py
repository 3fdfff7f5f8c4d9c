"""Records of a campaign in a file of the repository: a compressed line of JSON for each document."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definet_flows.schemas import (
    DefectRecord,
    Document,
    KnownPreRelaxer,
    Pair,
    Prediction,
    RelaxedHost,
    Supercell,
    dump,
)
from definet_flows.stores import Records, open_store
from definet_flows.stores.versions import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: dict[str, type[Document]] = {
    "host": RelaxedHost,
    "pair": Pair,
    "prediction": Prediction,
    "prerelaxer": KnownPreRelaxer,
    "record": DefectRecord,
    "supercell": Supercell,
}
_PLACE = re.compile(r"\S+:/[^\s:]+")  # machine:/folder
OF_MACHINE = dict.fromkeys(("hostname", "directory", "job_uuid", "owner", "pid", "session"))
"""What a document says of the machine and the process that made it; nothing of it is committed."""


def commit(store: str, data: Path) -> int:
    """Write the finished relaxations of a store, and all that belongs to them, beside what a file holds.

    The same documents give the same bytes.

    Returns
    -------
    int
        How many documents the file holds then.
    """
    with open_store(store, read_only=True) as records:
        mine = {one["id"]: one for one in map(_portable, finished(records))}
    kept = {one["id"]: one for one in read(data)} | mine
    lines = [json.dumps(one, sort_keys=True) for one in sorted(kept.values(), key=lambda one: (one["kind"], one["id"]))]
    data.parent.mkdir(parents=True, exist_ok=True)
    with data.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
    return len(kept)


def finished(records: Records) -> Iterator[Document]:
    """Yield the documents of a store that a later run can build on."""
    for kind in _KINDS.values():
        criteria = {"status": "done"} if kind is DefectRecord else {}
        yield from records.find(kind, criteria)


def _portable(document: Document) -> dict[str, Any]:
    """Return a document without what belongs to the machine that made it: names, folders, processes."""
    raw = dump(document)
    if "provenance" in raw:
        raw["provenance"] |= OF_MACHINE
    if ledger := raw.get("ledger"):
        ledger["notes"] = [_PLACE.sub("a folder", note) for note in ledger["notes"]]
        for attempt in ledger["attempts"]:
            attempt["directory"] = None
    return raw


def read(data: Path) -> list[dict[str, Any]]:
    """Return the documents in a file; none if there is no file."""
    if not data.is_file():
        return []
    with gzip.open(data, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def restore(store: str, data: Path) -> int:
    """Put the documents of a file into a store, unless it has them; return how many were new."""
    with open_store(store) as records:
        known = {one.id for kind in _KINDS.values() for one in records.find(kind)}
        new = [parse(one, _KINDS[one["kind"]]) for one in read(data) if one["id"] not in known]
        records.put(*new)
    return len(new)


@contextmanager
def opened(data: Path) -> Iterator[Records]:
    """Open the documents of a file as a store."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "records.sqlite")
        restore(store, data)
        with open_store(store, read_only=True) as records:
            yield records
