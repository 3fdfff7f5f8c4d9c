"""Where active learning of a pool stands: all of it is read from the record store, nothing is kept in a flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from definet_flows.schemas import content_hash
from definet_flows.schemas.learning import Round
from definet_flows.schemas.models import Model, ModelRef
from definet_flows.stores import Filter
from definet_flows.stores.learning.splits import Motifs, Split
from definet_flows.workflows.learning.judging import LEAST_HELD_OUT
from definet_flows.workflows.learning.label_sets import pair_sets, read_training_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.model.network.network import Network
    from definet_flows.schemas import Configuration
    from definet_flows.stores import Records
    from definet_flows.stores.learning.training_set import TrainingSet
    from definet_flows.workflows.campaign.contents import Campaign

LEAST_GAIN = 0.02
"""Relative drop of the error below which a round counts as no progress."""


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes
    ----------
    target
        Error on held-out configurations that is good enough, Å; None: none is.
    budget
        Configurations to relax at most.
    patience
        Rounds without progress before giving up.
    """

    target: float | None
    budget: int
    patience: int

    def reached(self, errors: Sequence[float | None], relaxed: int, left: int) -> str | None:
        """Return why learning stops, None if it goes on.

        Parameters
        ----------
        errors
            On held-out configurations, round by round, Å; None in rounds without any.
        relaxed, left
            Configurations that the rounds chose so far, and those that could still be chosen.
        """
        known = [error for error in errors if error is not None]
        if self.target is not None and known and known[-1] <= self.target:
            return f"target reached: {1000 * known[-1]:.2f} mÅ on held-out configurations"
        if left == 0:
            return f"pool exhausted: {relaxed} configurations relaxed"
        if relaxed >= self.budget:
            return f"budget spent: {relaxed} of {self.budget} configurations relaxed"
        if stalled(known) >= self.patience:
            return f"plateau: {self.patience} rounds without a gain of {LEAST_GAIN:.0%}"
        return None


def stalled(errors: Sequence[float]) -> int:
    """Return how many rounds ago the error last fell by more than `LEAST_GAIN`; the first known error is a fall."""
    best, since = np.inf, 0
    for error in errors:
        if error < best * (1 - LEAST_GAIN):
            best, since = error, 0
        else:
            since += 1
    return since


@dataclass(frozen=True, eq=False)
class LearningState:
    """State of learning on a pool, by the record store.

    Attributes
    ----------
    rounds
        Oldest first.
    training
        The training set of these settings.
    ended
        Configurations of the pool with a relaxation that ended, well or not.
    ionic_steps, core_hours
        Cost of the configurations that the rounds chose, over all starts.
    """

    rounds: tuple[Round, ...]
    training: TrainingSet
    ended: frozenset[str]
    ionic_steps: int
    core_hours: float | None

    @property
    def chosen(self) -> frozenset[str]:
        """Configurations that the rounds chose."""
        return frozenset(identity for past in self.rounds for identity in past.chosen)

    def labelled(self, split: Split) -> frozenset[str]:
        """Return the configurations of a split with an end that can be learned from."""
        return frozenset(entry.configuration_id for entry in self.training.of_split(split))


def learning_id(campaign: Campaign, settings_hash: str, strategy: str) -> str:
    """Return the identity of active learning: limits may change, and it goes on."""
    return content_hash("learning", sorted(campaign.ids), settings_hash, strategy)


def read_learning_state(records: Records, campaign: Campaign, settings_hash: str, learning: str) -> LearningState:
    """Return the state of learning on a pool from its store."""
    rounds = sorted(records.find(Round, {"learning": learning}), key=lambda found: found.number)
    rows = list(records.ledgers(Filter(settings_hash=settings_hash, configuration_ids=campaign.ids)))
    chosen = {identity for past in rounds for identity in past.chosen}
    spent = [row for row in rows if row.configuration_id in chosen]
    hours = [row.ledger.core_hours for row in spent if row.ledger is not None and row.ledger.core_hours is not None]
    return LearningState(
        rounds=tuple(rounds),
        training=read_training_set(records, settings_hash, (campaign.host,)),
        ended=frozenset(row.configuration_id for row in rows if row.status != "running"),
        ionic_steps=sum(row.steps for row in spent),
        core_hours=sum(hours) if hours else None,
    )


def held_out_error(network: Network, training: TrainingSet, ids: Sequence[str]) -> tuple[float | None, int]:
    """Return the mean |component| error on held-out configurations among `ids`, Å, and their number."""
    from definet_flows.model.training.local_errors import local_errors  # noqa: PLC0415 - torch

    wanted = set(ids)
    errors = []
    for pairs in pair_sets(training):
        found = local_errors(network, pairs, "test")
        names = [pairs.ids[k] for k in pairs.split("test")]
        errors += [float(e) for e, name in zip(found, names, strict=True) if name in wanted]
    return (float(np.mean(errors)), len(errors)) if errors else (None, 0)


def trial_error(records: Records, weights: ModelRef, formula: str) -> tuple[float | None, int]:
    """Return the mean |component| error of a model in its last trial, Å, and the number of configurations.

    Parameters
    ----------
    weights
        The model; one that was not trained on the store's records has no trial.
    formula
        The host.
    """
    model = next(records.find(Model, {"id": weights.name, "sha256": weights.sha256}), None)
    hosts = model.trials[-1].hosts if model is not None and model.trials else ()
    return next(((host.challenger, host.n) for host in hosts if host.host == formula), (None, 0))


def holds_out(campaign: Campaign) -> bool:
    """Say whether a pool is large enough to hold configurations out; else learning is cross-validated."""
    splits = by_split(campaign)
    return len(splits["test"]) >= LEAST_HELD_OUT and bool(splits["val"]) and bool(splits["train"])


def by_split(campaign: Campaign) -> dict[Split, list[tuple[str, Configuration]]]:
    """Return ids and configurations of each split, in the campaign's order."""
    motifs = Motifs(campaign.host)
    splits: dict[Split, list[tuple[str, Configuration]]] = {"train": [], "val": [], "test": []}
    for identity, configuration in zip(campaign.ids, campaign.configurations, strict=True):
        splits[motifs.split(configuration)].append((identity, configuration))
    return splits
