"""Fine-tuning: a network goes on learning from ends of relaxations, without forgetting what it was.

Labels of records are relative to a host that the same engine relaxed; a network's output also contains what it
takes for the host's own relaxation, which `predict` subtracts. So the labels are put on top of the parent's own output
for the pristine host, its *frame*: what is to be learned is the difference that defects make, and the pristine host,
which is learned too, keeps its output. Whatever the frame, a network that returns its labels predicts the relaxed
structures.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pymatgen.core import Element, Structure

from definet_flows.defects import Choices, enumerate_configurations, nodes
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.model.data.archive import PairSet
from definet_flows.model.inference.checkpoint import DATA_HASH, Card, Checkpoint, Learned, UnitCell, save_checkpoint
from definet_flows.model.inference.domain import knows_host, unit_cell
from definet_flows.model.inference.predict import displacements, padded
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.training.evaluate import calibrate
from definet_flows.model.training.train import TrainConfig, card_of, read_weights, train
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Host, content_hash

SEEN = 30_000
"""Structures that a fine-tuning sees at least, the same ones again and again, replayed ones among them."""

LEAST_EPOCHS = 40

PRISTINE_SHARE = 0.05
"""Share of a set's entries to learn from that are the pristine host."""

ANCHORS = 16
"""Configurations of each host that only the parent learned, whose outputs by the parent are replayed."""

_ANCHOR_CELL = 12.0  # Å; shortest distance of images in the cells of these


