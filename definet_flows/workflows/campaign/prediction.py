"""Proposals of a batch as documents: stored proposals are judged again, missing proposals are made first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.schemas import DEFINET, FIELDS, NOT_PREDICTED, DefectRecord, Prediction
from definet_flows.starts.proposals import Proposal

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
        seconds=None,
        device="none",
        error="the prediction job failed",
        prerelaxer=name,
    )


def settled(records: Records, known: Prediction | None, settings_hash: str | None) -> bool:
    """Say whether a stored proposal is kept; else it is made anew.

    One without displacements is made anew, and one of fields that the gate rejects: the records that came since may
    carry it. Once its configuration is relaxed, the proposal of fields stays as it is: nothing is relaxed twice.

    Parameters
    ----------
    records
        An open store.
    known
        The stored proposal.
    settings_hash
        Hash of the settings of the campaign's relaxations; None: unknown.
    """
    if known is None:
        return False
    fit = known.displacements is not None and known.gate.verdict != "rejected"
    if FIELDS not in known.prerelaxer or settings_hash is None:
        return known.displacements is not None
    relaxed = DefectRecord.identity(known.configuration_id, settings_hash, "unrelaxed", None)
    return fit or records.has_done(relaxed)


def write_proposals(
    records: Records,
    prerelaxer: PreRelaxer,
    pristine: Pristine,
    configurations: Sequence[Configuration],
    kept: Sequence[Prediction | None],
) -> list[Prediction]:
    """Write the proposal for each configuration, and return them; see `complete`.

    Those of a slow pre-relaxer are written one by one: a job that is killed leaves all but the last behind.
    """
    size = 1 if prerelaxer.slow else max(1, len(configurations))
    written = list[Prediction]()
    for first in range(0, len(configurations), size):
        part = slice(first, first + size)
        predictions = complete(prerelaxer, pristine, configurations[part], kept[part])
        records.put(*predictions)
        written += predictions
    return written


def complete(
    prerelaxer: PreRelaxer,
    pristine: Pristine,
    configurations: Sequence[Configuration],
    kept: Sequence[Prediction | None],
) -> list[Prediction]:
    """Return the proposal for each configuration, with a verdict of today's gate.

    Parameters
    ----------
    kept
        The stored proposal for each configuration; None: a proposal is made.
    """
    host, base = pristine.host, pristine.base
    missing = [configuration for configuration, known in zip(configurations, kept, strict=True) if known is None]
    new = iter(prerelaxer.propose(host, base, missing) if missing else ())
    predictions = []
    for configuration, known in zip(configurations, kept, strict=True):
        judged = _proposal(known) if known is not None else next(new)
        configuration_id = configuration.id_in(host.hash)
        document = Prediction(
            id=Prediction.identity(configuration_id, prerelaxer.key, pristine.base_hash),
            configuration_id=configuration_id,
            weights=prerelaxer.key,
            base=pristine.base_hash,
            displacements=judged.displacements,
            gate=prerelaxer.judge(host, configuration, base, judged),
            seconds=judged.seconds,
            core_seconds=judged.core_seconds,
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
        core_seconds=known.core_seconds,
        device=known.device,
        uncertainty=known.uncertainty,
        error=known.error,
        note=known.note,
        learned_from=known.learned_from or "",
    )
