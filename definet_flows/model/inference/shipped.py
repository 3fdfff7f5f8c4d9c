"""Checkpoints that come with the package, by name; nothing here loads torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "weights"
"""Their folder."""


def shipped_models() -> tuple[str, ...]:
    """Registry ids of the shipped models."""
    return tuple(sorted(p.stem for p in SHIPPED.glob("*.safetensors")))


@cache
def shipped_weights() -> dict[str, str]:
    """Registry id of each shipped model by the sha256 of its file."""
    return {file_hash(SHIPPED / f"{name}.safetensors"): name for name in shipped_models()}


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
