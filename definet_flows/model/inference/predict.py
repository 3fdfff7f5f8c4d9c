"""Prediction: configurations in, displacements out; batches of one host share its neighbour table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from definet_flows.defects import nodes
from definet_flows.errors import InputError
from definet_flows.model.data.archive import PairSet
from definet_flows.model.data.batches import Lattice, lattice_of
from definet_flows.model.data.graph import crystal, find_neighbours, list_edges
from definet_flows.model.inference.checkpoint import Checkpoint
from definet_flows.model.inference.device import device_name, full_products, in_batches, most_configurations
from definet_flows.model.inference.uncertainty import defect_motion
from definet_flows.model.network.network import Ensemble, Network
from definet_flows.schemas import INSERTED, Configuration, FloatArray, Host, Vector

IntArray = npt.NDArray[np.integer]

_MOST, _MOST_NODES = 32, 8192  # configurations and nodes of a batch on a CPU


@dataclass(frozen=True)
class RawPrediction:
    """The network's prediction for one configuration, before the gate.

    Attributes
    ----------
    displacements
        Per row (pristine sites, placeholders included, then inserted atoms), Å, [n_rows, 3]: what to add to the
        host's sites, however the host was relaxed. None if the prediction failed.
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
    network: Network,
    host: Host,
    numbers: IntArray,
    markers: IntArray,
    *,
    charges: IntArray | None = None,
    inserted: Sequence[Vector] = (),
    starts: FloatArray | None = None,
    batch_size: int | None = None,
) -> FloatArray:
    """Return the network's relaxed minus unrelaxed positions, as it was trained to give them.

    Parameters
    ----------
    network
        On its device, in its precision; of several, those that speak for this host are asked.
    host
        Bulk supercell, n_sites.
    numbers, markers
        Of all rows, [n, n_rows]: the pristine sites, then the inserted atoms.
    charges
        Net charges, elementary charges, [n]; None: neutral.
    inserted
        Fractional coordinates at which the inserted atoms of all configurations start, [n_inserted, 3].
    starts
        Displacements to begin with, Å, [n, n_rows, 3]; what is returned contains them. None: unrelaxed.
    batch_size
        Most configurations a batch; None: as many as a card's free memory holds, 32 on a CPU. Fewer of a large
        host, so that memory does not grow with it; a batch that a card cannot hold is halved.

    Returns
    -------
    ndarray
        Å, [n, n_rows, 3].

    Raises
    ------
    InputError
        If not even one configuration fits into a card's memory.
    """
    parameter = next(network.parameters())
    lattice = lattice_of(host, network.config, inserted).to(parameter.device, parameter.dtype).fused()
    asked = network.of(host.formula)
    unrelaxed = lattice.positions

    def moved(rows: slice) -> FloatArray:
        z, m = (_index(a[rows], parameter.device) for a in (numbers, markers))
        q = None if charges is None else _index(charges[rows], parameter.device)
        begun = unrelaxed if starts is None else unrelaxed + torch.as_tensor(starts[rows]).to(unrelaxed)
        out = asked(z, m, begun, lattice.edges, q) - unrelaxed
        return np.asarray(out.double().cpu().numpy())

    most = _most(asked, lattice)
    step = most if batch_size is None else min(most, batch_size)
    with torch.inference_mode(), full_products():
        out = list(in_batches(moved, len(numbers), step))
    return np.concatenate(out) if out else np.zeros((0, unrelaxed.shape[1], 3))


def pair_displacements(network: Network, pairs: PairSet, entries: IntArray) -> FloatArray:
    """Return the same for some entries of a set of pairs, Å, [n, n_rows, 3]."""
    return displacements(
        network,
        pairs.host,
        pairs.numbers[entries],
        pairs.markers[entries],
        charges=pairs.charges_of(entries),
        inserted=pairs.inserted,
    )


