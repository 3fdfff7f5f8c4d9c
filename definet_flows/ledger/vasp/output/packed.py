"""VASP's files as streams, plain or compressed; of cut or damaged files everything before the fault."""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import subprocess
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from monty.io import zopen

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKINGS = (".gz", ".bz2", ".xz", ".lzma", ".zst")
"""Endings of compressed files that can be read."""

DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""Errors of a file that is cut off or damaged."""

_CHUNK = 1 << 20  # bytes; no line of VASP is longer, and a file without line ends takes no more memory


class Lines:
    """The lines of a file, in order; `damage` then gives the fault that ended them too early."""

    def __init__(self, path: Path) -> None:
        self.path, self.damage = path, ""

    def __iter__(self) -> Iterator[str]:
        try:
            with open_packed(self.path) as file, io.TextIOWrapper(file, encoding="latin-1") as text:
                while line := text.readline(_CHUNK):
                    yield line
        except DAMAGE as error:
            self.damage = f"{self.path.name} is damaged: {error}"


def file_in(folder: Path, name: str) -> Path | None:
    """Return a file of this name, plain or compressed; None without."""
    return next((path for end in ("", *PACKINGS) if (path := folder / f"{name}{end}").is_file()), None)


@contextmanager
def open_packed(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, as a stream of its uncompressed bytes.

    Raises
    ------
    InputError
        If it is a .zst file and there is no program `zstd` to read it.
    """
    if path.suffix.lower() != ".zst":
        with zopen(path, mode="rb") as file:
            yield file
        return
    program = shutil.which("zstd")
    if program is None:
        msg = f"{path} needs the program zstd, which is not on PATH: install it, or unpack the file"
        raise InputError(msg)
    command = [program, "-dcq", "--", str(path)]
    with subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        yield _Checked(process.stdout, process)


class _Checked(io.BufferedReader):
    """The output of a program; its end is an end only if the program says so."""

    def __init__(self, pipe: IO[bytes], process: subprocess.Popen[bytes]) -> None:
        super().__init__(cast("io.RawIOBase", pipe))
        self._process = process

    def read1(self, size: int = -1, /) -> bytes:
        return self._whole(super().read1(size))

    def read(self, size: int | None = -1, /) -> bytes:
        return self._whole(super().read(size))

    def _whole(self, data: bytes) -> bytes:
        if not data and self._process.wait() != 0:
            raise EOFError("the compressed data end too early")
        return data


# ------------------------------------------------------------------ which output is the beginning of which


@dataclass(frozen=True)
class Fingerprint:
    """Length and sha256 of uncompressed content."""

    length: int
    sha256: str


def fingerprint(path: Path, length: int | None = None) -> Fingerprint:
    """Return the fingerprint of a file's content, or of its first `length` bytes; read as a stream."""
    digest, total = hashlib.sha256(), 0
    try:
        with open_packed(path) as file:
            while data := file.read(_CHUNK if length is None else min(_CHUNK, length - total)):
                digest.update(data)
                total += len(data)
    except DAMAGE:
        pass
    return Fingerprint(total, digest.hexdigest())
