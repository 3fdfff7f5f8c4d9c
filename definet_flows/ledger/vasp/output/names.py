"""Which files are output of VASP, by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KINDS = ("vasprun.xml", "OUTCAR", "OSZICAR")
"""Files with the results of a run, the most complete first."""

_KIND = "|".join(map(re.escape, KINDS))
_OUTPUT = re.compile(
    rf"(?P<name>(?:[^.#~].*)?)(?P<kind>{_KIND})(?P<label>\.(?:relax|run)?\d+)?(?:\.(?:gz|bz2|xz|lzma|zst))?"
)
_HIDDEN = re.compile(r"[.#~].*|.*(?:~|\.sw[a-p])")
_BACKUP = re.compile(r".*[._-](?:bak|backup|old|orig|save|saved|tmp|part|copy)(?:\.\w+)?", re.IGNORECASE)


@dataclass(frozen=True)
class OutputFile:
    """A file that VASP wrote.

    Attributes
    ----------
    path
        Where it is.
    kind
        An element of `KINDS`.
    name
        Text before the kind, as in `NAME.OUTCAR`; empty for the output of a folder's own run.
    label
        Label of the run in its folder: `.relax1`, `.relax2` and so on; empty for the last.
    """

    path: Path
    kind: str
    name: str
    label: str

    @property
    def order(self) -> tuple[bool, int]:
        """When its run came: labels by number, then the run without."""
        return not self.label, int(re.sub(r"\D", "", self.label) or 0)


def output_file(path: Path) -> OutputFile | None:
    """Return the kind of a file by its name; None if it is no output: a backup, an editor's file, a folder."""
    match = _OUTPUT.fullmatch(path.name)
    if match is None or not path.is_file():
        return None
    return OutputFile(path, match["kind"], match["name"], match["label"] or "")


def output_files(folder: Path) -> list[OutputFile]:
    """Return the output of a folder's own runs, in order of the runs; plain files before compressed ones."""
    found = [file for path in sorted(folder.iterdir()) if (file := output_file(path)) is not None and not file.name]
    return sorted(found, key=lambda file: (file.order, KINDS.index(file.kind), len(file.path.name)))


def looks_like_output(path: Path) -> bool:
    """Return whether a person may take a file that is no output for output; hidden and editors' files may not."""
    return any(kind in path.name for kind in KINDS) and not _HIDDEN.fullmatch(path.name) and path.is_file()


def is_backup(path: Path) -> bool:
    """Return whether a file's name says that it is a copy of another."""
    return _BACKUP.fullmatch(path.name) is not None


def labels(files: Iterable[OutputFile]) -> list[str]:
    """Return the labels of the runs in a folder, in order."""
    return list(dict.fromkeys(file.label for file in sorted(files, key=lambda file: file.order)))
