"""Checkpoints: weights as safetensors, everything else as JSON in the same file's header. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from definet_flows.atomic import replacing
from definet_flows.errors import InputError
from definet_flows.model.inference.device import chosen_device
from definet_flows.model.inference.shipped import SHIPPED, file_hash, shipped_models
from definet_flows.model.inference.uncertainty import Calibration
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet, Ensemble, Network
from definet_flows.schemas import Frozen, Matrix, Vector

DEFAULT_MODEL = "definet-2dmd"
"""Registry id of the shipped model."""

_HEADER = "definet"
_MOST_MEMBERS, _MOST_HOSTS, _MOST_LEARNED = 64, 1000, 100_000
_LARGEST_FILE = 4 * 2**30  # bytes
_SLACK = 2  # a count of parameters is rounded
_LARGEST_CARD = 16 * 2**20  # bytes
_FORMAT = 4  # 2: networks of several shapes; 3: networks that speak for single hosts; 4: charges, inserted atoms


class UnitCell(Frozen):
    """A host that the model was trained on, as its unit cell."""

    formula: str
    lattice: Matrix = Field(description="rows, Å")
    numbers: tuple[int, ...]
    frac_coords: tuple[Vector, ...]
    dimensionality: int


class Learned(Frozen):
    """A kind of defect in configurations of one charge that a model learned from."""

    host: str = Field(description="formula")
    kind: str = Field(description="such as v_Ga, N_Ga or Ga_i; of a complex each of its kinds is counted")
    charge: int = Field(description="net charge of the configuration, elementary charges")
    n: int = Field(ge=1, description="configurations")


DATA_HASH = "2:"
"""Beginning of a card's `data_hash`: what it is a hash of."""


class Card(Frozen):
    """What a checkpoint is; stored with the weights."""

    format: int = _FORMAT
    name: str = Field(description="registry id")
    version: str = "1"
    config: NetworkConfig
    members: int = Field(default=1, ge=1, le=_MOST_MEMBERS, description="networks, whose mean is the prediction")
    shapes: tuple[NetworkConfig, ...] = Field(default=(), description="of each network; empty: all have that of config")
    speak_for: tuple[tuple[str, ...], ...] = Field(
        default=(),
        description="formulas of the hosts that each network is asked about, none: every host; empty: all are",
    )
    hosts: tuple[UnitCell, ...] = Field(
        default=(), max_length=_MOST_HOSTS, description="hosts trained on; empty: unknown"
    )
    elements: tuple[int, ...] = Field(default=(), description="atomic numbers seen in training; empty: unknown")
    learned: tuple[Learned, ...] = Field(
        default=(), max_length=_MOST_LEARNED, description="defects and charges trained on, counted; empty: not counted"
    )
    other_minima: int = Field(
        default=0, ge=0, description="further, higher ends of configurations trained on; the lowest was learned"
    )
    data: str = Field(default="", description="training data and its licence, in words")
    data_hash: str = Field(
        default="",
        description="of ids, splits, nodes and positions of all pairs if it begins with 2:, as in cards made now; else "
        "of ids and the sum of |coordinates|",
    )
    recipe: dict[str, object] = Field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict, description="validation, by set, Å")
    calibration: Calibration | None = Field(default=None, description="of the uncertainty; None: none is stated")

    @model_validator(mode="after")
    def _first_speaks_for_every_host(self) -> Self:
        if self.speak_for and (len(self.speak_for) != self.members or self.speak_for[0]):
            msg = f"speak_for={self.speak_for} of {self.members} networks: an entry each, the first for every host"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _a_shape_for_each_network(self) -> Self:
        if self.shapes and len(self.shapes) != self.members:
            msg = f"{len(self.shapes)} shapes of {self.members} networks: each has one shape"
            raise ValueError(msg)
        return self

    @property
    def n_parameters(self) -> int:
        """Parameters of all networks, rounded."""
        return sum(shape.n_parameters for shape in self.shapes or (self.config,) * self.members)

    @property
    def domain_known(self) -> bool:
        """False for a model that came without its training domain."""
        return bool(self.hosts and self.elements)


