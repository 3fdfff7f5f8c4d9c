"""Models that were trained on records, and one champion for each settings hash.

A registered model never changes, apart from its trials. A single document per settings hash names the champion; it is
replaced whole: a process killed at any instant leaves the old champion or the new. The state of a
model follows from that document.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from definet_flows.errors import InputError
from definet_flows.schemas.models import Champion, Model, ModelRef, Tenure, Trial
from definet_flows.stores.learning.weight_files import put_weights
from definet_flows.stores.locking import swap
from definet_flows.stores.prefix import beginning_with, listed, only

if TYPE_CHECKING:
    from definet_flows.stores.records import Records

State = Literal["challenger", "champion", "retired"]

SHORTEST = 6
"""Characters of a sha256 that name a model."""


def register(records: Records, model: Model, content: bytes) -> Model:
    """Store a model and its weights; return it as stored. The weights come first: a model always has them."""
    digest = put_weights(records, content)
    stored = model.model_copy(update={"sha256": digest, "size": len(content)})
    records.put(stored)
    return stored


def models(records: Records, settings_hash: str | None = None) -> list[Model]:
    """Return all models, or those of a settings hash, oldest first."""
    found = records.find(Model, {} if settings_hash is None else {"settings_hash": settings_hash})
    return sorted(found, key=lambda model: (model.provenance.finished or "", model.id))


def find_model(records: Records, ref: str) -> Model:
    """Return the model of a registry id, or of the beginning of its sha256.

    Raises
    ------
    InputError
        If there is none, or several match; they are listed.
    """
    named = next(records.find(Model, {"id": ref}), None)
    if named is not None:
        return named
    every = {(model.sha256, model.id): model for model in models(records)}
    where = f"record store {records.name!r}"
    if not beginning_with(ref, every, SHORTEST):
        known = ", ".join(model.id for model in every.values()) or "it has none yet"
        msg = f"no model {ref!r} in {where}: {known}"
        raise InputError(msg)
    return every[only(ref, every, "models", where, SHORTEST)]


def champion_document(records: Records, settings_hash: str) -> Champion | None:
    """Return the present and the former champions of a settings hash; None if there was no champion."""
    return next(records.find(Champion, {"id": Champion.identity(settings_hash)}), None)


def champion(records: Records, settings_hash: str) -> Model | None:
    """Return the champion of a settings hash; None where the weights of the package hold that place."""
    document = champion_document(records, settings_hash)
    if document is None or document.model is None:
        return None
    return find_model(records, document.model.name)


def state_of(model: Model, document: Champion | None) -> State:
    """Return the state of a model, given the champion's document of its settings hash."""
    if document is None:
        return "challenger"
    if document.model == model.ref:
        return "champion"
    return "retired" if any(tenure.model == model.ref for tenure in document.history) else "challenger"


def add_trial(records: Records, model: Model, trial: Trial) -> Model:
    """Store the result of a trial; return the model with it."""
    tried = model.model_copy(update={"trials": (*model.trials, trial)})
    records.put(tried)
    return tried


def promote(records: Records, model: Model, trial: Trial) -> Champion:
    """Make a model champion after the trial it passed.

    Raises
    ------
    InputError
        If it did not pass, if the trial was against another than today's champion, or if another process changes the
        champion at this moment.
    """
    document = champion_document(records, model.settings_hash)
    today = None if document is None else document.model
    if not trial.passed:
        msg = f"model {model.id} stays a challenger: {trial.reason}"
        raise InputError(msg)
    if today is not None and today != trial.champion:
        msg = f"model {model.id} was tried against {trial.champion.name}, but {today.name} is champion: try it again"
        raise InputError(msg)
    return _change(
        records,
        model.settings_hash,
        document,
        Tenure(action="promoted", model=model.ref, at=_now(), reason=trial.reason),
    )


def rollback(records: Records, settings_hash: str) -> Champion:
    """Give the place back to the champion before; before the first champion stand the weights of the package.

    Raises
    ------
    InputError
        If there is no champion, or another process changes it at this moment.
    """
    document = champion_document(records, settings_hash)
    if document is None or document.model is None:
        msg = f"settings {settings_hash[:12]} have no champion: there is nothing to roll back"
        raise InputError(msg)
    before: ModelRef | None = document.before[-1] if document.before else None
    reason = f"instead of {document.model.name}"
    tenure = Tenure(action="rolled back", model=before, at=_now(), reason=reason)
    return _change(records, settings_hash, document, tenure)


def settings_with_champion(records: Records, beginning: str | None) -> str:
    """Return the settings hash that begins so and has or had a champion.

    Raises
    ------
    InputError
        If there is none, or there are several.
    """
    every = [(champion.settings_hash, "") for champion in records.find(Champion)]
    if not every:
        msg = f"record store {records.name!r} has had no champion: run `definet retrain`"
        raise InputError(msg)
    found = beginning_with(beginning, every) if beginning is not None else sorted(every)
    if len(found) == 1:
        return found[0][0]
    known = listed(found or sorted(every))
    msg = f"{len(found)} settings with a champion begin with {beginning or ''!r}: choose by --settings ({known})"
    raise InputError(msg)


def _change(records: Records, settings_hash: str, document: Champion | None, tenure: Tenure) -> Champion:
    history = () if document is None else document.history
    changed = Champion(id=Champion.identity(settings_hash), settings_hash=settings_hash, history=(*history, tenure))
    if not swap(records, changed, None if document is None else document.revision):
        msg = f"the champion of settings {settings_hash[:12]} was changed at this moment: see `definet models list`"
        raise InputError(msg)
    return changed


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