def fine_tuning(entries: int, replayed: int = 0) -> TrainConfig:
    """Return the recipe for so many entries to learn from and hosts to replay; its network is the parent's anyway."""
    epochs = max(LEAST_EPOCHS, -(-SEEN // max(1, entries + ANCHORS * replayed)))
    return TrainConfig(
        epochs=epochs,
        batch=4,
        per_epoch=400,
        learning_rate=1e-3,
        warmup=50,
        ema=0.99,
        interpolated=0.5,
        recycled=0.35,  # a network of several passes must go on learning to correct itself: the second undid the first
    )


def fine_tune(
    parent: Checkpoint | None,
    sets: Sequence[PairSet],
    config: TrainConfig,
    folder: Path,
    *,
    name: str = "fine-tuned",
    claims: Sequence[str] | None = None,
    other_minima: int = 0,
) -> Checkpoint:
    """Train a network on local displacements, from a parent's weights or from scratch.

    Hosts that the parent learned and `sets` lack are replayed: its own outputs there are labels too. A training that
    was interrupted goes on from the last completed epoch if it is called again with the same folder.

    Parameters
    ----------
    parent
        Where to start; None: from scratch, with the network that `config` says.
    sets
        `relaxed` holds relaxed minus unrelaxed positions, Å; the unrelaxed ones are those of the *relaxed* host, as in
        records. (Sets of the 2DMD layout are relative to the host as given: `train` takes these.)
    config
        The recipe.
    folder
        Takes logs, checkpoints and the result, `model.safetensors`.
    name
        Registry id for the card.
    claims
        Hosts, by formula, that the card names as learned; None: all that have entries to learn from.
    other_minima
        Higher ends of configurations in the sets, which are not learned from, for the card.

    Returns
    -------
    Checkpoint
        The weights of the best epoch by the validation entries.

    Raises
    ------
    InputError
        If no set has entries to learn from and to validate on.
    """
    for split, purpose in (("train", "learn from"), ("val", "choose the epoch by")):
        if not any(len(pairs.split(split)) for pairs in sets):
            msg = f"no configuration to {purpose} (split {split!r}) among {sum(len(s.ids) for s in sets)}: relax more"
            raise InputError(msg)
    config = config.model_copy(
        update={"network": _knowing(config.network if parent is None else parent.card.config, sets)}
    )
    labelled = [framed(parent, pairs) for pairs in (*sets, *_pristine_sets(sets))]
    replayed = list(anchors(parent, [pairs.host for pairs in sets])) if parent is not None else []
    folder.mkdir(parents=True, exist_ok=True)
    network = None if parent is None else parent.trainable(config.network)
    best = train(config, [*labelled, *replayed], folder, resume=True, network=network)
    card = _card(name, parent, config, [pairs for pairs in sets if len(pairs.split("train"))], claims)
    tuned = read_weights(best, config.network)
    told = {"calibration": calibrate(tuned.eval(), labelled), "other_minima": other_minima}
    card = card.model_copy(update=told)
    return save_checkpoint(folder / "model.safetensors", tuned, card)


def _knowing(network: NetworkConfig, sets: Sequence[PairSet]) -> NetworkConfig:
    """Return a network that takes charges and inserted atoms where the sets hold some."""
    charged, inserted = any(any(pairs.charges) for pairs in sets), any(pairs.inserted for pairs in sets)
    return network.model_copy(
        update={"charges": network.charges or charged, "inserted": network.inserted or inserted},
    )


def framed(parent: Checkpoint | None, pairs: PairSet) -> PairSet:
    """Return a set whose labels stand on the parent's output for the pristine host, that host among the entries.

    A set with inserted atoms has no row for the pristine host: the set without them that `fine_tune` adds has.
    """
    frame = padded(frame_of(parent, pairs.host), pairs.markers.shape[1])
    atoms = (pairs.markers != VACANCY)[..., None]
    if pairs.inserted:
        return replace(pairs, relaxed=np.where(atoms, pairs.relaxed + frame.astype(np.float32), 0).astype(np.float32))
    copies = max(1, round(PRISTINE_SHARE * len(pairs.split("train"))))
    numbers, markers = nodes(pairs.host, Configuration(edits=()))

    def extended(array: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.repeat(row[None].astype(array.dtype), copies, axis=0)])

    labels = np.where(atoms, pairs.relaxed + frame.astype(np.float32), 0).astype(np.float32)
    return replace(
        pairs,
        ids=(*pairs.ids, *("pristine",) * copies),
        splits=(*pairs.splits, *("train",) * copies),
        numbers=extended(pairs.numbers, numbers),
        markers=extended(pairs.markers, markers),
        unrelaxed=extended(pairs.unrelaxed, np.zeros_like(frame)),
        relaxed=extended(labels, frame),
        charges=(*pairs.charges, *(0,) * copies) if pairs.charges else (),
    )


def _pristine_sets(sets: Sequence[PairSet]) -> Iterator[PairSet]:
    """Yield a set without entries for each supercell that has sets with inserted atoms only; `framed` fills it."""
    covered = {pairs.host.hash for pairs in sets if not pairs.inserted}
    for host in {pairs.host.hash: pairs.host for pairs in sets if pairs.host.hash not in covered}.values():
        none = np.zeros((0, host.n_sites, 3), dtype=np.float32)
        nodes_of_none = np.zeros((0, host.n_sites), dtype=np.uint8)
        yield PairSet(
            f"pristine {host.formula} {host.hash[:8]}", host, (), (), nodes_of_none, nodes_of_none, none, none, ()
        )


def frame_of(parent: Checkpoint | None, host: Host) -> FloatArray:
    """Return a network's displacements of a pristine host, Å, [n_sites, 3]; zero from scratch."""
    if parent is None:
        return np.zeros((host.n_sites, 3))
    numbers, markers = nodes(host, Configuration(edits=()))
    frame: FloatArray = displacements(parent.network, host, numbers[None], markers[None])[0]
    return frame


def anchors(parent: Checkpoint, learned: Sequence[Host]) -> Iterator[PairSet]:
    """Yield random vacancies and pairs of them in the parent's other hosts, its own outputs as labels.

    The data it learned from is not at hand; its outputs are. They tie it down where the new data says nothing.
    """
    for k, host in replayed_hosts(parent, learned):
        kinds = tuple(f"v_{Element.from_Z(z).symbol}" for z in dict.fromkeys(host.numbers))
        every = list(enumerate_configurations(host, Choices(defects=kinds, max_defects=2)))
        drawn = random.Random(k).sample(every, min(ANCHORS, len(every)))  # noqa: S311 - no cryptography
        rows = [nodes(host, configuration) for configuration in drawn]
        numbers, markers = (np.stack([row[i] for row in rows]) for i in (0, 1))
        labels = displacements(parent.network, host, numbers, markers)
        labels[markers == VACANCY] = 0.0
        yield PairSet(
            name=f"replay {k} {host.formula}",
            host=host,
            ids=tuple(f"{k}-{i}" for i in range(len(drawn))),
            splits=("train",) * len(drawn),
            numbers=numbers.astype(np.uint8),
            markers=markers.astype(np.uint8),
            unrelaxed=np.zeros(labels.shape, dtype=np.float32),
            relaxed=labels.astype(np.float32),
            malformed=(),
        )


def replayed_hosts(parent: Checkpoint, learned: Iterable[Host]) -> list[tuple[int, Host]]:
    """Return supercells of the hosts that only the parent learned, each with its number on the parent's card."""
    covered, found = list(learned), []
    for k, unit in enumerate(parent.card.hosts):
        if any(knows_host((unit,), host) for host in covered):
            continue
        found.append((k, _supercell(unit)))
        covered.append(found[-1][1])
    return found


def _supercell(unit: UnitCell) -> Host:
    cell = Structure(unit.lattice, np.array(unit.numbers).tolist(), np.array(unit.frac_coords))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="2D host .* of vacuum", category=UserWarning)  # as it was learned
        return make_host(cell, _ANCHOR_CELL)


def _card(
    name: str, parent: Checkpoint | None, config: TrainConfig, sets: list[PairSet], claims: Sequence[str] | None
) -> Card:
    """Return the card: hosts are those of the data, elements also those that the parent knows."""
    card = card_of(name, config, sets)
    claimed = [pairs for pairs in sets if claims is None or pairs.host.formula in claims]
    known = parent.card.elements if parent is not None else ()
    start = "from scratch" if parent is None else f"from {parent.name} ({parent.sha256[:12]})"
    return card.model_copy(
        update={
            "hosts": tuple(dict.fromkeys(unit_cell(pairs.host) for pairs in claimed)),
            "elements": tuple(sorted({*card.elements, *known})),
            "learned": _counted(parent.card.learned if parent is not None else (), card.learned),
            "data": f"{sum(len(s.split('train')) for s in sets)} ends of relaxations, {start}",
            "data_hash": DATA_HASH + content_hash("data", parent.sha256 if parent else "", card.data_hash),
        }
    )


def _counted(known: Sequence[Learned], new: Sequence[Learned]) -> tuple[Learned, ...]:
    """Return what parent and child learned; where both count, the child's count."""
    found = {(seen.host, seen.kind, seen.charge): seen for seen in (*known, *new)}
    return tuple(found[key] for key in sorted(found))
