"""Opening a record store by its name: what the name means stands in the settings of the machine that asks.

Jobs carry names. A maggma Store object has a name too: that of the settings, a SQLite file's path, or a name that only
this process knows.
"""

from __future__ import annotations

from contextlib import contextmanager
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from maggma.core import Store
from monty.json import MontyDecoder

from definet_flows.errors import InputError
from definet_flows.settings import load_settings
from definet_flows.stores.backends.sqlite import SqliteStore
from definet_flows.stores.durability import prepare, prove_once
from definet_flows.stores.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator

StoreLike: TypeAlias = "Store | Path | str"
"""A record store as a user names it: a maggma Store, the path of its file, or a name of the settings."""

LOCAL = "local"
PATHS = (".sqlite", ".db", ".jsonl")
"""How a record store ends that is named by its path."""

_GIVEN: dict[str, Store] = {}
"""Stores that this process was given as objects, by name; their owner closes them."""
_OBJECT = "given as an object: "


def open_store(name: StoreLike | None = None, *, read_only: bool = False) -> Records:
    """Open a record store by name.

    Parameters
    ----------
    name
        A name under `record_stores` in the settings; `local` for the SQLite file in the data folder; a path that ends
        in `.sqlite` or `.db` for such a file there, in `.jsonl` for a journal of earlier versions; a maggma Store,
        which stays open when the records are closed; None for the setting `record_store`.
    read_only
        Change nothing.

    Raises
    ------
    InputError
        If the name is unknown, or the store cannot be reached or read; unless `read_only`, if it does not keep what is
        written.
    """
    settings = load_settings()
    name = name_of(name) or settings.record_store
    if name.startswith(_OBJECT):
        return _open_given(name, read_only=read_only)
    if name in settings.record_stores:
        return _open_named(name, settings.record_stores[name], read_only=read_only)
    if name == LOCAL:
        folder = settings.data_dir
        journal = str(folder / "records.jsonl")  # of earlier versions
        store = SqliteStore(str(folder / "records.sqlite"), read_only=read_only, journal=journal)
    elif name.endswith(PATHS):
        store = SqliteStore(str(Path(name).expanduser().absolute()), read_only=read_only)
    else:
        known = ", ".join(sorted({LOCAL, *settings.record_stores}))
        msg = f"no record store is called {name!r}: give one of {known}, or a path ending in .sqlite"
        raise InputError(msg)
    return Records(store, name=name, read_only=read_only)


@contextmanager
def opened(records: Records | StoreLike) -> Iterator[Records]:
    """Give open records as they are; open a store for reading, and close it at the end. Raises as `open_store`."""
    if isinstance(records, Records):
        yield records
        return
    with open_store(records, read_only=True) as found:
        yield found


def name_of(store: StoreLike | None) -> str | None:
    """Return the name by which jobs know a record store; None for the store of the settings.

    Parameters
    ----------
    store
        A name or a path, kept as it is; a SQLite store, whose name is the path of its file; any other maggma Store:
        its name in the settings, else a name for this process alone.

    Raises
    ------
    InputError
        If it is none of these, or a Path that does not end as the file of a store.
    """
    if isinstance(store, Path) and store.suffix not in PATHS:
        msg = f"store={str(store)!r}: the path of a record store ends in .sqlite"
        raise InputError(msg)
    if isinstance(store, SqliteStore):
        return str(store.file)
    if isinstance(store, Store):
        return _named_in_settings(store) or _remembered(store)
    try:
        return None if store is None else fspath(store)
    except TypeError:
        msg = f"store={store!r}: give the name of a record store, a path that ends in .sqlite, or a maggma Store"
        raise InputError(msg) from None


def _named_in_settings(store: Store) -> str | None:
    specs = load_settings().record_stores.items()
    kind = type(store).__name__
    alike = (name for name, spec in specs if spec.get("@class") == kind and _from_spec(name, spec) == store)
    return next(alike, None)


def _remembered(store: Store) -> str:
    known = next((name for name, given in _GIVEN.items() if given is store), None)
    if known is None:
        known = f"{_OBJECT}{type(store).__name__} {len(_GIVEN) + 1}"  # its own name may hold a password
        _GIVEN[known] = store
    return known


class _Kept(Records):
    """Records in a Store that its owner closes."""

    def close(self) -> None:
        """Leave the connection to the owner."""


def _open_given(name: str, *, read_only: bool) -> Records:
    if name not in _GIVEN:
        msg = f"record store {name!r} is an object of another process: name it under record_stores in the settings"
        raise InputError(msg)
    return _Kept(_GIVEN[name], name=name, read_only=read_only)


def _open_named(name: str, spec: dict[str, Any], *, read_only: bool) -> Records:
    """Open a store of the settings; before the first writing of this process it is tried whether it keeps anything."""
    store, what = _from_spec(name, spec), f"record store {name!r}"
    prepare(store, what, read_only=read_only)
    records = Records(store, name=name, read_only=read_only)
    if read_only:
        return records
    try:
        with records._errors():  # noqa: SLF001 - of the same module
            prove_once(store, lambda: _from_spec(name, spec), what, spec)
    except InputError:
        records.close()
        raise
    return records


def portable(name: str | None) -> str | None:
    """Return the name of a record store for jobs, which run in folders of their own: a path is made absolute."""
    return str(Path(name).expanduser().absolute()) if name is not None and name.endswith(PATHS) else name


def _from_spec(name: str, spec: dict[str, Any]) -> Store:
    """Build a Store from the settings; the message never shows the arguments, a password is among them."""
    try:
        store = MontyDecoder().process_decoded(dict(spec))
    except Exception as error:  # noqa: BLE001 - whatever a Store's constructor raises may quote its arguments
        msg = f"record store {name!r}: {type(error).__name__} while building it: mend it in the settings"
        raise InputError(msg) from None
    if not isinstance(store, Store):
        msg = f"record store {name!r} is no maggma Store: give it '@module' and '@class' in the settings"
        raise InputError(msg)
    return store
