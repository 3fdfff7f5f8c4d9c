"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a file that takes the place of `path` once the block has ended well.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    if path.is_dir():
        msg = f"{path} is a folder: name a file"
        raise InputError(msg)
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None
    except sqlite3.Error as error:  # of ase.db
        raise _unwritable(path, error) from None
    finally:
        part.unlink(missing_ok=True)


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
    part = path.with_name(f"{path.name}.part")
    try:
        part.mkdir()
        yield part
        part.rename(path)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unwritable(path: Path, why: object) -> InputError:
    return InputError(f"{path} cannot be written ({why}): name another place")


def refuse_nothing(count: int) -> None:
    """Refuse an export of nothing.

    Raises
    ------
    InputError
        If the count is zero.
    """
    if not count:
        msg = "no record matches: nothing written; the store is empty or the filters exclude everything in it"
        raise InputError(msg)
