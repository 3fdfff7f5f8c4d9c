"""What pre-relaxers may be expected to save in a campaign: read off the pairs of its host with its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from definet_flows.schemas import DEFINET
from definet_flows.stores.analysis.gates import prerelaxer_names
from definet_flows.stores.analysis.savings import gather
from definet_flows.stores.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Collection

    from definet_flows.stores.analysis.figures import Savings
    from definet_flows.stores.records import Records


@dataclass(frozen=True)
class Expected:
    """What a pre-relaxer saved in other configurations.

    Attributes
    ----------
    prerelaxer
        Its name.
    measured
        The savings it was measured with.
    """

    prerelaxer: str
    measured: Savings

    def text(self, configurations: int) -> str:
        """Return in a line what it may save in this many configurations, and how well that is known."""
        ionic = self.measured.ionic
        pairs = f"{self.measured.same_minimum} of {self.measured.pairs} pairs in the same minimum"
        if ionic.saving is None or ionic.campaign is None or ionic.unrelaxed is None:
            return f"{self.prerelaxer}: nothing can be said, {pairs}"
        without = ionic.unrelaxed / ionic.pairs * configurations
        low_high = "too few for an interval"
        if ionic.interval is not None:
            low_high = f"95 %: {ionic.interval[0]:.0%} to {ionic.interval[1]:.0%}"
        refused = f"; {self.measured.gated} gated out, which count as 0" if self.measured.gated else ""
        return (
            f"{self.prerelaxer}: some {ionic.campaign * without:.0f} of {without:.0f} ionic steps; "
            f"{ionic.saving:.0%} in {pairs} ({low_high}){refused}"
        )


def expected(
    records: Records, host: str, settings_hash: str, keys: Collection[str] | None, network: str, n_defects: int | None
) -> list[Expected]:
    """Return what pre-relaxers saved on a host with an engine's settings, by name; those without a pair are left out.

    Parameters
    ----------
    records
        An open store.
    host
        Reduced formula; pairs in any supercell count.
    settings_hash
        Of the relaxations.
    keys
        Of the pre-relaxers; None: of every one that has a name, and the network's.
    network
        Key of the network: the sha256 of its weights.
    n_defects
        Number of defects; where no pair has it, or None: any number.
    """
    names = {**prerelaxer_names(records), network: DEFINET}
    wanted = names.keys() if keys is None else keys
    for number in dict.fromkeys((n_defects, None)):
        evidence = gather(records, Filter(host=host, settings_hash=settings_hash, n_defects=number))
        found = {str(key): measured for key, measured in evidence.by("weights").items() if measured.pairs}
        known = [Expected(names[key], found[key]) for key in wanted if key in found and key in names]
        if known:
            return sorted(known, key=lambda one: one.prerelaxer)
    return []
