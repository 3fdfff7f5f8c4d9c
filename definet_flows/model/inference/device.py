"""Where a network runs, and batches that fit into that device's memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from definet_flows.errors import InputError
from definet_flows.settings import load_settings

_LOG = logging.getLogger(__name__)
_ARRAYS = 30  # of edges by channels at a layer's peak: messages and their factors, by threes
_LARGEST = 4 * 2**31  # bytes of an array, three channels wide: beyond, float32 elements have no 32-bit index
_SHARE = 0.8  # of the free memory; the rest is for what is allocated besides

T = TypeVar("T")


def chosen_device() -> torch.device:
    """Return the device of the setting `device`; `auto` is CUDA where torch finds a card, else the CPU.

    Raises
    ------
    InputError
        If the setting asks for CUDA and torch finds none.
    """
    wanted = load_settings().device
    found = wanted != "cpu" and torch.cuda.is_available()
    if wanted == "cuda" and not found:
        msg = f"settings: device is cuda, but torch {torch.__version__} finds no CUDA device"
        raise InputError(f"{msg}: install torch's CUDA build, or set DEFINET_FLOWS_DEVICE=cpu")
    return torch.device("cuda" if found else "cpu")


def device_name(device: torch.device) -> str:
    """Return `cpu`, or of a card its kind and name too."""
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def busy_cores(name: str) -> int:
    """Return the processor cores that work on a device of this name: torch's threads on a CPU, one beside a card."""
    return torch.get_num_threads() if name == "cpu" else 1


def most_configurations(device: torch.device, array: int) -> int:
    """Return how many configurations fit into a card's free memory, one at least.

    Parameters
    ----------
    device
        A CUDA device.
    array
        Bytes of one configuration's array of edges, padding included, by channels of the network.
    """
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, not in use
    return max(1, min(int(_SHARE * (free + kept) / (_ARRAYS * array)), _LARGEST // (3 * array)))


def in_batches(run: Callable[[slice], T], count: int, step: int) -> Iterator[T]:
    """Yield `run` of each batch in order; where one does not fit into memory, it and all after it are halved.

    Raises
    ------
    InputError
        If a batch of one does not fit.
    """
    done = 0
    while done < count:
        try:
            out = run(slice(done, min(done + step, count)))
        except torch.OutOfMemoryError as error:
            if step == 1:
                raise InputError(_too_large(error)) from None
            fits = False
        else:
            fits = True
        if fits:
            yield out
            done += step
        else:  # out here the error is gone, and with it the arrays that its traceback held
            step = min(step, count - done) // 2 or 1
            torch.cuda.empty_cache()
            _LOG.info("a batch did not fit into memory: batches of %d from here on", step)


def _too_large(error: torch.OutOfMemoryError) -> str:
    reason = " ".join(str(error).split())[:120]
    return f"one configuration does not fit into the device's memory ({reason}): set DEFINET_FLOWS_DEVICE=cpu"


@contextlib.contextmanager
def full_products() -> Iterator[None]:
    """Compute float32 matrix products in float32: a card's TF32, which a process may have chosen, has 10 bits."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before
