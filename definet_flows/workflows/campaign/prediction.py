"""Proposals of a batch as documents: stored proposals are judged again, missing proposals are made first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.schemas import DEFINET, Prediction
from definet_flows.starts.proposals import Proposal
from definet_flows.workflows.recording.cases import NOT_PREDICTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.schemas import Configuration
    from definet_flows.starts.proposals import PreRelaxer
    from definet_flows.stores import Records
    from definet_flows.workflows.recording.cases import Pristine


def prediction_of(records: Records, pristine: Pristine, configuration: Configuration, key: str) -> Prediction | None:
    """Return the stored proposal for a configuration on its base, by the pre-relaxer's key; None if there is none."""
    configuration_id = configuration.id_in(pristine.host.hash)
    return records.prediction(Prediction.identity(configuration_id, key, pristine.base_hash))


def failed_prediction(pristine: Pristine, configuration: Configuration, key: str, name: str = DEFINET) -> Prediction:
    """Return the stored proposal for a configuration whose prediction job failed: a verdict under its key.

    It has no displacements, so the next prediction job predicts the configuration again.
    """
    configuration_id = configuration.id_in(pristine.host.hash)
    return Prediction(
        id=Prediction.identity(configuration_id, key, pristine.base_hash),
        configuration_id=configuration_id,
        weights=key,
        base=pristine.base_hash,
        displacements=None,
        gate=NOT_PREDICTED,
        seconds=0.0,
        device="none",
        error="the prediction job failed",
        prerelaxer=name,
    )


def settled(known: Prediction | None) -> bool:
    """Say whether a stored proposal is kept: one without displacements is made anew.

    A rejected field is made anew too: the records that came since may carry it.
    """
    if known is None or known.displacements is None:
        return False
    return known.learned_from is None or known.gate.verdict != "rejected"


def complete(
    prerelaxer: PreRelaxer,
    pristine: Pristine,
    configurations: Sequence[Configuration],
    stored: Sequence[Prediction | None],
) -> list[Prediction]:
    """Return the proposal for each configuration, with a verdict of today's gate.

    Parameters
    ----------
    stored
        The stored proposal for each configuration; what is not `settled` is proposed for again.
    """
    host, base = pristine.host, pristine.base
    kept = [_proposal(known) if known is not None and settled(known) else None for known in stored]
    missing = [configuration for configuration, known in zip(configurations, kept, strict=True) if known is None]
    new = iter(prerelaxer.propose(host, base, missing) if missing else ())
    predictions = []
    for configuration, known in zip(configurations, kept, strict=True):
        judged = known or next(new)
        configuration_id = configuration.id_in(host.hash)
        document = Prediction(
            id=Prediction.identity(configuration_id, prerelaxer.key, pristine.base_hash),
            configuration_id=configuration_id,
            weights=prerelaxer.key,
            base=pristine.base_hash,
            displacements=judged.displacements,
            gate=prerelaxer.judge(host, configuration, base, judged),
            seconds=judged.seconds,
            device=judged.device,
            uncertainty=judged.uncertainty,
            error=judged.error,
            prerelaxer=prerelaxer.name,
            learned_from=judged.learned_from or None,
            note=judged.note,
        )
        predictions.append(document)
    return predictions


def _proposal(known: Prediction) -> Proposal:
    """Return a stored proposal."""
    return Proposal(
        displacements=known.displacements,
        seconds=known.seconds,
        device=known.device,
        uncertainty=known.uncertainty,
        note=known.note,
        learned_from=known.learned_from or "",
    )
