"""Fused edge operations on the CPU: kernels.cpp, compiled once per machine by g++ and called through ctypes.

The plain form of each operation, which runs everywhere and defines the result, is in `definet_flows.model.edges`; these
are the same numbers without the edge-sized temporaries, which is where the time of a training step goes on a CPU.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from definet_flows.settings import load_settings

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-fPIC", "-std=c++17")
_SUFFIX = {torch.float32: "float32", torch.float64: "float64"}


class TableGraph(ctypes.Structure):
    """The C view of a batch on one neighbour table; keeps its tensors alive."""

    _fields_ = (
        ("B", ctypes.c_int64),
        ("N", ctypes.c_int64),
        ("M", ctypes.c_int64),
        ("table", ctypes.c_void_p),
        ("reverse", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        ("markers", ctypes.c_void_p),
    )

    def __init__(self, table: Tensor, reverse: Tensor, mask: Tensor | None, markers: Tensor) -> None:
        self.tensors = (table, reverse, mask, markers)
        super().__init__(markers.shape[0], *table.shape, *(None if t is None else t.data_ptr() for t in self.tensors))


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None (with one warning) where g++ cannot make them."""
    key = hashlib.sha256(_SOURCE.read_bytes() + " ".join(_FLAGS).encode() + _cpu()).hexdigest()[:16]
    target = load_settings().cache_dir / f"kernels-{key}.so"
    try:
        if not target.exists():
            _build(target)
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.CalledProcessError) as error:
        warnings.warn(f"g++ could not build the fused kernels ({error}): the slower plain form runs", stacklevel=2)
        return None


def _cpu() -> bytes:
    """Return what -march=native depends on: a home directory may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        return "".join(line for line in info.read_text().splitlines() if line.startswith("flags"))[:4096].encode()
    return platform.processor().encode()


def _build(target: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise FileNotFoundError("no g++ on PATH")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built, compiled = Path(folder) / "kernels.so", Path(folder) / "kernels.o"
        run = functools.partial(subprocess.run, check=True, capture_output=True)
        run([compiler, *_FLAGS, "-c", str(_SOURCE), "-o", str(compiled)])
        # Linked without libgomp: the symbols resolve to the one torch has loaded, hence one thread pool.
        run([compiler, "-shared", str(compiled), "-o", str(built), "-lmvec", "-lm"])
        built.replace(target)


def _call(name: str, like: Tensor, *arguments: object) -> None:
    lib = library()
    if lib is None:  # pragma: no cover - callers ask library() first
        raise RuntimeError("the fused kernels are not available")
    function = getattr(lib, f"{name}_{_SUFFIX[like.dtype]}")
    function(*(_to_c(a) for a in arguments))


def _to_c(value: object) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, TableGraph):
        return ctypes.byref(value)
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(int(value))  # type: ignore[call-overload]


def _shared(edge_array: Tensor, graph: TableGraph) -> bool:
    """Whether one lattice's edge array [1, N, M, ...] serves the whole batch."""
    return edge_array.shape[0] == 1 and graph.B > 1


def _fold(gradient: Tensor, like: Tensor) -> Tensor:
    """Sum a gradient over the batch where the array was shared by it."""
    return gradient.sum(0, keepdim=True) if gradient.shape[0] != like.shape[0] else gradient


