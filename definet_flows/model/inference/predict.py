"""Prediction: configurations in, displacements out; batches of one host share its neighbour table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from definet_flows.defects import nodes
from definet_flows.errors import InputError
from definet_flows.model.data.batches import Lattice, lattice_of
from definet_flows.model.data.graph import crystal, find_neighbours, list_edges
from definet_flows.model.inference.checkpoint import Checkpoint
from definet_flows.model.inference.device import device_name, full_products, in_batches, most_configurations
from definet_flows.model.inference.uncertainty import defect_motion
from definet_flows.model.network.network import Ensemble, Network
from definet_flows.schemas import INSERTED, Configuration, FloatArray, Host

IntArray = npt.NDArray[np.integer]

_MOST, _MOST_NODES = 32, 8192  # configurations and nodes of a batch on a CPU


@dataclass(frozen=True)
class RawPrediction:
    """The network's prediction for one configuration, before the gate.

    Attributes
    ----------
    displacements
        Per pristine site, placeholders included, Å, [n_sites, 3]: what to add to the host's sites, however
        the host was relaxed. None if the prediction failed.
    seconds
        Wall time per structure, a batch's shared out evenly.
    device
        Where the network ran: `cpu`, or `cuda` with the card's name.
    uncertainty
        Expected mean |component| error, Å, where the model's card has a calibration.
    """

    displacements: FloatArray | None
    seconds: float
    device: str
    uncertainty: float | None = None
    error: str | None = None


def displacements(
    network: Network, host: Host, numbers: IntArray, markers: IntArray, *, batch_size: int | None = None
) -> FloatArray:
    """Return the network's relaxed minus pristine positions, as it was trained to give them.

    Parameters
    ----------
    network
        On its device, in its precision; of several, those that speak for this host are asked.
    host
        Bulk supercell, n_sites.
    numbers, markers
        Of the pristine sites, [n, n_sites].
    batch_size
        Most configurations a batch; None: as many as a card's free memory holds, 32 on a CPU. Fewer of a large
        host, so that memory does not grow with it; a batch that a card cannot hold is halved.

    Returns
    -------
    ndarray
        Å, [n, n_sites, 3].

    Raises
    ------
    InputError
        If not even one configuration fits into a card's memory.
    """
    parameter = next(network.parameters())
    lattice = lattice_of(host, network.config).to(parameter.device, parameter.dtype).fused()
    asked = network.of(host.formula)

    def moved(rows: slice) -> FloatArray:
        z, m = (_index(a[rows], parameter.device) for a in (numbers, markers))
        out = asked(z, m, lattice.positions, lattice.edges) - lattice.positions
        return np.asarray(out.double().cpu().numpy())

    most = _most(asked, lattice)
    step = most if batch_size is None else min(most, batch_size)
    with torch.inference_mode(), full_products():
        out = list(in_batches(moved, len(numbers), step))
    return np.concatenate(out) if out else np.zeros((0, host.n_sites, 3))


def _most(network: Network, lattice: Lattice) -> int:
    """Return how many configurations of a lattice go into a batch on the network's device."""
    device, n_sites = lattice.positions.device, lattice.positions.shape[1]
    if device.type != "cuda":
        return max(1, min(_MOST, _MOST_NODES // n_sites))
    configs = network.configs if isinstance(network, Ensemble) else (network.config,)
    width = max(config.hidden for config in configs)
    return most_configurations(device, lattice.edges.table.numel() * width * lattice.positions.itemsize)


def mixed_displacements(network: Network, crystals: Sequence[tuple[Host, IntArray, IntArray]]) -> list[FloatArray]:
    """Return the same for any mixture of hosts; hosts that share their networks go into one torch-geometric batch.

    crystals [(host, numbers, markers)], in any order; what is returned is in that order.
    """
    asked: dict[Network, list[int]] = {}
    for k, (host, _, _) in enumerate(crystals):
        asked.setdefault(network.of(host.formula), []).append(k)
    moved: dict[int, FloatArray] = {}
    for speaking, rows in asked.items():
        run = partial(_together, speaking, [crystals[k] for k in rows])
        moved |= zip(rows, chain.from_iterable(in_batches(run, len(rows), len(rows))), strict=True)
    return [moved[k] for k in range(len(crystals))]


def _together(
    network: Network, every: Sequence[tuple[Host, IntArray, IntArray]], batch_rows: slice
) -> list[FloatArray]:
    from torch_geometric.data import Batch  # noqa: PLC0415 - two seconds to import

    parameter = next(network.parameters())
    crystals, data = every[batch_rows], []
    for host, _, _ in crystals:
        cell, positions = np.array(host.lattice), host.cartesian
        data.append(crystal(find_neighbours(cell, positions, network.config), cell, positions, parameter.dtype))
    batch = Batch.from_data_list(data).to(parameter.device)
    z, m = (_index(np.concatenate([c[k] for c in crystals]), parameter.device) for k in (1, 2))
    with torch.inference_mode(), full_products():
        moved = (network(z, m, batch.pos, list_edges(batch)) - batch.pos).double().cpu().numpy()
    return np.split(moved, np.cumsum([host.n_sites for host, _, _ in crystals])[:-1])


def predict(
    checkpoint: Checkpoint, host: Host, configurations: Sequence[Configuration], *, batch_size: int | None = None
) -> list[RawPrediction]:
    """Predict the displacements of configurations of one host, in order.

    The labels that the network learned contain the relaxation of its own training host, so what is applied is
    [net(configuration) - net(pristine)] minus its mean over the atoms: the pristine host maps to itself
    exactly. A structure that cannot be predicted is a result with an `error`, not an exception.
    """
    start = time.perf_counter()
    network = checkpoint.network
    device = device_name(next(network.parameters()).device)
    problems = [_problem(checkpoint, host, c) for c in configurations]
    usable = [c for c, problem in zip(configurations, problems, strict=True) if problem is None]
    pristine = Configuration(edits=())
    rows = [nodes(host, c) for c in (pristine, *usable)]
    numbers, markers = (np.stack([row[k] for row in rows]) for k in (0, 1))
    moved = displacements(network, host, numbers, markers, batch_size=batch_size)
    seconds = (time.perf_counter() - start) / max(1, len(configurations))
    applied = defect_motion(moved[1:], moved[0], markers[1:])
    calibration = checkpoint.card.calibration
    expected = [None] * len(usable) if calibration is None else calibration.estimate(applied, markers[1:]).tolist()
    predicted = iter(zip(applied, expected, strict=True))
    out = []
    for problem in problems:
        if problem is not None:
            out.append(RawPrediction(None, seconds, device, error=problem))
            continue
        displacement, uncertainty = next(predicted)
        if not np.isfinite(displacement).all():
            out.append(RawPrediction(None, seconds, device, error="the network's output is not finite"))
            continue
        out.append(RawPrediction(displacement, seconds, device, uncertainty))
    return out


def _problem(checkpoint: Checkpoint, host: Host, configuration: Configuration) -> str | None:
    """Say why the network cannot take a configuration at all."""
    if any(edit.marker == INSERTED for edit in configuration.edits):
        return "the network knows no inserted atoms"
    try:
        largest = max(nodes(host, configuration)[0])
    except InputError as error:
        return str(error)
    if largest > checkpoint.card.config.max_number:
        return f"the network's element table ends at Z = {checkpoint.card.config.max_number}, not {largest}"
    return None


def _index(array: IntArray, device: torch.device) -> Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.int64), device=device)
