"""Pre-relaxers by name on the machine that needs them, with what each learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, DEFINET, FIELDS, KnownPreRelaxer, PreRelaxerName
from definet_flows.starts.by_name import build, key_of
from definet_flows.starts.evidence import recorded
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.campaign.prediction import prediction_of, settled
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.recording.cases import settings_hash_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobflow import Maker

    from definet_flows.schemas import Configuration, Prediction
    from definet_flows.starts.proposals import Evidence, PreRelaxer
    from definet_flows.stores import Records
    from definet_flows.workflows.recording.cases import Pristine


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

    @property
    def other_base(self) -> str:
        """The same for relaxations on the host's other base, as given or as relaxed: fields carry over."""
        return settings_hash_of(resolve_engine(self.engine or ""), relaxed_host=self.pristine.source == "as given")

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
    return tuple(PreRelaxerName(name=name, key=key_of(name, weights), model=model) for name in names)


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
        return recorded(place.records, host.formula, place.settings_hash, other_base=place.other_base, without=own)

    return build(name, network, fields)


def known_names(named: PreRelaxerName) -> list[KnownPreRelaxer]:
    """Return the documents that keep the name of a key; the network's keys are known without."""
    return [] if named.name in (AUTO, DEFINET) else [KnownPreRelaxer.of(named)]