def pristine_displacements(network: Network, pairs: PairSet) -> FloatArray:
    """Return what the network moves in a set's pristine host, Å, zero for inserted atoms, [n_rows, 3]."""
    pristine = _nodes(pairs.host, [Configuration(edits=())])
    return padded(displacements(network, pairs.host, *pristine)[0], pairs.markers.shape[1])


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
    checkpoint: Checkpoint,
    host: Host,
    configurations: Sequence[Configuration],
    *,
    starts: Sequence[FloatArray] | None = None,
    network: Network | None = None,
    batch_size: int | None = None,
) -> list[RawPrediction]:
    """Predict the displacements of configurations of one host, in order.

    The labels that the network learned contain the relaxation of its own training host, so what is applied is
    [net(configuration) - net(pristine)] minus its mean over the atoms: the pristine host maps to itself
    exactly. A structure that cannot be predicted is a result with an `error`, not an exception.

    Parameters
    ----------
    starts
        Displacements that each configuration begins with, Å, [n_rows, 3] each; the prediction contains them.
    network
        One of the checkpoint's networks, to be asked alone; None: all that predict for the host.
    """
    asked = network or checkpoint.network
    start = time.perf_counter()
    device = device_name(next(asked.parameters()).device)
    problems = [_problem(checkpoint, host, c) for c in configurations]
    alike: dict[tuple[Vector, ...], list[int]] = {}
    for k, problem in enumerate(problems):
        if problem is None:
            alike.setdefault(inserted_in(configurations[k]), []).append(k)
    found: dict[int, tuple[FloatArray, float | None]] = {}
    for rows in alike.values():
        begun = None if starts is None else np.stack([starts[k] for k in rows])
        chosen = [configurations[k] for k in rows]
        found |= zip(rows, _applied(checkpoint, asked, host, chosen, begun, batch_size), strict=True)
    seconds = (time.perf_counter() - start) / max(1, len(configurations))
    return [_raw(found.get(k), problem, seconds, device) for k, problem in enumerate(problems)]


def inserted_in(configuration: Configuration) -> tuple[Vector, ...]:
    """Return where inserted atoms start, fractional: configurations that agree in it share a lattice of rows."""
    return tuple(edit.position for edit in configuration.edits if edit.position is not None)


def _applied(
    checkpoint: Checkpoint,
    network: Network,
    host: Host,
    configurations: Sequence[Configuration],
    starts: FloatArray | None,
    batch_size: int | None,
) -> Iterator[tuple[FloatArray, float | None]]:
    """Yield displacement, Å, [n_rows, 3], and expected error, Å, of configurations with the same inserted atoms."""
    inserted = inserted_in(configurations[0])
    numbers, markers = _nodes(host, configurations)
    charges = np.array([c.charge for c in configurations])
    pristine = _nodes(host, [Configuration(edits=())])
    if inserted:
        frame = padded(displacements(network, host, *pristine)[0], numbers.shape[1])
        moved = displacements(
            network,
            host,
            numbers,
            markers,
            charges=charges,
            inserted=inserted,
            starts=starts,
            batch_size=batch_size,
        )
    else:  # the pristine host goes along with them
        frame, *rest = displacements(
            network,
            host,
            *(np.concatenate(pair) for pair in zip(pristine, (numbers, markers), strict=True)),
            charges=np.append(0, charges),
            starts=None if starts is None else np.concatenate([np.zeros_like(starts[:1]), starts]),
            batch_size=batch_size,
        )
        moved = np.stack(rest)
    applied = defect_motion(moved, frame, markers)
    calibration = checkpoint.card.calibration
    expected = [None] * len(moved) if calibration is None else calibration.estimate(applied, markers).tolist()
    return zip(applied, expected, strict=True)


def _nodes(host: Host, configurations: Sequence[Configuration]) -> tuple[IntArray, IntArray]:
    """Return atomic numbers and markers of configurations with as many inserted atoms, [n, n_rows] each."""
    numbers, markers = zip(*(nodes(host, c) for c in configurations), strict=True)
    return np.stack(numbers), np.stack(markers)


def padded(frame: FloatArray, n_rows: int) -> FloatArray:
    """Return a pristine host's displacements [n_sites, 3] with zeros for inserted atoms, [n_rows, 3]."""
    out: FloatArray = np.pad(frame, ((0, n_rows - len(frame)), (0, 0)))
    return out


def _raw(
    found: tuple[FloatArray, float | None] | None, problem: str | None, seconds: float, device: str
) -> RawPrediction:
    if found is None:
        return RawPrediction(None, seconds, device, error=problem)
    displacement, uncertainty = found
    if not np.isfinite(displacement).all():
        return RawPrediction(None, seconds, device, error="the network's output is not finite")
    return RawPrediction(displacement, seconds, device, uncertainty)


def _problem(checkpoint: Checkpoint, host: Host, configuration: Configuration) -> str | None:
    """Say why the network cannot take a configuration at all."""
    if not checkpoint.card.config.inserted and any(edit.marker == INSERTED for edit in configuration.edits):
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
