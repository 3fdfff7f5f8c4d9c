"""A host that the network has not learned: what brings it there, with the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, DEFINET
from definet_flows.stores import Filter, open_store
from definet_flows.workflows.campaign.models import champion_of, checkpoint_of

if TYPE_CHECKING:
    from definet_flows.workflows.campaign.contents import Campaign

LABELS = 28
"""Relaxed configurations of a host after which a network retrained on them saves a third of the steps of others."""

MEASURED = (
    f"(MgO 2 x 2 x 2, SevenNet: {LABELS} save 32 % of the ionic steps of other configurations, 60 save 55 %), "
    "a quarter of an hour of processor"
)


def what_brings_it(campaign: Campaign, settings_hash: str, store: str | None) -> str | None:
    """Return a line on a campaign whose network has not learned the host; None if it has, or is not asked.

    Parameters
    ----------
    campaign
        The campaign.
    settings_hash
        Of its relaxations.
    store
        Name of the record store.
    """
    from definet_flows.model.inference.domain import knows_host  # noqa: PLC0415 - torch

    asked = {part for named in campaign.prerelaxers for part in named.name.split("+")}
    if not asked & {AUTO, DEFINET} or knows_host(checkpoint_of(campaign.model, store).card.hosts, campaign.host):
        return None
    formula = campaign.host.formula
    if _champion_knows(campaign, settings_hash, store):
        return f"the network {campaign.model} has not learned {formula}, the store's champion has: --model champion"
    with open_store(store, read_only=True) as records:
        rows = records.record_rows(Filter(host=formula, settings_hash=settings_hash))
    count = len({row.configuration_id for row in rows if row.status == "done" and row.converged})
    at = f" --store {store}" if store else ""
    return (
        f"the network {campaign.model} has not learned {formula}. What brings it there: {LABELS} relaxed "
        f"configurations or more, {count} are recorded {MEASURED}, and definet retrain --settings {settings_hash[:8]} "
        f"--min-new {LABELS}{at}; then --model champion"
    )


def _champion_knows(campaign: Campaign, settings_hash: str, store: str | None) -> bool:
    from definet_flows.model.inference.domain import knows_host  # noqa: PLC0415 - torch

    try:
        champion = champion_of(store, settings_hash)
        return knows_host(checkpoint_of(champion.id, store).card.hosts, campaign.host)
    except InputError:  # none, or its weights are not here
        return False
