"""Weights as the authors of DefiNet publish them: a flat dict of tensors, read without running any code in it.

Names and shapes are those of the published code (doi:10.1038/s41524-025-01728-w).
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from definet_flows.errors import InputError
from definet_flows.model.inference.checkpoint import Card, Checkpoint, save_checkpoint
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet

_LISTED = 20
_LARGEST = 4 * 2**30  # bytes


def import_checkpoint(source: Path, out: Path, config: NetworkConfig, name: str) -> Checkpoint:
    """Turn published weights into a checkpoint of ours.

    What they were trained on is unknown, so the gate lets their predictions pass only with `allow_unseen_host`.

    Parameters
    ----------
    source
        A torch file (.pt, .pth, .bin) or .safetensors: dict name -> tensor, or that dict under one key.
    out
        The .safetensors file to write, whole or not at all.
    config
        Shape of the network; element table of 118 rows, row = Z.
    name
        Registry id for the card.

    Raises
    ------
    InputError
        If the file is not readable without running code, or its entries are not those of such a network; the message
        lists what is missing, what is too much and what has another shape.
    """
    network = DefiNet(config)
    expected = dict(network.named_parameters())
    state = _flat(_load(source), set(expected), source)
    problems = _problems(state, expected)
    if problems:
        raise InputError(f"{source} does not fit a DefiNet of width {config.hidden}: {problems}")
    network.load_state_dict(state)
    return save_checkpoint(out, network, Card(name=name, config=config, data=f"imported from {source.name}"))


def _load(source: Path) -> object:
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    _check_size(source)
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the pickle's protocol; what counts is said below
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        msg = (
            f"{source} holds more than tensors, or is no torch file: reading it would run code in it, "
            "which was not done; save a plain dict of tensors, or safetensors"
        )
        raise InputError(msg) from None
    except MemoryError:
        raise InputError(f"{source} is no file of weights (it asks for more memory than there is)") from None
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{source} is no file of weights ({' '.join(str(error).split())[:120]})") from None


def _check_size(source: Path) -> None:
    """Refuse a file that is too large, or that would grow too large: a torch file is a zip archive."""
    size = source.stat().st_size
    try:
        if zipfile.is_zipfile(source):  # on some damaged files this raises instead of answering
            with zipfile.ZipFile(source) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{source} is no file of weights ({error})") from None
    if size > _LARGEST:
        raise InputError(
            f"{source} holds {size / 1e9:.1f} GB, more than {_LARGEST / 1e9:.1f}: no weights of DefiNet do"
        )


def _flat(content: object, names: set[str], source: Path) -> dict[str, Tensor]:
    """Return the dict of tensors, also where it lies under one key such as state_dict or ema."""
    if isinstance(content, Mapping) and not names & set(content):
        nested = {k: v for k, v in content.items() if isinstance(v, Mapping) and names & set(v)}
        if len(nested) > 1:
            keys = ", ".join(map(repr, nested))
            raise InputError(
                f"{source} holds several sets of weights ({keys}): save the set you mean to a file of its own"
            )
        content = next(iter(nested.values()), content)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{source} holds no dict of name -> tensor")
    odd = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if odd:
        raise InputError(f"{source} holds entries that are no tensors: {_list(odd)}")
    return {str(key): value.detach() for key, value in content.items()}


def _problems(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say what is missing, extra, of another shape or not finite."""
    common = [name for name in expected if name in state]
    shapes = [
        f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in common
        if state[name].shape != expected[name].shape
    ]
    kinds = {
        "missing": [name for name in expected if name not in state],
        "extra": [name for name in state if name not in expected],
        "of another shape": shapes,
        "not finite numbers": [
            name
            for name in common
            if not (state[name].is_floating_point() and state[name].to(torch.float32).isfinite().all())
        ],
    }
    return "; ".join(f"{kind}: {_list(names)}" for kind, names in kinds.items() if names)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
