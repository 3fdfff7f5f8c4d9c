"""Which starts a configuration is relaxed from: of the pre-relaxers that were named, or of those that `auto` tries."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, DEFINET, FIELDS, Choice, Gate, KnownPreRelaxer, Prediction, PreRelaxerName
from definet_flows.schemas.starts import NO_PRERELAXER
from definet_flows.starts.auto import Measured, Ranked, ranked, trials
from definet_flows.starts.by_name import POTENTIAL
from definet_flows.stores import Filter, savings
from definet_flows.stores.analysis.gates import named, prerelaxer_names
from definet_flows.workflows.campaign.prediction import failed_prediction, prediction_of, write_proposals
from definet_flows.workflows.campaign.prerelaxers import name_prerelaxers, prerelaxer_of
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.potential import PotentialRelaxMaker, own_name
from definet_flows.workflows.recording.cases import PlannedConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from definet_flows.schemas import Configuration, Start
    from definet_flows.starts.proposals import PreRelaxer
    from definet_flows.stores import Records, Savings
    from definet_flows.workflows.campaign.prerelaxers import Workplace
    from definet_flows.workflows.engines.base import Engine
    from definet_flows.workflows.recording.cases import Pristine

_POTENTIALS = (f"{POTENTIAL}sevennet",)


# ------------------------------------------------------------------ auto chooses


def choose_starts(auto: PreRelaxerName, place: Workplace, configurations: Sequence[Configuration]) -> Counter[str]:
    """Choose a pre-relaxer for each configuration that has none yet, and write its proposal; return counts.

    The pre-relaxers are asked in the order of `definet_flows.starts.auto`, until one proposes what the gate lets pass.
    A choice that is stored is kept: the same campaign submitted twice relaxes nothing twice.
    """
    records, pristine = place.records, place.pristine
    chosen = {choice.configuration_id for choice in stored_choices(records, place.settings_hash)}
    left = [c for c in configurations if c.id_in(pristine.host.hash) not in chosen]
    counts = Counter[str]({"configurations": len(configurations), "predicted": len(left)})
    asked = _Candidates(auto, place)
    refusals: dict[str, list[str]] = defaultdict(list)
    tried = trials([c.id_in(pristine.host.hash) for c in left])
    orders = {
        identity: asked.order(c, trial=identity in tried) for c in left if (identity := c.id_in(pristine.host.hash))
    }
    for rank in range(len(asked.names)):
        groups: dict[str, list[Configuration]] = defaultdict(list)
        for configuration in left:
            groups[orders[configuration.id_in(pristine.host.hash)][rank].key].append(configuration)
        for key, group in groups.items():
            for prediction, configuration in zip(asked.propose(key, group), group, strict=True):
                reason = orders[prediction.configuration_id][rank].reason
                if prediction.gate.verdict == "rejected":
                    refusals[prediction.configuration_id].append(f"{prediction.prerelaxer}: {prediction.gate.reason}")
                    continue
                refused = refusals.pop(prediction.configuration_id, [])
                records.put(_choice(prediction, place.settings_hash, "; ".join([reason, *refused])))
                left.remove(configuration)
                counts[prediction.gate.verdict] += 1
    for configuration in left:
        identity = configuration.id_in(pristine.host.hash)
        records.put(*_none(place, configuration, "; ".join(refusals[identity])))
        counts["rejected"] += 1
    return counts


class _Candidates:
    """The pre-relaxers that `auto` may ask, and what each has saved here."""

    def __init__(self, auto: PreRelaxerName, place: Workplace) -> None:
        self._place = place
        self._made: dict[str, PreRelaxer | str] = {}
        self._measured = _measured(place)
        self.names = {named.key: named for named in _candidates(auto, place, self._measured)}

    def order(self, configuration: Configuration, *, trial: bool) -> list[Ranked]:
        """Return the keys in the order in which they are asked."""
        return ranked(list(self.names), self._measured, len(configuration.edits), trial=trial)

    def propose(self, key: str, configurations: Sequence[Configuration]) -> list[Prediction]:
        """Return the proposals of a pre-relaxer, and write them; one that cannot be had here proposes nothing."""
        place, named = self._place, self.names[key]
        if key not in self._made:
            try:
                self._made[key] = prerelaxer_of(named, place)
            except InputError as error:
                self._made[key] = str(error)
        made = self._made[key]
        if isinstance(made, str):
            gate = Gate(verdict="rejected", reason=made)
            missing = [failed_prediction(place.pristine, c, key, named.name) for c in configurations]
            return [prediction.model_copy(update={"gate": gate, "error": made}) for prediction in missing]
        kept = [place.kept(configuration, key) for configuration in configurations]
        if named.name != DEFINET:
            place.records.put(KnownPreRelaxer.of(named))
        return write_proposals(place.records, made, place.pristine, configurations, kept)


def _candidates(
    auto: PreRelaxerName, place: Workplace, measured: Mapping[str, Sequence[Measured]]
) -> Iterator[PreRelaxerName]:
    """Yield the network, fields and a potential, unless the engine is a potential; then what else is measured here."""
    from definet_flows.workflows.campaign.models import checkpoint_of  # noqa: PLC0415 - torch

    model, weights = auto.model or "", checkpoint_of(auto.model or "", place.store).sha256
    names = [DEFINET, FIELDS]
    maker = resolve_engine(place.engine or "").maker
    own = own_name(maker) if isinstance(maker, PotentialRelaxMaker) else None
    if not isinstance(maker, PotentialRelaxMaker):
        names += _POTENTIALS
    yield from name_prerelaxers(names, model, weights)
    for known in sorted(place.records.find(KnownPreRelaxer), key=attrgetter("name")):
        itself = own is not None and f"{POTENTIAL}{own}" in known.name.split("+")
        if known.key not in measured or known.name in names or itself:
            continue
        with suppress(InputError):  # measured where packages are installed that are missing here
            yield from (named for named in name_prerelaxers([known.name], model, weights) if named.key == known.key)


def _measured(place: Workplace) -> dict[str, list[Measured]]:
    """Return what the pairs on this host with these settings show, by the key of the pre-relaxer."""
    where = Filter(host=place.pristine.host.formula, settings_hash=place.settings_hash)
    found: dict[str, list[Measured]] = defaultdict(list)
    for pair in place.records.pair_rows(where):
        same = pair.verdict in ("same minimum", "better minimum") and pair.steps_unrelaxed > 0
        saving = 1 - pair.steps_predicted / pair.steps_unrelaxed if same else 0.0
        found[pair.weights].append(Measured(saving, pair.n_defects))
    return found


def _choice(prediction: Prediction, settings_hash: str, reason: str) -> Choice:
    return Choice(
        id=Choice.identity(prediction.configuration_id, settings_hash),
        configuration_id=prediction.configuration_id,
        settings_hash=settings_hash,
        name=prediction.prerelaxer,
        key=prediction.weights,
        reason=f"{AUTO}: {prediction.prerelaxer}, {reason}",
    )


def _none(place: Workplace, configuration: Configuration, refusals: str) -> tuple[Choice, Prediction]:
    """Return the choice of the unrelaxed start, and the verdict under the key of `auto` that the record then holds."""
    identity = configuration.id_in(place.pristine.host.hash)
    choice = Choice(
        id=Choice.identity(identity, place.settings_hash),
        configuration_id=identity,
        settings_hash=place.settings_hash,
        name=None,
        key=None,
        reason=f"{NO_PRERELAXER}{refusals}",
    )
    gate = Gate(verdict="rejected", reason=choice.reason)
    missing = failed_prediction(place.pristine, configuration, AUTO, AUTO)
    return choice, missing.model_copy(update={"gate": gate, "error": choice.reason})


def stored_choices(records: Records, settings_hash: str) -> Iterator[Choice]:
    """Yield the choices that were made for relaxations with an engine's settings."""
    yield from records.find(Choice, {"settings_hash": settings_hash})


