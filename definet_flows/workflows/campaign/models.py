"""Weights by name on the machine that needs them: from the package, a file, or a record store's registry.

The record store is imported where it is asked: weights of the package and of a file do without it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from definet_flows import stores
from definet_flows.atomic import replacing
from definet_flows.errors import InputError
from definet_flows.foreign import file_name
from definet_flows.model.inference.shipped import shipped_models, shipped_weights
from definet_flows.schemas.models import Champion
from definet_flows.settings import load_settings
from definet_flows.stores.prefix import beginning_with, listed

if TYPE_CHECKING:
    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.schemas.models import Model
    from definet_flows.stores import Records
    from definet_flows.stores.opening import StoreLike

CHAMPION = "champion"
"""Stands for the champion of a campaign's settings hash where a model is named."""

_FILE = ".safetensors"


def checkpoint_of(ref: str, store: StoreLike | None = None, sha256: str | None = None) -> Checkpoint:
    """Return the checkpoint that a person has named, in whichever command.

    A checkpoint from a store is kept in the cache folder and used from there; its sha256 is checked each time.

    Parameters
    ----------
    ref
        A `.safetensors` file; a registry id of the package or of the record store; the beginning of a sha256 of either;
        or `champion`: the champion of the record store, if it has a champion for a single settings hash.
    store
        The record store, as in `open_store`; None: that of the settings.
    sha256
        sha256 of the weights, if known: the store is not asked if the cache holds them.

    Raises
    ------
    InputError
        If there is no such model, or several match; they are listed.
    """
    from definet_flows.model.inference.checkpoint import load_checkpoint  # noqa: PLC0415 - torch

    if ref.endswith(_FILE) or ref in shipped_models():
        return load_checkpoint(ref)
    if sha256 is not None and _whole(cached := _place(sha256), sha256):
        return load_checkpoint(cached)
    if ref == CHAMPION:
        return _sole_champion(store)
    from definet_flows.stores.learning.registry import SHORTEST  # noqa: PLC0415 - loads maggma

    known, where = _registered(store)
    if any(model.id == ref for model in known):
        return _from_store(store, ref)
    names = {model.sha256: model.id for model in known}
    names.update(shipped_weights())
    found = [(sha256, names[sha256])] if sha256 in names else beginning_with(ref, names.items(), SHORTEST)
    if len(found) == 1:
        name = found[0][1]
        return load_checkpoint(name) if name in shipped_models() else _from_store(store, name)
    if found:
        msg = f"several models match {ref!r}: {listed(found)}; give more characters"
        raise InputError(msg)
    msg = f"no model {ref!r}: neither a {_FILE} file nor a name among {', '.join(shipped_models())}; {where}"
    raise InputError(msg)


def _registered(store: StoreLike | None) -> tuple[list[Model], str]:
    """Return the models of a record store, and in words which they are, or why there are none."""
    from definet_flows.stores.learning.registry import models  # noqa: PLC0415 - loads maggma

    try:
        with stores.open_store(store, read_only=True) as records:
            known = models(records)
            there = ", ".join(model.id for model in known) or "none yet"
            return known, f"record store {records.name!r} has {there}"
    except InputError as error:
        return [], str(error)


def _from_store(store: StoreLike | None, ref: str) -> Checkpoint:
    from definet_flows.stores.learning.registry import find_model  # noqa: PLC0415 - loads maggma

    with stores.open_store(store, read_only=True) as records:
        return stored_checkpoint(records, find_model(records, ref))


def _sole_champion(store: StoreLike | None) -> Checkpoint:
    """Return the champion of a store with a single settings hash; after a rollback, the package's model.

    Raises
    ------
    InputError
        If there is none, or there are several.
    """
    from definet_flows.model.inference.checkpoint import DEFAULT_MODEL, load_checkpoint  # noqa: PLC0415 - torch
    from definet_flows.stores.learning.registry import champion  # noqa: PLC0415 - loads maggma

    with stores.open_store(store, read_only=True) as records:
        every = {document.settings_hash for document in records.find(Champion)}
        found = [model for settings_hash in sorted(every) if (model := champion(records, settings_hash)) is not None]
        if len(every) > 1:
            names = ", ".join(f"{model.id} (settings {model.settings_hash[:12]})" for model in found)
            msg = f"record store {records.name!r} has a champion for each of {len(every)} settings: give {names}"
            raise InputError(msg)
        if not every:
            msg = f"record store {records.name!r} has no champion: run `definet retrain`, or name a model"
            raise InputError(msg)
        return stored_checkpoint(records, found[0]) if found else load_checkpoint(DEFAULT_MODEL)


def stored_checkpoint(records: Records, model: Model) -> Checkpoint:
    """Return the checkpoint of a registered model, from the cache folder or through it."""
    from definet_flows.model.inference.checkpoint import load_checkpoint  # noqa: PLC0415 - torch
    from definet_flows.stores.learning.weight_files import get_weights  # noqa: PLC0415 - loads maggma

    path = _place(model.sha256)
    if not _whole(path, model.sha256):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(get_weights(records, model.sha256))
    return load_checkpoint(path)


def champion_of(store: str | None, settings_hash: str) -> Model:
    """Return the champion of a settings hash.

    Raises
    ------
    InputError
        If there is none.
    """
    from definet_flows.stores.learning.registry import champion  # noqa: PLC0415 - loads maggma

    with stores.open_store(store, read_only=True) as records:
        found = champion(records, settings_hash)
        where = records.name
    if found is None:
        msg = f"record store {where!r} has no champion for these settings: run `definet retrain`, or name a model"
        raise InputError(msg)
    return found


def _place(sha256: str) -> Path:
    return load_settings().cache_dir / "models" / f"{file_name(sha256)}{_FILE}"


def _whole(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
