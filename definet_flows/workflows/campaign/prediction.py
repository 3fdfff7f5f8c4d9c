"""Predictions of a batch as documents: stored predictions are judged again, missing predictions are made first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.schemas import Prediction
from definet_flows.workflows.recording.cases import NOT_PREDICTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.model.inference.predict import RawPrediction
    from definet_flows.schemas import Configuration
    from definet_flows.stores import Records
    from definet_flows.workflows.recording.cases import Pristine


def prediction_of(
    records: Records, pristine: Pristine, configuration: Configuration, weights: str
) -> Prediction | None:
    """Return the stored prediction of a configuration on its base; None if there is none."""
    configuration_id = configuration.id_in(pristine.host.hash)
    return records.prediction(Prediction.identity(configuration_id, weights, pristine.base_hash))


def failed_prediction(pristine: Pristine, configuration: Configuration, weights: str) -> Prediction:
    """Return the stored prediction of a configuration whose prediction job failed: a verdict under its weights.

    It has no displacements, so the next prediction job predicts the configuration again.
    """
    configuration_id = configuration.id_in(pristine.host.hash)
    return Prediction(
        id=Prediction.identity(configuration_id, weights, pristine.base_hash),
        configuration_id=configuration_id,
        weights=weights,
        base=pristine.base_hash,
        displacements=None,
        gate=NOT_PREDICTED,
        seconds=0.0,
        device="none",
        error="the prediction job failed",
    )


def complete(
    checkpoint: Checkpoint,
    pristine: Pristine,
    configurations: Sequence[Configuration],
    stored: Sequence[Prediction | None],
    *,
    allow_unseen_host: bool,
) -> list[Prediction]:
    """Return the prediction of each configuration, with a verdict of today's gate.

    Parameters
    ----------
    stored
        The stored prediction of each configuration; without displacements the configuration is predicted again.
    """
    from definet_flows.model.inference.predict import predict  # noqa: PLC0415
    from definet_flows.starts.gate import judge  # noqa: PLC0415 - torch, needed on this worker only

    host = pristine.host
    raw = [_raw(known) for known in stored]
    missing = [configuration for configuration, known in zip(configurations, raw, strict=True) if known is None]
    new = iter(predict(checkpoint, host, missing) if missing else ())
    predictions = []
    for configuration, known in zip(configurations, raw, strict=True):
        judged = known or next(new)
        gate = judge(checkpoint, host, configuration, pristine.base, judged, allow_unseen_host=allow_unseen_host)
        configuration_id = configuration.id_in(host.hash)
        document = Prediction(
            id=Prediction.identity(configuration_id, checkpoint.sha256, pristine.base_hash),
            configuration_id=configuration_id,
            weights=checkpoint.sha256,
            base=pristine.base_hash,
            displacements=judged.displacements,
            gate=gate,
            seconds=judged.seconds,
            device=judged.device,
            uncertainty=judged.uncertainty,
            error=judged.error,
        )
        predictions.append(document)
    return predictions


def _raw(known: Prediction | None) -> RawPrediction | None:
    """Return the stored answer of the network; None if the network has to predict."""
    from definet_flows.model.inference.predict import RawPrediction  # noqa: PLC0415

    if known is None or known.displacements is None:
        return None
    return RawPrediction(
        displacements=known.displacements,
        seconds=known.seconds,
        device=known.device,
        uncertainty=known.uncertainty,
        error=None,
    )
