"""Opening a record store by its name: what the name means stands in the settings of the machine that asks."""

from __future__ import annotations

from os import fspath
from pathlib import Path
from typing import Any

from maggma.core import Store
from monty.json import MontyDecoder

from definet_flows.errors import InputError
from definet_flows.settings import load_settings
from definet_flows.stores.backends.sqlite import SqliteStore
from definet_flows.stores.durability import prepare, prove_once
from definet_flows.stores.records import Records

LOCAL = "local"
PATHS = (".sqlite", ".db", ".jsonl")
"""How a record store ends that is named by its path."""


def open_store(name: str | Path | None = None, *, read_only: bool = False) -> Records:
    """Open a record store by name.

    Parameters
    ----------
    name
        A name under `record_stores` in the settings; `local` for the SQLite file in the data folder; a path that ends
        in `.sqlite` or `.db` for such a file there, in `.jsonl` for a journal of earlier versions; None for the setting
        `record_store`.
    read_only
        Change nothing.

    Raises
    ------
    InputError
        If the name is unknown, or the store cannot be reached or read; unless `read_only`, if it does not keep what is
        written.
    """
    settings = load_settings()
    name = settings.record_store if not name else fspath(name)
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
