"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_LINKS = 40  # as many as Linux follows
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path`, on disk, once the block has ended well.

    The new file has the mode that the umask gives. A symbolic link stays: the file that it points to is replaced, or
    made if it is missing. Two processes that write the same file do not see each other's parts: the file of the process
    that ends last stays.

    Raises
    ------
    InputError
        If the file cannot be written, or something that is no plain file has its name; what was there is then still
        there.
    """
    target = plain_file(path)
    part = _part(target)
    try:
        part.touch()
        mode = part.stat().st_mode  # by the umask; safetensors writes files that nobody else may read
        yield part
        part.chmod(mode)
        _sync(part)
        part.replace(plain_file(path))
    except OSError as error:
        raise unwritable(path, error.strerror or error) from None
    finally:
        with suppress(OSError):
            part.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file, UTF-8; bytes that were read as surrogates are written as they were. Raises as `replacing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


def plain_file(path: Path) -> Path:
    """Return the file that is meant, links followed; nothing need be there yet.

    Raises
    ------
    InputError
        If it is a folder, device, pipe, socket or open stream, which a file in its place would remove, or if the links
        go in a circle.
    """
    try:
        target = _followed(path)
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return target
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise unwritable(path, getattr(error, "strerror", None) or error) from None
    for matches, what in _NO_FILES:
        if matches(mode):
            msg = f"{path} is {what}: name a file"
            raise InputError(msg)
    return target


def _followed(path: Path) -> Path:
    """Return what a chain of links points to."""
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path
        if path.parent.resolve().match("/proc/*/fd"):  # /dev/stdout among them
            raise OSError(errno.EINVAL, "an open stream, no file")
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that gets the name `path` once the block has ended well.

    Raises
    ------
    InputError
        If there is something of that name already, a link that points to nothing included, or the folder cannot be
        made.
    """
    if os.path.lexists(path):
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