@dataclass(frozen=True)
class Checkpoint:
    """Weights with their card.

    Attributes
    ----------
    path
        The safetensors file.
    sha256
        Of the file: the identity of the weights in predictions and records.
    """

    path: Path
    sha256: str
    card: Card

    @property
    def name(self) -> str:
        """Registry id."""
        return self.card.name

    @cached_property
    def network(self) -> Network:
        """The network in float32 on the chosen device, ready for inference, loaded once."""
        shapes = self.card.shapes or (self.card.config,) * self.card.members
        networks = [DefiNet(shape) for shape in shapes]
        network = networks[0] if len(networks) == 1 else Ensemble(networks, self.card.speak_for)
        with safe_open(self.path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        check_finite(state, self.path)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            msg = f"{self.path} holds other weights than its card says ({first}): it was not written by save_checkpoint"
            raise InputError(msg) from None
        return network.to(chosen_device()).eval().requires_grad_(requires_grad=False)

    @property
    def members(self) -> tuple[DefiNet, ...]:
        """The single networks."""
        network = self.network
        return (network,) if isinstance(network, DefiNet) else network.single

    @property
    def speak_for(self) -> tuple[tuple[str, ...], ...]:
        """Formulas of the hosts that each of `members` is asked about; none: every host."""
        return self.card.speak_for or ((),) * self.card.members

    def trainable(self, config: NetworkConfig | None = None) -> DefiNet:
        """Return a copy of the network, of several the first, whose weights may change.

        Parameters
        ----------
        config
            Its own, with other passes, or with charges and inserted atoms as inputs beside its own; None: its own. For
            neutral cells without inserted atoms the network gives the same numbers with these inputs.
        """
        network = DefiNet(config or self.card.config)
        own = network.state_dict()
        for name, tensor in self.members[0].state_dict().items():
            own[name][: len(tensor)] = tensor  # the row for inserted atoms stays as drawn
        return network


def save_checkpoint(path: Path, network: Network, card: Card) -> Checkpoint:
    """Write weights (float32) and card to one safetensors file, whole or not at all.

    Raises
    ------
    InputError
        If a weight is no finite number in float32, or the file cannot be written.
    """
    shapes = (network.config,) if isinstance(network, DefiNet) else network.configs
    hosts = () if isinstance(network, DefiNet) else network.hosts
    described = {
        "members": len(shapes),
        "shapes": shapes if len(set(shapes)) > 1 else (),
        "speak_for": hosts if any(hosts) else (),
    }
    card = card.model_copy(update=described)
    state = {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in network.state_dict().items()}
    check_finite(state, path)
    with replacing(path) as part:
        save_file(state, part, metadata={_HEADER: card.model_dump_json()})
    return load_checkpoint(path)


def check_finite(state: Mapping[str, Tensor], source: Path) -> None:
    """Refuse weights that are no numbers, or none in float32, in which they are stored and used.

    Raises
    ------
    InputError
        The message names the first entry.
    """
    for name, tensor in state.items():
        if not (tensor.is_floating_point() and tensor.to(torch.float32).isfinite().all()):
            msg = f"{source}: weights {name} hold values that are no finite float32 numbers: train or export them again"
            raise InputError(msg)


def combine(checkpoints: Sequence[Checkpoint]) -> Ensemble:
    """Return one network that predicts the mean of these.

    A network that was trained on only some of the first network's hosts predicts for those hosts only.

    Raises
    ------
    InputError
        If there are fewer than two, or they do not see the same neighbours.
    """
    if len(checkpoints) < 2:  # noqa: PLR2004 - a mean needs two
        raise InputError(f"{len(checkpoints)} models given: a mean needs two or more")
    first = checkpoints[0]
    members: list[DefiNet] = []
    hosts: list[tuple[str, ...]] = []
    for checkpoint in checkpoints:
        seen, expected = checkpoint.card.config.sees, first.card.config.sees
        if seen != expected:
            msg = f"{checkpoint.path} sees (Å, neighbours, elements) {seen}, {first.path} {expected}"
            raise InputError(f"{msg}: combine models of the same cutoff, cap and table")
        members += deepcopy(checkpoint.members)
        hosts += [own or _narrower(checkpoint.card, first.card) for own in checkpoint.speak_for]
    return Ensemble(members, hosts).eval()


def _narrower(card: Card, first: Card) -> tuple[str, ...]:
    """Formulas of the hosts of a card that lacks some of the first card's, or where these are unknown; else none."""
    own, every = ({unit.formula for unit in each.hosts} for each in (card, first))
    return () if not own or (every and own >= every) else tuple(sorted(own))


def load_checkpoint(ref: str | Path) -> Checkpoint:
    """Return the checkpoint of a registry id or of a .safetensors file.

    Raises
    ------
    InputError
        If there is no such file or id, or the file holds no DefiNet of a known format.
    """
    path = Path(ref)
    if path.suffix != ".safetensors":
        path = SHIPPED / f"{ref}.safetensors"
    if not path.is_file():
        raise InputError(f"no model {str(ref)!r}: a .safetensors file or one of {', '.join(shipped_models())}")
    return _load(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load(path: Path, stamp: int) -> Checkpoint:
    """Read the header; `stamp` makes a file that was written anew another entry of the cache."""
    del stamp
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path} is larger than 4 GiB: no DefiNet checkpoint is")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error}): give a DefiNet checkpoint") from None
    if len(header or "") > _LARGEST_CARD:
        raise InputError(
            f"{path} has a card of {len(header or '') / 1e6:.0f} MB: it was not written by save_checkpoint"
        )
    if header is None:
        raise InputError(f"{path} holds no DefiNet card: published weights come in by `definet import-checkpoint`")
    try:
        card = Card.model_validate_json(header)
    except ValidationError as error:
        raise InputError(f"{path}: unreadable card ({error.errors()[0]['msg']}): written by another version?") from None
    if card.format > _FORMAT:
        raise InputError(f"{path} has format {card.format}, newer than {_FORMAT}: update definet_flows")
    if 4 * card.n_parameters > _SLACK * path.stat().st_size + _LARGEST_CARD:
        described = f"{card.n_parameters:.2g} parameters, its file {path.stat().st_size} bytes"
        raise InputError(f"{path} holds other weights than its card says ({described}): it was not written whole")
    return Checkpoint(path, file_hash(path), card)
