"""Progress of launched campaigns, read from the record store alone, for every queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.schemas import AUTO, NOT_PREDICTED, Choice, Frozen
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.workflows.queue.progress import Progress, progress_of, started_ids

if TYPE_CHECKING:
    from definet_flows.stores import Records
    from definet_flows.stores.analysis.rows import PredictionRow


class Status(Frozen):
    """Counts of a campaign's configurations; each is waiting, relaxing, recorded or failed."""

    campaign: str = Field(description="id")
    name: str
    queue: str
    launched: str = Field(description="UTC, ISO 8601")
    enumerated: int
    predicted: int = Field(description="every pre-relaxer has been asked, fit or not")
    waiting: int = Field(description="no relaxation has started that has not ended, and one is missing")
    relaxing: int = Field(description="a relaxation is running, or was when it was lost")
    recorded: int = Field(description="every relaxation that the campaign wants is done")
    failed: int = Field(description="a relaxation failed, none is running: `definet retry`")

    @property
    def ended(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.recorded + self.failed == self.enumerated


def statuses(records: Records) -> list[Status]:
    """Return the status of every campaign that was launched into a store, the latest last."""
    found = sorted(records.find(LaunchedCampaign), key=lambda launched: launched.launched)
    return [_status(records, launched) for launched in found]


def _status(records: Records, campaign: LaunchedCampaign) -> Status:
    ids, progress = campaign.configuration_ids, progress_in(records, campaign)
    started = started_in(records, campaign, progress)
    return Status(
        campaign=campaign.id,
        name=campaign.name,
        queue=campaign.queue,
        launched=campaign.launched,
        enumerated=len(ids),
        predicted=len(predicted_ids(records, campaign) & set(ids)),
        waiting=len(ids) - len(progress.recorded) - len(progress.failed) - len(started),
        relaxing=len(started),
        recorded=len(progress.recorded),
        failed=len(progress.failed),
    )


def keys_of(campaign: LaunchedCampaign) -> tuple[str, ...]:
    """Return the keys of a campaign's pre-relaxers."""
    return campaign.keys or (campaign.weights,)


def progress_in(records: Records, campaign: LaunchedCampaign) -> Progress:
    """Sort the configurations of a launched campaign."""
    controls = frozenset(campaign.controls)
    return progress_of(records, campaign.configuration_ids, controls, campaign.settings_hash, keys_of(campaign))


def started_in(records: Records, campaign: LaunchedCampaign, progress: Progress) -> frozenset[str]:
    """Return the configurations of a launched campaign that are being relaxed, those that a queue holds left out."""
    return started_ids(records, progress.relaxing, campaign.settings_hash)


def predicted_ids(records: Records, campaign: LaunchedCampaign) -> set[str]:
    """Return the ids of configurations that every pre-relaxer was asked about, or that `auto` has chosen one for."""
    keys = keys_of(campaign)
    if AUTO in keys:
        return {choice.configuration_id for choice in records.find(Choice, {"settings_hash": campaign.settings_hash})}
    asked = (records.prediction_rows(key, campaign.configuration_ids) for key in keys)
    return set[str].intersection(*({row.configuration_id for row in rows if _is_asked(row)} for rows in asked))


def _is_asked(row: PredictionRow) -> bool:
    """Say whether a pre-relaxer was asked: a verdict without a prediction is what a failed job leaves."""
    return row.gate_reason != NOT_PREDICTED.reason