def savings_by_start(records: Records, where: Filter, keys: Sequence[str]) -> dict[str, Savings]:
    """Return the savings of each pre-relaxer of a campaign by its name; of `auto`, of those chosen, where they were.

    Parameters
    ----------
    records
        An open store.
    where
        Configurations and settings of the campaign.
    keys
        Of its pre-relaxers.
    """
    asked = dict.fromkeys(keys, where.configuration_ids or ())
    if AUTO in keys:
        own, chosen = frozenset(where.configuration_ids or ()), defaultdict[str, list[str]](list)
        for choice in stored_choices(records, where.settings_hash or ""):
            if choice.key is not None and choice.configuration_id in own:
                chosen[choice.key].append(choice.configuration_id)
        asked = {key: tuple(ids) for key, ids in chosen.items()}
    names = prerelaxer_names(records)
    return {
        named(key, names): savings(records, where.model_copy(update={"weights": key, "configuration_ids": ids}))
        for key, ids in asked.items()
    }


# ------------------------------------------------------------------ relaxations follow


def planned(
    records: Records, pristine: Pristine, configuration: Configuration, engine: Engine, key: str
) -> PlannedConfiguration:
    """Return a configuration with the proposal of a pre-relaxer, of the chosen one for `auto`.

    A proposal that is missing is written as a verdict under its key: the record of the unrelaxed start may be shared.
    """
    plan = PlannedConfiguration(pristine, configuration, engine, key, None)
    choice = None
    if key == AUTO:
        identity = Choice.identity(plan.configuration_id, plan.settings_hash)
        choice = next(records.find(Choice, {"id": identity}), None)
    named = (choice.key if choice else None) or key
    prediction = prediction_of(records, pristine, configuration, named)
    if prediction is None:
        name = AUTO if named == AUTO else prerelaxer_names(records).get(named, DEFINET)
        prediction = failed_prediction(pristine, configuration, named, name)
        records.put(prediction)
    if choice is not None:
        note = "; ".join(filter(None, (choice.reason, prediction.note)))
        prediction = prediction.model_copy(update={"note": note})
    return PlannedConfiguration(pristine, configuration, engine, named, prediction)


def wanted_starts(
    plans: Sequence[PlannedConfiguration], *, control: bool
) -> Iterator[tuple[PlannedConfiguration, Start]]:
    """Yield the relaxations of a configuration: from every fit proposal, and from the unrelaxed start once.

    The unrelaxed start is for control, and for a configuration without any fit proposal.
    """
    fit = [plan for plan in plans if "predicted" in plan.starts(control=False)]
    if control or not fit:
        yield plans[0], "unrelaxed"
    for plan in fit:
        yield plan, "predicted"
