"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path`, on disk, once the block has ended well.

    The new file has the mode that the umask gives. Two processes that write the same file do not see each other's
    parts: the one that ends last has its file there.

    Raises
    ------
    InputError
        If the file cannot be written; what was there is then still there.
    """
    if path.is_dir():
        msg = f"{path} is a folder: name a file"
        raise InputError(msg)
    part = _part(path)
    try:
        part.touch()
        mode = part.stat().st_mode  # by the umask; safetensors, for one, writes files that nobody else may read
        yield part
        part.chmod(mode)
        _sync(part)
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error.strerror or error) from None
    finally:
        with suppress(OSError):
            part.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file, UTF-8; bytes that were read as surrogates are written as they were. Raises as `replacing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that gets the name `path` once the block has ended well.

    Raises
    ------
    InputError
        If there is something of that name already, or the folder cannot be made.
    """
    if path.exists():
        msg = f"{path} is there already: name a new folder"
        raise InputError(msg)
    part = _part(path)
    try:
        part.mkdir()
        yield part
        part.rename(path)
    except OSError as error:
        raise unwritable(path, error.strerror or error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def unwritable(path: Path, why: object) -> InputError:
    """Return the error that says that a file or folder cannot be written."""
    return InputError(f"{path} cannot be written ({why}): name another place")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _sync(path: Path) -> None:
    """Have the content on disk before the name: a power cut must not leave an empty file under it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
