"""Pre-relaxers by name on the machine that needs them, with what each learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, DEFINET, FIELDS, KnownPreRelaxer, PreRelaxerName, content_hash
from definet_flows.starts.evidence import recorded
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.stores import Filter, open_store
from definet_flows.stores.prefix import listed, only
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.campaign.prediction import prediction_of, settled
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.recording.cases import settings_hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobflow import Maker

    from definet_flows.schemas import Configuration, Prediction
    from definet_flows.starts.proposals import Evidence, PreRelaxer
    from definet_flows.stores import Records
    from definet_flows.workflows.recording.cases import Pristine

POTENTIAL = "potential:"
_CHAIN = "+"
_KNOWN = f"{AUTO}, {DEFINET}, {FIELDS}, {POTENTIAL}sevennet, or a chain such as {FIELDS}{_CHAIN}{POTENTIAL}sevennet"


@dataclass(frozen=True)
class Workplace:
    """What a pre-relaxer finds where it works.

    Attributes
    ----------
    records
        The open record store.
    pristine
        Host and base.
    engine
        The engine of the campaign, whose records may be learned from; None: unknown.
    store
        Name of the record store, which may hold models too.
    configurations
        What is to be proposed for. Their own relaxations are no evidence: a start from a known end measures nothing.
    allow_unseen_host
        Let the network propose for hosts that it was not trained on.
    """

    records: Records
    pristine: Pristine
    engine: str | Maker | None
    store: str | None
    configurations: Sequence[Configuration] = ()
    allow_unseen_host: bool = False

    @cached_property
    def settings_hash(self) -> str:
        """Hash of the settings of the campaign's relaxations."""
        if self.engine is None:
            msg = f"the job names no engine: {FIELDS} and {AUTO} learn from the records of one; make the flow again"
            raise InputError(msg)
        return settings_hash_of(resolve_engine(self.engine), relaxed_host=self.pristine.source != "as given")

    def kept(self, configuration: Configuration, key: str) -> Prediction | None:
        """Return the stored proposal for a configuration by a pre-relaxer; None if one is to be made."""
        known = prediction_of(self.records, self.pristine, configuration, key)
        settings_hash = None if self.engine is None else self.settings_hash
        return known if settled(self.records, known, settings_hash) else None


def name_prerelaxers(names: Sequence[str], model: str, weights: str) -> tuple[PreRelaxerName, ...]:
    """Return pre-relaxers with their keys, from what a user has named.

    Parameters
    ----------
    names
        "auto", "definet", "fields", "potential:NAME", or chains of these with "+".
    model, weights
        The network that "definet" means: registry id or path, and sha256.

    Raises
    ------
    InputError
        If a name is unknown, is given twice, or stands beside "auto".
    """
    if not names or len(set(names)) < len(names) or (AUTO in names and len(names) > 1):
        msg = f"prerelaxer={', '.join(names) or '()'}: name each once, and {AUTO} alone"
        raise InputError(msg)
    return tuple(PreRelaxerName(name=name, key=_key(name, weights), model=model) for name in names)


def _key(name: str, weights: str) -> str:
    if _CHAIN in name:
        first, _, second = name.partition(_CHAIN)
        if not second.startswith(POTENTIAL) or first not in (DEFINET, FIELDS):
            msg = f"prerelaxer={name!r}: a chain is {DEFINET} or {FIELDS}, then a potential that goes on from there"
            raise InputError(msg)
        return content_hash("chain", _key(first, weights), _key(second, weights))
    if name == DEFINET:
        return weights
    if name == AUTO:
        return AUTO
    if name == FIELDS:
        from definet_flows.starts.fields import FieldsPreRelaxer  # noqa: PLC0415 - torch, by way of the gate

        return FieldsPreRelaxer(()).key
    if name.startswith(POTENTIAL):
        from definet_flows.starts.potential import potential_named  # noqa: PLC0415 - torch

        return potential_named(name).key
    msg = f"prerelaxer={name!r}: choose {_KNOWN}"
    raise InputError(msg)


def prerelaxer_of(named: PreRelaxerName, place: Workplace) -> PreRelaxer:
    """Return the pre-relaxer of a name.

    Raises
    ------
    InputError
        If it cannot be had here, or is not the one that was named when the flow was made.
    """
    made = _made(named.name, named, place)
    if made.key != named.key:
        subject = f"model {named.model!r} has sha256" if named.name == DEFINET else f"{named.name} is"
        msg = f"{subject} {made.key[:12]}… here, {named.key[:12]}… where the flow was made"
        raise InputError(msg)
    return made


def _made(name: str, named: PreRelaxerName, place: Workplace) -> PreRelaxer:
    def network() -> PreRelaxer:
        known = named.key if name == DEFINET else None
        return NetworkPreRelaxer(checkpoint_of(named.model or "", place.store, known), place.allow_unseen_host)

    def fields() -> list[Evidence]:
        host = place.pristine.host
        own = {configuration.id_in(host.hash) for configuration in place.configurations}
        return recorded(place.records, host.formula, place.settings_hash, without=own)

    return build(name, network, fields)


def build(name: str, network: Callable[[], PreRelaxer], fields: Callable[[], Sequence[Evidence]]) -> PreRelaxer:
    """Return the pre-relaxer of a name, of what only some names need.

    Parameters
    ----------
    name
        Any but "auto".
    network
        Returns the network's.
    fields
        Returns the relaxations that fields learn from.
    """
    if _CHAIN in name:
        from definet_flows.starts.chains import ChainPreRelaxer  # noqa: PLC0415 - torch
        from definet_flows.starts.potential import potential_named  # noqa: PLC0415

        first, _, second = name.partition(_CHAIN)
        return ChainPreRelaxer(build(first, network, fields), potential_named(second))
    if name == DEFINET:
        return network()
    if name == FIELDS:
        from definet_flows.starts.fields import FieldsPreRelaxer  # noqa: PLC0415 - torch, by way of the gate

        return FieldsPreRelaxer(fields())
    from definet_flows.starts.potential import potential_named  # noqa: PLC0415 - torch

    return potential_named(name)


def stored_fields(store: str | None, formula: str, settings: str | None) -> list[Evidence]:
    """Return the relaxations of a host in a record store that fields learn from, of a single engine's settings.

    Parameters
    ----------
    store
        Name of the record store; None: that of the settings.
    formula
        Reduced formula of the host.
    settings
        Beginning of the settings hash; None: the only one.

    Raises
    ------
    InputError
        If there are none, or several settings fit.
    """
    with open_store(store, read_only=True) as records:
        rows = records.record_rows(Filter(host=formula))
        known = sorted({(row.settings_hash, row.engine) for row in rows if row.status == "done"})
        where = f"record store {records.name!r}"
        if settings is None and len(known) > 1:
            msg = f"{where} has relaxations of {formula} with several settings: give --settings of {listed(known)}"
            raise InputError(msg)
        if not known:
            msg = f"{where} has no finished relaxation of {formula} to learn fields from: name another with --store"
            raise InputError(msg)
        chosen = known[0] if settings is None else only(settings, known, "settings", where)
        return recorded(records, formula, chosen[0])


def known_names(named: PreRelaxerName) -> list[KnownPreRelaxer]:
    """Return the documents that keep the name of a key; the network's keys are known without."""
    return [] if named.name in (AUTO, DEFINET) else [KnownPreRelaxer.of(named)]
