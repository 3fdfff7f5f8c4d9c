"""Place, time and versions of a computation."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

_PACKAGES = ("ase", "atomate2", "chgnet", "definet-flows", "gpaw", "jobflow", "pymatgen", "sevenn", "torch")


@cache
def versions() -> dict[str, str]:
    """Return the versions of the installed packages that a result may depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def from_local(time: str) -> str:
    """Return a time of this machine's clock, as jobflow writes it into its documents, in UTC to the second."""
    return datetime.fromisoformat(time).astimezone(UTC).isoformat(timespec="seconds")


def local_folder(document: Mapping[str, Any] | BaseModel | None) -> Path | None:
    """Return the directory of an engine's run if this machine has it."""
    found = location(document)
    if document is None or found["hostname"] != socket.gethostname() or not found["directory"]:
        return None
    folder = Path(found["directory"])
    return folder if folder.is_dir() else None


def location(document: Mapping[str, Any] | BaseModel | None) -> dict[str, str | None]:
    """Return host name and directory of an engine's run: from its document, else of this process."""
    directory = document.get("dir_name") if isinstance(document, dict) else getattr(document, "dir_name", None)
    machine, separator, folder = str(directory or "").partition(":/")
    if separator:  # atomate2 writes machine:/path
        return {"hostname": machine, "directory": f"/{folder}"}
    return {"hostname": socket.gethostname(), "directory": directory or None}
