"""Weights by name on the machine that needs them: from the package, a file, or a record store's registry."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.foreign import file_name
from definet_flows.settings import load_settings
from definet_flows.stores import open_store
from definet_flows.stores.registry import champion, find_model
from definet_flows.stores.weights import get_weights
from definet_flows.whole import replacing

if TYPE_CHECKING:
    from definet_flows.model.checkpoint import Checkpoint
    from definet_flows.schemas.models import Model
    from definet_flows.stores import Records

CHAMPION = "champion"
"""Stands for the champion of a campaign's settings hash where a model is named."""

_FILE = ".safetensors"


def checkpoint_of(ref: str, store: str | None, sha256: str | None = None) -> Checkpoint:
    """Return the checkpoint of a registry id: of the package, a `.safetensors` file, or a model in a record store.

    What comes from a store is kept in the cache folder and used from there, its sha256 checked each time.

    Parameters
    ----------
    ref
        Registry id, file, or the beginning of a sha256.
    store
        Name of the record store.
    sha256
        Of the weights, if known: with them in the cache, the store is not asked.

    Raises
    ------
    InputError
        If there is no such model.
    """
    from definet_flows.model.checkpoint import load_checkpoint, shipped_models  # noqa: PLC0415 - torch

    if ref.endswith(_FILE) or ref in shipped_models():
        return load_checkpoint(ref)
    if sha256 is not None and _whole(cached := _place(sha256), sha256):
        return load_checkpoint(cached)
    try:
        with open_store(store, read_only=True) as records:
            return stored_checkpoint(records, find_model(records, ref))
    except InputError as error:
        msg = f"no model {ref!r}: neither a {_FILE} file nor one of {', '.join(shipped_models())}; {error}"
        raise InputError(msg) from None


def stored_checkpoint(records: Records, model: Model) -> Checkpoint:
    """Return the checkpoint of a registered model, from the cache folder or through it."""
    from definet_flows.model.checkpoint import load_checkpoint  # noqa: PLC0415 - torch

    path = _place(model.sha256)
    if not _whole(path, model.sha256):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(get_weights(records, model.sha256))
    return load_checkpoint(path)


def champion_of(store: str | None, settings_hash: str) -> Model:
    """Return the champion of one settings hash.

    Raises
    ------
    InputError
        If there is none.
    """
    with open_store(store, read_only=True) as records:
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
