"""Fused operations on the CPU: native/*.cpp, compiled once per machine by g++ and called through ctypes.

The plain form of each operation, which runs everywhere and defines the result, is in
`definet_flows.model.network.edges`; these are the same numbers without arrays of F features an edge, which is where
the time goes on a CPU.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from definet_flows.settings import load_settings

MARKERS = 4
"""Rows of a gate that the kernels read; see graph.hpp."""

_SOURCES = Path(__file__).with_name("native")
_FLAGS = ("-O3", "-ffast-math", "-fopenmp", "-fPIC", "-std=c++17")
_X86 = ("-march=native", "-mprefer-vector-width=512")
_FLAGS_OF = {"x86_64": _X86, "AMD64": _X86, "aarch64": ("-mcpu=native",), "arm64": ("-mcpu=native",)}
"""Of each kind of machine, as platform.machine() has it, the flags that make code for its own processor."""

_VECTOR_MATH = ("-lmvec",)
"""Of glibc on x86, on ARM in its newer versions only."""

_CPU = ("flags", "Features", "CPU implementer", "CPU part")  # of /proc/cpuinfo, on x86 and on ARM
_VECTOR = 64  # bytes that arrays of features are a multiple of
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEPT = -1, -3, 2**30  # of glibc's malloc.h; bytes
_LONGEST = 200  # characters of a compiler's error in the warning
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
    sources = b"".join(path.read_bytes() for path in sorted(_SOURCES.iterdir()))
    key = hashlib.sha256(sources + " ".join(_flags()).encode() + _cpu()).hexdigest()[:16]
    target = load_settings().cache_dir / f"kernels-{key}.so"
    try:
        if not target.exists():
            _build(target)
        loaded = ctypes.CDLL(str(target))
    except (OSError, subprocess.CalledProcessError) as error:
        text = f"g++ could not build the fused kernels ({_reason(error)}): the slower plain form runs"
        warnings.warn(text, stacklevel=2)
        return None
    return loaded


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """Return in a line why there are no kernels; of a compiler its first error, such as that of a missing `omp.h`."""
    if isinstance(error, OSError):
        return " ".join(str(error).split())
    lines = (error.stderr or b"").decode(errors="replace").splitlines()
    said = next((line for line in lines if "error" in line), f"it ended with {error.returncode}")
    return " ".join(said.split())[:_LONGEST]


def keep_freed_memory() -> bool:
    """Have glibc keep what large arrays free: given back and taken anew at each layer, it costs up to half the time.

    This changes the whole process for good, so it is asked for: by the commands and by a training, by nothing else.

    Returns
    -------
    bool
        False where glibc refuses one of the two, or another library allocates.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # The second first: with the trimming alone glibc adapts it no more, and each large array is mapped anew.
    return mallopt is not None and all(mallopt(option, _KEPT) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


def _flags() -> tuple[str, ...]:
    """Return the compiler's flags on this machine; without any for its processor where its kind is unknown."""
    return *_FLAGS, *_FLAGS_OF.get(platform.machine(), ())


def _cpu() -> bytes:
    """Return what code for this processor depends on: a home directory may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        return "".join(line for line in info.read_text().splitlines() if line.startswith(_CPU))[:4096].encode()
    return platform.processor().encode()


def _build(target: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise FileNotFoundError("no g++ on PATH")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built, compiled = Path(folder) / "kernels.so", []
        run = functools.partial(subprocess.run, check=True, capture_output=True)
        for source in sorted(_SOURCES.glob("*.cpp")):
            compiled.append(str(Path(folder) / f"{source.stem}.o"))
            run([compiler, *_flags(), "-c", str(source), "-o", compiled[-1]])
        # Linked without libgomp: the symbols resolve to the one torch has loaded, hence one thread pool.
        link = [compiler, "-shared", *compiled, "-o", str(built)]
        try:
            run([*link, *_VECTOR_MATH, "-lm"])
        except subprocess.CalledProcessError:
            run([*link, "-lm"])
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
    if value is None:
        return ctypes.c_void_p(None)
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(int(value))  # type: ignore[call-overload]


def fits(like: Tensor, width: int) -> bool:
    """Whether arrays of this width and type can be had in whole vectors."""
    return like.dtype in _SUFFIX and width % (_VECTOR // like.element_size()) == 0


class EdgeGeometry(NamedTuple):
    """What the filters of a batch's edges are made of, besides their table."""

    graph: TableGraph
    step: float  # Å between rows of the filters' tables
    distance: Tensor  # Å, [B, N, M], or [1, N, M] where all start from one lattice
    unit: Tensor  # [B, N, M, 3] or [1, N, M, 3]

    def arguments(self, table: Tensor) -> tuple[object, ...]:
        """Return what every kernel takes first; the filters' table is [rows, 3, w]."""
        shared = self.distance.shape[0] == 1 and self.graph.B > 1
        return self.graph, self.distance, self.unit, shared, table, table.shape[0], self.step

    def gradients(self, needed: Sequence[bool]) -> list[Tensor | None]:
        """Return arrays for the gradients of distance and unit, an array for each structure, where they are needed.

        Of zeros: the kernels pass over padding.
        """
        if not any(needed):
            return [None, None]
        return [a.new_zeros(self.graph.B, *a.shape[1:]) for a in (self.distance, self.unit)]


def _fold(gradient: Tensor | None, like: Tensor) -> Tensor | None:
    """Sum a gradient over the batch where the array was shared by it."""
    if gradient is None or gradient.shape[0] == like.shape[0]:
        return gradient
    return gradient.sum(0, keepdim=True)


class Activation(torch.autograd.Function):
    """Vector activation of mapped vectors [..., 3, F] and their consensus [..., 3, 1], eqs. 12 and 13."""

    @staticmethod
    def forward(ctx: Any, mapped: Tensor, consensus: Tensor) -> Tensor:  # noqa: ANN401
        """Return what the class says."""
        mapped, consensus = mapped.contiguous(), consensus.contiguous()
        ctx.save_for_backward(mapped, consensus)
        out, width = torch.empty_like(mapped), mapped.shape[-1]
        _call("activation_forward", mapped, consensus.numel() // 3, width, mapped, consensus, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Return the gradients."""
        mapped, consensus = ctx.saved_tensors
        d_mapped, d_consensus = torch.empty_like(mapped), torch.empty_like(consensus)
        arrays = (mapped, consensus, grads[0].contiguous(), d_mapped, d_consensus)
        _call("activation_backward", mapped, consensus.numel() // 3, mapped.shape[-1], *arrays)
        return d_mapped, d_consensus


class Messages(torch.autograd.Function):
    """Sums over neighbours of eqs. 1 and 2.

    phi [B,N,3F], gate [4,3F], v [B,N,3,F], the filters' table [rows,3,3F] -> [B,N,3,F], [B,N,F].
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - autograd sees tensors only as arguments
        ctx: Any,  # noqa: ANN401
        graph: TableGraph,
        step: float,
        distance: Tensor,
        unit: Tensor,
        phi: Tensor,
        gate: Tensor,
        v: Tensor,
        table: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return what the class says."""
        tensors = tuple(t.contiguous() for t in (distance, unit, phi, gate, v, table))
        distance, unit, phi, gate, v, table = tensors
        ctx.graph, ctx.step = graph, step
        ctx.save_for_backward(*tensors)
        moved, h = torch.empty_like(v), torch.empty_like(v[:, :, 0])
        geometry = EdgeGeometry(graph, step, distance, unit)
        _call("messages_forward", phi, *geometry.arguments(table), v.shape[-1], phi, gate, v, moved, h)
        return moved, h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients."""
        distance, unit, phi, gate, v, table = ctx.saved_tensors
        geometry = EdgeGeometry(ctx.graph, ctx.step, distance, unit)
        d_moved, d_h = (g.contiguous() for g in grads)
        d_phi, d_v = torch.empty_like(phi), torch.empty_like(v)
        d_gate, d_table = torch.zeros_like(gate), torch.zeros_like(table)
        d_distance, d_unit = geometry.gradients(ctx.needs_input_grad[2:4])
        arrays = (phi, gate, v, d_moved, d_h, d_phi, d_gate, d_v, d_table, d_distance, d_unit)
        _call("messages_backward", phi, *geometry.arguments(table), v.shape[-1], *arrays)
        return None, None, _fold(d_distance, distance), _fold(d_unit, unit), d_phi, d_gate, d_v, d_table


class Pulls(torch.autograd.Function):
    """Sum s_ij e_ij over neighbours, eqs. 6 and 7.

    phi [B,N,F], gate [4,F], the filters' table [rows,3,F]; w1 [F,F], b1 [F], w2 [1,F], b2 [1] of the scalar's linear
    layers -> [B,N,3].
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - autograd sees tensors only as arguments
        ctx: Any,  # noqa: ANN401
        graph: TableGraph,
        step: float,
        distance: Tensor,
        unit: Tensor,
        phi: Tensor,
        gate: Tensor,
        table: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
    ) -> Tensor:
        """Return what the class says."""
        tensors = tuple(t.contiguous() for t in (distance, unit, phi, gate, table, w1, b1, w2, b2))
        ctx.graph, ctx.step = graph, step
        ctx.save_for_backward(*tensors)
        pull = phi.new_empty(*phi.shape[:2], 3)
        _call("pulls_forward", phi, *_pull_arguments(ctx, tensors), pull)
        return pull

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients."""
        tensors = ctx.saved_tensors
        distance, unit, phi, *summed = tensors
        geometry = EdgeGeometry(ctx.graph, ctx.step, distance, unit)
        d_phi = torch.empty_like(phi)
        d_gate, d_table, d_w1, d_b1, d_w2, d_b2 = (torch.zeros_like(t) for t in summed)
        d_distance, d_unit = geometry.gradients(ctx.needs_input_grad[2:4])
        arrays = (d_phi, d_gate, d_table, d_distance, d_unit, d_w1, d_b1, d_w2, d_b2)
        _call("pulls_backward", phi, *_pull_arguments(ctx, tensors), grads[0].contiguous(), *arrays)
        folded = (_fold(d_distance, distance), _fold(d_unit, unit))
        return None, None, *folded, d_phi, d_gate, d_table, d_w1, d_b1, d_w2, d_b2


def _pull_arguments(ctx: Any, tensors: Sequence[Tensor]) -> tuple[object, ...]:  # noqa: ANN401
    distance, unit, phi, gate, table, w1, b1, w2, b2 = tensors
    geometry = EdgeGeometry(ctx.graph, ctx.step, distance, unit).arguments(table)
    return *geometry, phi.shape[-1], phi, gate, w1, w1.T.contiguous(), b1, w2, float(b2)