class Messages(torch.autograd.Function):
    """Sums over neighbours of eqs. 1 and 2: phi [B,N,3F], gate [3,3F], v [B,N,3,F] -> [B,N,3,F], [B,N,F]."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        graph: TableGraph,
        phi: Tensor,
        gate: Tensor,
        v: Tensor,
        rho: Tensor,
        unit: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return what the class says."""
        phi, gate, v, rho, unit = (t.contiguous() for t in (phi, gate, v, rho, unit))
        moved, h = torch.empty_like(v), torch.empty_like(v[:, :, 0])
        ctx.graph = graph
        ctx.save_for_backward(phi, gate, v, rho, unit)
        scale = 1 / math.sqrt(3)
        shape = (v.shape[-1], _shared(rho, graph), scale)
        _call("message_forward", phi, graph, *shape, phi, gate, v, rho, unit, moved, h)
        return moved, h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients."""
        phi, gate, v, rho, unit = ctx.saved_tensors
        graph = ctx.graph
        d_moved, d_h = (g.contiguous() for g in grads)
        d_phi, d_v, d_gate = torch.empty_like(phi), torch.empty_like(v), torch.zeros_like(gate)
        d_rho = rho.new_empty(graph.B, *rho.shape[1:])
        d_unit = unit.new_empty(graph.B, *unit.shape[1:])
        shape = (v.shape[-1], _shared(rho, graph), 1 / math.sqrt(3))
        arrays = (phi, gate, v, rho, unit, d_moved, d_h, d_phi, d_gate, d_v, d_rho, d_unit)
        _call("message_backward", phi, graph, *shape, *arrays)
        return None, d_phi, d_gate, d_v, _fold(d_rho, rho), _fold(d_unit, unit)


class Products(torch.autograd.Function):
    """phi_j (g_j + g_i) rho_ij: phi [B,N,F], gate [3,F], rho [B,N,M,F] -> [B,N,M,F]."""

    @staticmethod
    def forward(ctx: Any, graph: TableGraph, phi: Tensor, gate: Tensor, rho: Tensor) -> Tensor:  # noqa: ANN401
        """Return what the class says."""
        phi, gate, rho = (t.contiguous() for t in (phi, gate, rho))
        ctx.graph = graph
        ctx.save_for_backward(phi, gate, rho)
        out = rho.new_empty(graph.B, *rho.shape[1:])
        _call("product_forward", phi, graph, phi.shape[-1], _shared(rho, graph), phi, gate, rho, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients."""
        phi, gate, rho = ctx.saved_tensors
        graph, d_out = ctx.graph, grads[0].contiguous()
        d_phi, d_gate, d_rho = torch.empty_like(phi), torch.zeros_like(gate), torch.empty_like(d_out)
        arrays = (phi, gate, rho, d_out, d_phi, d_gate, d_rho)
        _call("product_backward", phi, graph, phi.shape[-1], _shared(rho, graph), *arrays)
        return None, d_phi, d_gate, _fold(d_rho, rho)


class Readout(torch.autograd.Function):
    """w . ScaledSiLU(y) + b: y [..., F], weight [1, F], bias [1] -> [..., 1]."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        """Return what the class says."""
        y, weight = y.contiguous(), weight.contiguous()
        ctx.save_for_backward(y, weight)
        out = y.new_empty(*y.shape[:-1], 1)
        _call("readout_forward", y, out.numel(), y.shape[-1], y, weight, float(bias), out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        """Return the gradients."""
        y, weight = ctx.saved_tensors
        d_out = grads[0].contiguous()
        d_y, d_weight = torch.empty_like(y), torch.zeros_like(weight)
        _call("readout_backward", y, d_out.numel(), y.shape[-1], y, weight, d_out, d_y, d_weight)
        return d_y, d_weight, d_out.sum().reshape(1)


class Interpolation(torch.autograd.Function):
    """Quintic Hermite interpolation: distance [...], Å, table [rows, 3, w] -> [..., w].

    A row holds values, first and second derivatives (by rows) at a distance of so many steps, Å.
    """

    @staticmethod
    def forward(ctx: Any, distance: Tensor, table: Tensor, step: float) -> Tensor:  # noqa: ANN401
        """Return what the class says."""
        distance, table = distance.contiguous(), table.contiguous()
        ctx.save_for_backward(distance, table)
        ctx.step = step
        out = distance.new_empty(*distance.shape, table.shape[-1])
        shape = (distance.numel(), table.shape[0], table.shape[-1], step)
        _call("interpolation_forward", distance, *shape, distance, table, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients."""
        distance, table = ctx.saved_tensors
        d_out = grads[0].contiguous()
        d_distance, d_table = torch.empty_like(distance), torch.zeros_like(table)
        shape = (distance.numel(), table.shape[0], table.shape[-1], ctx.step)
        _call("interpolation_backward", distance, *shape, distance, table, d_out, d_distance, d_table)
        return d_distance, d_table, None
