"""What a campaign consists of: host, configurations, controls, and who proposes their starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from definet_flows.schemas import AUTO, FIELDS, PreRelaxerName, content_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.schemas import Configuration, Host

_LAST_STAGE = 3  # defects; larger configurations go with it


@dataclass(frozen=True)
class Campaign:
    """The host, configurations and model of a flow.

    Attributes
    ----------
    host
        The bulk supercell.
    configurations
        Every symmetry-inequivalent configuration once, or the configurations drawn at random; always in the same order.
    controls
        Ids of the configurations that are relaxed from the unrelaxed structure too.
    weights
        sha256 of the network's weights.
    model
        Registry id or path of the model with these weights: `champion` is resolved when the campaign is made.
    prerelaxers
        What proposes starts.
    """

    host: Host
    configurations: tuple[Configuration, ...]
    controls: frozenset[str]
    weights: str
    model: str
    prerelaxers: tuple[PreRelaxerName, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The configuration_ids."""
        return configuration_ids(self.host, self.configurations)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the pre-relaxers, under which proposals and records are stored."""
        return tuple(named.key for named in self.prerelaxers)

    @property
    def sole_key(self) -> str | None:
        """The key of every proposal of this campaign; None where there are several."""
        return None if len(self.keys) > 1 or AUTO in self.keys else self.keys[0]

    @property
    def identity(self) -> str:
        """What the starts of this campaign are called where a single word is needed."""
        return self.keys[0] if len(self.keys) == 1 else content_hash("prerelaxers", *self.keys)

    def stages(self) -> list[Campaign]:
        """Return the campaign in stages, each of which learns from the records of those before it.

        Single defects come first, then pairs, then the rest. A campaign whose starts learn from no records is a single
        stage.
        """
        if not any(name in (AUTO, FIELDS) for named in self.prerelaxers for name in named.name.split("+")):
            return [self]
        stages: dict[int, list[Configuration]] = {}
        for configuration in self.configurations:
            stages.setdefault(min(len(configuration.edits), _LAST_STAGE), []).append(configuration)
        return [replace(self, configurations=tuple(stages[size])) for size in sorted(stages)]

    def parts(self, size: int) -> list[Campaign]:
        """Return the campaign in parts of at most `size` configurations."""
        starts = range(0, len(self.configurations), size)
        return [replace(self, configurations=self.configurations[first : first + size]) for first in starts]


def choose_controls(ids: Sequence[str], fraction: float) -> frozenset[str]:
    """Return the ids whose hash lies in the lowest `fraction` of all hashes; at least 1 id if the fraction is not 0.

    The choice of an id does not depend on the other ids, so a campaign that grows keeps its controls. The single id
    that is chosen because no hash lies low enough is the exception.
    """
    chosen = {identity for identity in ids if int(identity, 16) < fraction * 16 ** len(identity)}
    if fraction > 0 and not chosen:
        chosen = {min(ids)}
    return frozenset(chosen)


def configuration_ids(host: Host, configurations: Sequence[Configuration]) -> tuple[str, ...]:
    """Return the ids of configurations of a host."""
    host_hash = host.hash
    return tuple(configuration.id_in(host_hash) for configuration in configurations)
