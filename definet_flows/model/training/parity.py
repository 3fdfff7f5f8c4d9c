"""Whether compiled edge operations give what their plain form gives: asked once at the start of each training.

Compiled code has been seen to train a useless network without an error, hence outputs and gradients, in training mode.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from definet_flows.model.data.batches import Lattice
    from definet_flows.model.network.network import DefiNet

_SAME_POSITION = 1e-6  # Å, of any site
_SAME_GRADIENT = 1e-4  # of the norm of any parameter's gradient
_NO_GRADIENT = 1e-9  # of the largest norm: what is smaller is rounding


def checked(network: DefiNet, lattice: Lattice, numbers: Tensor, markers: Tensor) -> Lattice:
    """Return the lattice with compiled edge operations if they agree with the plain ones, else (with a warning) itself.

    In float64, where both forms take the same branches of the vector activation. numbers and markers are of some
    configurations on the lattice, [B, N].
    """
    fused = lattice.fused()
    if fused.edges is lattice.edges:
        return lattice
    double, wide = deepcopy(network).double(), lattice.to(lattice.positions.device, torch.float64)
    with torch.inference_mode(mode=False), torch.enable_grad():
        plain_out, plain = _outputs(double, wide, numbers, markers)
        out, compiled = _outputs(double, wide.fused(), numbers, markers)
    least = _NO_GRADIENT * max(float(g.norm()) for g in plain)
    apart = float((out - plain_out).norm(dim=-1).max())
    turned = max(float((a - b).norm() / (b.norm() + least)) for a, b in zip(compiled, plain, strict=True))
    if apart < _SAME_POSITION and turned < _SAME_GRADIENT:
        return fused
    warnings.warn(
        f"the compiled kernels differ from the plain form (positions {apart:.1e} Å, gradients {turned:.1e}): "
        "the plain, slower form trains; another compiler (CXX) may help",
        stacklevel=2,
    )
    return lattice


def _outputs(network: DefiNet, lattice: Lattice, numbers: Tensor, markers: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return positions [B, N, 3] and the gradients of their mean motion, one array for each parameter."""
    network.zero_grad(set_to_none=True)
    out = network(numbers, markers, lattice.positions, lattice.edges)
    (out - lattice.positions).square().sum(-1).add(1e-8).sqrt().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    network.zero_grad(set_to_none=True)
    return out.detach(), gradients
