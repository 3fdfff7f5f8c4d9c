"""Active learning: relax the most instructive configurations, retrain, and go on until the model is good enough."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jobflow import Flow, Job, Maker, Response, job

from definet_flows.errors import InputError
from definet_flows.hosts import load_structure
from definet_flows.schemas.learning import Round
from definet_flows.schemas.models import ModelRef
from definet_flows.schemas.starts import DEFINET
from definet_flows.stores import Filter, open_store
from definet_flows.stores.learning.folds import LEAST_LABELS, can_be_folded
from definet_flows.stores.learning.registry import champion
from definet_flows.stores.learning.splits import Motifs
from definet_flows.workflows.campaign.beginning import survive_parents
from definet_flows.workflows.campaign.contents import Campaign
from definet_flows.workflows.campaign.flow import DefectFlowMaker
from definet_flows.workflows.campaign.models import CHAMPION, checkpoint_of
from definet_flows.workflows.campaign.prerelaxers import name_prerelaxers
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.learning.acquisition import acquisition, uncertain_where_unknown
from definet_flows.workflows.learning.active.pool import fit_steps, make_pool
from definet_flows.workflows.learning.active.state import (
    LearningState,
    Limits,
    by_split,
    held_out_error,
    holds_out,
    learning_id,
    read_learning_state,
    trial_error,
)
from definet_flows.workflows.learning.judging import LEAST_HELD_OUT, needed
from definet_flows.workflows.learning.label_sets import pair_sets
from definet_flows.workflows.learning.retrain import RetrainConfig, RetrainMaker
from definet_flows.workflows.recording.cases import settings_hash_of
from definet_flows.workflows.recording.provenance import now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.schemas import Configuration
    from definet_flows.stores import Records
    from definet_flows.stores.learning.splits import Split
    from definet_flows.stores.learning.training_set import TrainingSet

logger = logging.getLogger(f"jobflow.{__name__}")

VALIDATION_SHARE = 0.5
"""Configurations that choose the epoch of a training, for each held-out configuration."""


def validation(held_out: int) -> int:
    """Return the number of configurations that choose the epochs."""
    return round(VALIDATION_SHARE * held_out)


@dataclass
class ActiveLearningMaker(Maker):
    """
    Relax a pool of configurations batch by batch, each batch chosen by what the network has still to learn.

    A round: the champion is measured on held-out configurations, a strategy chooses a batch, the batch is relaxed from
    the champion's predictions and recorded, a challenger is trained on everything recorded with these settings and
    promoted if it is better. In the first round the held-out configurations are relaxed too. Where learning stands is
    read from the record store each time: the same flow submitted again goes on where the last flow stopped.

    Parameters
    ----------
    name
        Name of the flow.
    defects
        The pool and its relaxation. Its `model` predicts until these settings have a champion.
    strategy
        One of `definet_flows.ACQUISITIONS`.
    batch
        Configurations of a round.
    held_out
        Configurations that are relaxed and never learned from; at least eight. A pool too small for that, of ten or
        more, is cross-validated instead: the error is that of the champion's trial.
    budget
        Configurations to relax at most, the held-out ones included.
    target
        Mean |component| error on the held-out configurations at which learning stops, Å; None: no such error.
    patience
        Rounds without a gain of 2 % after which learning stops.
    seed
        Seed of the draws.
    retraining
        Recipe of the trainings.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> pool = DefectFlowMaker(supercell=(4, 4, 1), defects=("v_S", "W_Mo"), max_defects=3, engine="sevennet")
    >>> flow = ActiveLearningMaker(defects=pool, budget=100).make("MoS2")  # doctest: +SKIP
    >>> run_locally(flow, create_folders=True)  # doctest: +SKIP
    """

    name: str = "active learning"
    defects: DefectFlowMaker = field(default_factory=DefectFlowMaker)
    strategy: str = "diverse"
    batch: int = 20
    held_out: int = 12
    budget: int = 200
    target: float | None = None
    patience: int = 3
    seed: int = 0
    retraining: RetrainConfig = field(default_factory=lambda: RetrainConfig(min_new=1))

    def make(self, host: Structure | str | Path) -> Flow:
        """Return the flow; it grows round by round, and its output is that of the last round.

        Parameters
        ----------
        host
            A Structure (the unit cell), a path, or the name of a shipped host.

        Raises
        ------
        InputError
            If anything is wrong with the host or the fields.
        """
        return self.assemble(self.campaign(host), host)

    def campaign(self, host: Structure | str | Path) -> Campaign:
        """Return the pool, everything checked.

        Raises
        ------
        InputError
            If anything is wrong with the host or the fields.
        """
        acquisition(self.strategy)
        for name, least in (("batch", 1), ("held_out", LEAST_HELD_OUT), ("budget", 1), ("patience", 1)):
            if getattr(self, name) < least:
                msg = f"{name}={getattr(self, name)}: {least} at least"
                raise InputError(msg)
        if self.target is not None and not self.target > 0:
            msg = f"target={self.target}: an error in Å, such as 0.002"
            raise InputError(msg)
        pool = self.defects.campaign(host)
        self._refuse_small(pool, host)
        first = self.held_out + validation(self.held_out) if holds_out(pool) else LEAST_LABELS - 1
        if self.budget <= first:
            msg = f"budget={self.budget}: {first} are relaxed before the network learns from any, give more"
            raise InputError(msg)
        self._check_uncertainty()
        return pool

    def _refuse_small(self, pool: Campaign, host: Structure | str | Path) -> None:
        """Refuse a pool too small even for cross-validation; say how many are needed, and which pool has more."""
        motifs = [Motifs(pool.host).motif(configuration) for configuration in pool.configurations]
        if holds_out(pool) or (can_be_folded(motifs) and by_split(pool)["train"]):
            return
        msg = f"a pool of {len(pool.ids)} configurations is too small, {needed(len(motifs), len(set(motifs)))}"
        raise InputError(f"{msg}: {self._larger(pool, host)}")

    def _larger(self, pool: Campaign, host: Structure | str | Path) -> str:
        """Return a pool with a defect more, in words."""
        most = max(len(configuration.edits) for configuration in pool.configurations) + 1
        try:
            size = len(replace(self.defects, max_defects=most).campaign(host).ids)
        except InputError:  # of a Recipe, or with limits that allow no more
            return "allow more defects, or a larger cell"
        return f"--max-defects {most} gives {size}"

    def _check_uncertainty(self) -> None:
        """Refuse, before anything runs, a strategy that needs uncertainties if the first weights give none."""
        if not acquisition(self.strategy).needs_uncertainty:
            return
        with open_store(self.defects.store) as records:
            name = self.predictor(records)
        if name == self.defects.model and checkpoint_of(name, self.defects.store).card.calibration is None:
            msg = f"strategy {self.strategy!r} needs uncertainties, {name} gives none: take --strategy random"
            raise InputError(msg)

    def predictor(self, records: Records) -> str:
        """Return the registry id of the champion; of the maker's own model where no champion is registered.

        Raises
        ------
        InputError
            If the maker's own model is the champion, and there is none.
        """
        found = champion(records, self.settings_hash)
        if found is None and self.defects.model == CHAMPION:
            msg = f"record store {records.name!r} has no champion for these settings: name the model to begin with"
            raise InputError(msg)
        return self.defects.model if found is None else found.id

    def assemble(self, pool: Campaign, host: Structure | str | Path) -> Flow:
        """Return the flow of a pool that `campaign` has returned."""
        maker = replace(self, defects=self.defects.portable())
        first = learn_round(maker, load_structure(host), number=None)
        return Flow([first], output=first.output, name=f"{self.name} {pool.host.formula} ({len(pool.ids)})")

    @property
    def limits(self) -> Limits:
        """When to stop."""
        return Limits(target=self.target, budget=self.budget, patience=self.patience)

    @property
    def settings_hash(self) -> str:
        """Hash of the settings that all relaxations share."""
        return settings_hash_of(resolve_engine(self.defects.engine), relaxed_host=self.defects.relax_host)


@job
def learn_round(
    maker: ActiveLearningMaker, host: Structure, *, number: int | None, after: object = None
) -> Response[dict[str, Any]]:
    """Measure, choose, and grow the flow by a round; or say why learning ends.

    Parameters
    ----------
    number
        The round; None: the round under way by the store, else the next.
    after
        Output of the retraining that this job waits for.
    """
    del after
    pool, settings = maker.campaign(host), maker.settings_hash
    with open_store(maker.defects.store) as records:
        this_round = next_round(maker, pool, records, settings, number)
    if this_round.stop is not None:
        logger.info("learning ends: %s", this_round.stop)
        return Response(output=this_round.model_dump(mode="json"))
    jobs = _round_jobs(maker, pool, host, this_round, settings)
    return Response(replace=Flow(jobs, output=jobs[-1].output, name=f"round {this_round.number}"))


def next_round(
    maker: ActiveLearningMaker, pool: Campaign, records: Records, settings: str, number: int | None
) -> Round:
    """Return the round under way, or begin a round; the store holds the returned round."""
    state = read_learning_state(records, pool, settings, learning_id(pool, settings, maker.strategy))
    rounds = state.rounds
    if number is None:
        number = rounds[-1].number if rounds else 0  # limits may have changed since it ended
    begun = next((earlier for earlier in rounds if earlier.number == number and earlier.stop is None), None)
    if begun is not None:  # by a run that was stopped, or by another process that learns from the same pool
        return begun
    this_round = begin(maker, pool, records, state, number)
    records.put(this_round)
    return this_round


def begin(maker: ActiveLearningMaker, pool: Campaign, records: Records, state: LearningState, number: int) -> Round:
    """Measure the champion, and choose the next batch."""
    settings = state.training.settings_hash
    name = maker.predictor(records)
    checkpoint = checkpoint_of(name, maker.defects.store)
    earlier = [past for past in state.rounds if past.number < number]
    weights = ModelRef(name=name, sha256=checkpoint.sha256)
    if holds_out(pool):
        error, count = held_out_error(checkpoint.network, state.training, pool.ids)
    else:
        error, count = trial_error(records, weights, pool.host.formula)
    left = _candidates(pool, state)
    stop = maker.limits.reached([*(past.error for past in earlier), error], len(state.chosen), len(left))
    chosen = () if stop else _choose(maker, pool, records, state, checkpoint, left, number)
    if not stop and not chosen:
        stop = "nothing left that the network could learn"
    learning = learning_id(pool, settings, maker.strategy)
    return Round(
        id=Round.identity(learning, number),
        learning=learning,
        number=number,
        strategy=maker.strategy,
        weights=weights,
        error=error,
        held_out=count,
        relaxed=len(state.chosen),
        ionic_steps=state.ionic_steps,
        core_hours=state.core_hours,
        chosen=chosen,
        stop=stop,
        at=now(),
    )


def _candidates(pool: Campaign, state: LearningState) -> list[tuple[str, Configuration]]:
    """Return the configurations that could still be chosen: those to learn from; all that are cross-validated."""
    gone = state.ended | state.chosen
    splits = by_split(pool)
    every = splits["train"] if holds_out(pool) else [candidate for part in splits.values() for candidate in part]
    return [candidate for candidate in every if candidate[0] not in gone]


def _choose(
    maker: ActiveLearningMaker,
    pool: Campaign,
    records: Records,
    state: LearningState,
    checkpoint: Checkpoint,
    left: Sequence[tuple[str, Configuration]],
    number: int,
) -> tuple[str, ...]:
    """Return the missing held-out and validation configurations, then the batch."""
    from definet_flows.model.inference.predict import predict  # noqa: PLC0415 - torch

    random = np.random.default_rng((maker.seed, number))
    left_to_spend = maker.budget - len(state.chosen)
    missing = _missing(maker, pool, state, random)[: max(left_to_spend, 0)]
    count = min(maker.batch, left_to_spend - len(missing))
    strategy = acquisition(maker.strategy)
    asked = predict(calibrated(checkpoint, state.training), pool.host, [configuration for _, configuration in left])
    able = [
        (*candidate, raw)
        for candidate, raw in zip(left, uncertain_where_unknown(left, asked), strict=True)
        if raw.uncertainty is not None or raw.displacements is not None
    ]
    configurations, predictions = [row[1] for row in able], [row[2] for row in able]
    steps = fit_steps(records.records(Filter(settings_hash=state.training.settings_hash)))
    learned = state.labelled("train")
    known = [
        configuration
        for identity, configuration in zip(pool.ids, pool.configurations, strict=True)
        if identity in learned
    ]
    candidates = make_pool(pool.host, configurations, predictions, steps, known)
    batch = strategy.select(candidates, max(count, 0), random)
    return (*missing, *(able[k][0] for k in batch))


def calibrated(checkpoint: Checkpoint, training: TrainingSet) -> Checkpoint:
    """Return a checkpoint that states uncertainties, if enough configurations are left to calibrate them."""
    from definet_flows.model.training.evaluate import calibrate  # noqa: PLC0415 - torch
    from definet_flows.model.training.finetune import framed  # noqa: PLC0415

    if checkpoint.card.calibration is not None:
        return checkpoint
    unseen = []
    for pairs in pair_sets(training):
        splits = tuple("val" if split == "test" else split for split in pairs.splits)
        unseen.append(framed(checkpoint, replace(pairs, splits=splits)))
    found = calibrate(checkpoint.network, unseen)
    return replace(checkpoint, card=checkpoint.card.model_copy(update={"calibration": found}))


def _missing(
    maker: ActiveLearningMaker, pool: Campaign, state: LearningState, random: np.random.Generator
) -> list[str]:
    """Draw the held-out and the validation configurations that are still to be relaxed; none under cross-validation."""
    if not holds_out(pool):
        return []
    splits = by_split(pool)
    wanted: dict[Split, int] = {"test": maker.held_out, "val": validation(maker.held_out)}
    drawn: list[str] = []
    for split, count in wanted.items():
        ids = [identity for identity, _ in splits[split]]
        lacking = count - len(state.labelled(split) & set(ids))
        free = [identity for identity in ids if identity not in state.ended | state.chosen]
        drawn += [free[k] for k in random.permutation(len(free))[: max(lacking, 0)]]
    return drawn


def _round_jobs(
    maker: ActiveLearningMaker, pool: Campaign, host: Structure, this_round: Round, settings: str
) -> list[Flow | Job]:
    """Return the jobs of a round: relax the batch, retrain, and the next round."""
    chosen = dict(zip(pool.ids, pool.configurations, strict=True))
    configurations = tuple(chosen[identity] for identity in this_round.chosen)
    weights = this_round.weights
    batch = replace(
        pool,
        configurations=configurations,
        weights=weights.sha256,
        model=weights.name,
        prerelaxers=name_prerelaxers((DEFINET,), weights.name, weights.sha256),
    )
    relaxing = maker.defects.workflow(batch)
    relaxing.name = f"round {this_round.number}: {len(batch.configurations)} relaxations"
    retraining = RetrainMaker(settings=settings, config=maker.retraining, store=maker.defects.store)
    retrained = survive_parents(retraining.make(after=relaxing.output))
    following = survive_parents(learn_round(maker, host, number=this_round.number + 1, after=retrained.output))
    following.name = f"round {this_round.number + 1}"
    return [relaxing, retrained, following]
