"""A store of somebody else's that does keep what is written."""

from __future__ import annotations

import json
from pathlib import Path

from maggma.stores import MemoryStore


class Kept(MemoryStore):
    """Stand for a store that extends MemoryStore and does keep what is written: in a file of its own."""

    def __init__(self, path: str = "kept.json", **kwargs):
        super().__init__(**kwargs)
        self.path = path

    @property
    def name(self):
        return f"kept://{self.path}"

    def connect(self, *_, **__):
        super().connect()
        if Path(self.path).exists():
            super().update(json.loads(Path(self.path).read_text()))

    def update(self, docs, key=None):
        super().update(docs, key=key)
        found = [{k: v for k, v in doc.items() if k not in ("_id", "last_updated")} for doc in self.query()]
        Path(self.path).write_text(json.dumps(found))
