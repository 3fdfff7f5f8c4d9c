"""Retraining: new relaxations train a challenger, and a trial decides whether it becomes champion."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jobflow import Job, Maker, job
from pydantic import Field

from definet_flows.errors import InputError
from definet_flows.schemas import Frozen, Provenance
from definet_flows.schemas.models import Champion, Model, ModelRef, Trial
from definet_flows.stores import open_store
from definet_flows.stores.learning.registry import (
    add_trial,
    champion,
    champion_document,
    find_model,
    models,
    promote,
    register,
    state_of,
)
from definet_flows.stores.learning.training_set import Refusal, settings_in
from definet_flows.stores.locking import HeldError, sole
from definet_flows.stores.opening import name_of
from definet_flows.stores.prefix import only
from definet_flows.workflows.campaign.models import stored_checkpoint
from definet_flows.workflows.learning.challenger import train_challenger, train_on_folds
from definet_flows.workflows.learning.judging import Judging, judging
from definet_flows.workflows.learning.label_sets import read_training_set
from definet_flows.workflows.learning.trial import cross_validate, hold_trial, residual_steps
from definet_flows.workflows.recording.provenance import now, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.stores import Records
    from definet_flows.stores.learning.training_set import TrainingSet

logger = logging.getLogger(f"jobflow.{__name__}")

MIN_NEW = 200
"""Fewest configurations since the last training that are worth a training."""

Outcome = Literal["promoted", "kept", "too little new", "busy"]


class Retrained(Frozen):
    """Outcome of retraining on a settings hash."""

    settings_hash: str
    engine: str
    outcome: Outcome = Field(description="kept: trained, but it stays a challenger")
    message: str = Field(description="a single line")
    model: str | None = Field(default=None, description="registry id of the trained model")
    new: int = Field(default=0, description="configurations since the last training")
    counts: tuple[str, ...] = Field(default=(), description="configurations by host, density and split, in words")
    refused: tuple[Refusal, ...] = Field(default=(), description="records left out, with reasons")
    other_settings: dict[str, int] = Field(default_factory=dict, description="records with other settings, not used")
    trial: Trial | None = None


class RetrainConfig(Frozen):
    """How to retrain."""

    min_new: int = Field(default=MIN_NEW, ge=1, description="configurations since the last training")
    from_scratch: bool = Field(default=False, description="not from the champion's weights")
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="fields of the TrainConfig that differ from the recipe of a fine-tuning"
    )


DEFAULT = RetrainConfig()


@dataclass
class RetrainMaker(Maker):
    """
    Fine-tune the champion on the relaxations since its training, and promote the result if it is better.

    The job may run anywhere where the record store can be reached; it uses a GPU if it finds any. Nothing is done,
    and the output says so, if too little is new or another retraining of the store runs.

    Parameters
    ----------
    name
        Name of the job.
    settings
        The settings hash whose records are learned from; None: each that the store has.
    config
        How much must be new, and the recipe.
    store
        Name of the record store in the settings of the machine that runs the job, or path of its file; or a maggma
        Store, as in `DefectFlowMaker`.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> job = RetrainMaker(config=RetrainConfig(min_new=100)).make()
    >>> run_locally(job)  # doctest: +SKIP
    """

    name: str = "retrain"
    settings: str | None = None
    config: RetrainConfig = field(default_factory=RetrainConfig)
    store: str | None = None

    def __post_init__(self) -> None:
        """Accept a Store and a path for the name of a store."""
        self.store = name_of(self.store)

    def make(self, after: object = None) -> Job:
        """Return the job; its output is a list of `Retrained` as dicts.

        Parameters
        ----------
        after
            Output of a job to wait for.
        """
        made = retrain_network(self.settings, config=self.config, store=self.store, after=after)
        made.name = self.name
        return made


@job
def retrain_network(
    settings: str | None, *, config: RetrainConfig, store: str | None, after: object = None
) -> list[dict[str, Any]]:
    """Retrain on a settings hash of a store, or on each. As `retrain_all`."""
    del after
    found = retrain_all(store, config, settings)
    for outcome in found:
        logger.info(outcome.message)
    return [outcome.model_dump(mode="json") for outcome in found]


def retrain_all(
    store: str | None,
    config: RetrainConfig = DEFAULT,
    settings: str | None = None,
    tell: Callable[[str], None] = logger.info,
) -> list[Retrained]:
    """Retrain on a settings hash of a store, or on each that it has.

    Parameters
    ----------
    settings
        The settings hash or a beginning that no other has; None: each.
    tell
        Receives, before the training starts, the counts of the training set.

    Raises
    ------
    InputError
        If the store has no records with such settings, several settings begin so, or it cannot be reached.
    """
    with open_store(store, read_only=True) as records:
        every = settings_in(records)
        where = f"finished records of record store {records.name!r}"
    if settings is not None:
        return [retrain(store, only(settings, every.items(), "settings", where)[0], config, tell)]
    if not every:
        msg = f"no finished records to learn from in {records.name!r}: the store has no records of any settings"
        raise InputError(msg)
    return [retrain(store, settings_hash, config, tell) for settings_hash in every]


def retrain(
    store: str | None, settings_hash: str, config: RetrainConfig = DEFAULT, tell: Callable[[str], None] = logger.info
) -> Retrained:
    """Train a challenger on the records of a settings hash, try it, and promote it if it is better.

    Killed at any instant, it goes on when called again: the training from its last epoch, the rest from the store.

    Raises
    ------
    InputError
        If the store cannot be reached.
    """
    plan = _planned(store, settings_hash, config)
    if plan.passed is not None:
        return _completed(store, plan, plan.passed)
    if plan.lacking:
        return _said(plan, "too little new", plan.lacking)
    try:
        with sole(f"retraining {settings_hash}", store) as check:
            plan = _planned(store, settings_hash, config)  # another retraining may have ended meanwhile
            if plan.lacking:
                return _said(plan, "too little new", plan.lacking)
            return _retrained(store, plan, config, check, tell)
    except HeldError as held:
        return _said(plan, "busy", str(held))


def _retrained(
    store: str | None,
    plan: _Plan,
    config: RetrainConfig,
    check: Callable[[Records], None],
    tell: Callable[[str], None],
) -> Retrained:
    with open_store(store, read_only=True) as records:
        incumbent = champion_checkpoint(records, plan.training.settings_hash)
    parent = None if config.from_scratch else incumbent
    training, how = plan.training, plan.judging
    by = f", judged by {how.folds}-fold cross-validation, for which as many more are trained" if how.folds else ""
    tell(f"{plan.engine}: {plan.new} new configurations; learning from {len(training.of_split('train'))}{by}")
    trained = train_challenger(training, how, parent, config.recipe)
    folds = list(train_on_folds(training, how, parent, config.recipe, trained.name)) if how.folds else []
    with open_store(store) as records:
        check(records)
        model = _registered(records, plan, trained, parent)
        trial = _trial(records, plan.training, model, stored_checkpoint(records, model), incumbent, folds)
        model = add_trial(records, model, trial)
        if not trial.passed:
            return _said(plan, "kept", f"{model.id} stays a challenger: {trial.reason}", model=model.id, trial=trial)
        promote(records, model, trial)
    return _said(plan, "promoted", f"{model.id} is champion: {trial.reason}", model=model.id, trial=trial)


# ------------------------------------------------------------------ the training set


@dataclass(frozen=True, eq=False)
class _Plan:
    """The training set, the number of new configurations, and the obstacles.

    Attributes
    ----------
    judging
        How the challenger is judged.
    lacking
        Reason to train nothing; empty if there is none.
    passed
        A model that passed its trial and was not promoted, because the process was killed in between.
    """

    training: TrainingSet
    new: int
    judging: Judging
    lacking: str
    passed: Model | None

    @property
    def engine(self) -> str:
        return self.training.engine

    @property
    def counts(self) -> tuple[str, ...]:
        return tuple(f"{c.host}, {c.density} defective: {c.n} {c.split}" for c in self.training.counts())


def _planned(store: str | None, settings_hash: str, config: RetrainConfig) -> _Plan:
    with open_store(store, read_only=True) as records:
        training = read_training_set(records, settings_hash)
        tried = [model for model in models(records, settings_hash) if model.trials]
        document = champion_document(records, settings_hash)
    new = len(training.entries) - (tried[-1].configurations if tried else 0)
    judged = judging(training)
    lacking = f"{judged.lacking}: nothing done" if judged.lacking else ""
    if new < config.min_new:
        lacking = f"{new} new configurations, {config.min_new} wanted: nothing done"
        lacking += f"; relax {config.min_new - new} more, or give --min-new {new}" if new and not judged.lacking else ""
    passed = tried[-1] if tried and _awaits_promotion(tried[-1], document) else None
    return _Plan(training, new, judged, lacking, passed)


def _awaits_promotion(model: Model, document: Champion | None) -> bool:
    trial = model.trials[-1]
    today = None if document is None else document.model
    return trial.passed and state_of(model, document) == "challenger" and today in (None, trial.champion)


def _completed(store: str | None, plan: _Plan, model: Model) -> Retrained:
    with open_store(store) as records:
        promote(records, model, model.trials[-1])
    message = f"{model.id} is champion, as its trial had shown: {model.trials[-1].reason}"
    return _said(plan, "promoted", message, model=model.id, trial=model.trials[-1])


def _said(plan: _Plan, outcome: Outcome, message: str, **more: Any) -> Retrained:  # noqa: ANN401
    training = plan.training
    return Retrained(
        settings_hash=training.settings_hash,
        engine=training.engine,
        outcome=outcome,
        message=f"{training.engine} {training.settings_hash[:12]}: {message}",
        new=plan.new,
        counts=plan.counts,
        refused=training.refused,
        other_settings=training.other_settings,
        **more,
    )


# ------------------------------------------------------------------ training


def champion_checkpoint(records: Records, settings_hash: str) -> Checkpoint:
    """Return the champion of a settings hash; else the model of the package."""
    from definet_flows.model.inference.checkpoint import DEFAULT_MODEL, load_checkpoint  # noqa: PLC0415 - torch

    found = champion(records, settings_hash)
    return load_checkpoint(DEFAULT_MODEL) if found is None else stored_checkpoint(records, found)


def _registered(records: Records, plan: _Plan, challenger: Checkpoint, parent: Checkpoint | None) -> Model:
    """Return the model to register; a registered model of this name is the outcome of the same training."""
    known = next((model for model in models(records) if model.id == challenger.name), None)
    if known is not None:
        return known
    content = challenger.path.read_bytes()
    card = challenger.card
    model = Model(
        id=challenger.name,
        settings_hash=plan.training.settings_hash,
        engine=plan.engine,
        sha256=challenger.sha256,
        size=len(content),
        recipe={**card.recipe, "network": card.config.model_dump(mode="json")},
        hosts=plan.judging.claims,
        data_hash=plan.training.data_hash,
        configurations=len(plan.training.entries),
        counts=plan.counts,
        refused=len(plan.training.refused),
        parent=None if parent is None else ModelRef(name=parent.name, sha256=parent.sha256),
        provenance=Provenance(versions=versions(), finished=now(), directory=str(challenger.path.parent)),
    )
    return register(records, model, content)


# ------------------------------------------------------------------ the trial


def _trial(
    records: Records,
    training: TrainingSet,
    model: Model,
    challenger: Checkpoint,
    incumbent: Checkpoint,
    folds: Sequence[tuple[Checkpoint, TrainingSet]] = (),
) -> Trial:
    steps = residual_steps(records, training, challenger.sha256, incumbent.sha256, model.hosts)
    if folds:
        return cross_validate(folds, incumbent, training, model.hosts, steps)
    return hold_trial(challenger, incumbent, training, model.hosts, steps)


def try_again(store: str | None, ref: str) -> tuple[Model, Trial]:
    """Try a registered model against today's champion, on today's held-out records; promote it if it passes.

    Raises
    ------
    InputError
        If there is no such model, or it is champion.
    """
    with open_store(store, read_only=True) as records:  # a missing store is not made
        find_model(records, ref)
    with open_store(store) as records:
        model = find_model(records, ref)
        if state_of(model, champion_document(records, model.settings_hash)) == "champion":
            msg = f"model {model.id} is champion already"
            raise InputError(msg)
        incumbent = champion_checkpoint(records, model.settings_hash)
        challenger = stored_checkpoint(records, model)
        trial = _trial(records, read_training_set(records, model.settings_hash), model, challenger, incumbent)
        model = add_trial(records, model, trial)
        if trial.passed:
            promote(records, model, trial)
    return model, trial
