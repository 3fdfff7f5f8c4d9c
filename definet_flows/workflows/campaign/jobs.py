"""Thin jobs: each reads ids and small inputs, does a single thing, and writes to the record store it opens by name.

The settings of the machine that runs the job say which store a name means.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import Flow, Job, Response, job

from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, DEFINET, PreRelaxerName, RelaxedHost, Supercell
from definet_flows.stores import Filter, open_store, savings, update_pairs
from definet_flows.stores.locking import may_begin
from definet_flows.workflows.campaign.beginning import (
    begin,
    completed,
    done,
    ended,
    host_relaxation,
    joined,
    next_relaxation,
    summary,
    survive_parents,
)
from definet_flows.workflows.campaign.choosing import choose_starts, planned, savings_by_start, wanted_starts
from definet_flows.workflows.campaign.prediction import write_proposals
from definet_flows.workflows.campaign.prerelaxers import Workplace, known_names, prerelaxer_of
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.recording.begun import HOST_METADATA, RECORD_METADATA, carry, owned, owner
from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine, settings_hash_of
from definet_flows.workflows.recording.resume import next_structure, resumed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobflow import Maker
    from pydantic import BaseModel

    from definet_flows.schemas import Configuration, DefectRecord, Host, Start
    from definet_flows.starts.proposals import PreRelaxer
    from definet_flows.stores import Records
    from definet_flows.workflows.recording.begun import BegunHost

logger = logging.getLogger(f"jobflow.{__name__}")  # jobflow's handler shows it, and `log=False` silences it

NO_BASE = "no base to place defects on: the relaxation of the host failed"


# ------------------------------------------------------------------ the host


@job
def prepare_host(host: Host, engine: str | Maker, store: str | None, *, relax: bool) -> Pristine | Response[Pristine]:
    """Return host and base; relax the host first if asked to, unless the store has it relaxed by this engine."""
    resolved = resolve_engine(engine)
    with open_store(store) as records:
        known = records.host(RelaxedHost.identity(host.hash, resolved.settings_hash))
        if next(records.find(Supercell, {"id": Supercell.identity(host.hash)}), None) is None:
            records.put(Supercell.of(host))  # the network is shown the host as given, not the relaxed base
    if not relax:
        return Pristine(host=host, base=host.cartesian, source="as given")
    if known is not None:
        return Pristine(host=host, base=known.relaxed, source="reused")
    relaxation, begun = host_relaxation(host, resolved, store)
    relaxation.append_name(f" {host.formula} host")
    relaxation.update_metadata({HOST_METADATA: begun.model_dump(mode="json")}, dynamic=False)
    recording = record_host(relaxation.output, begun=begun, store=store)
    return Response(replace=Flow([relaxation, recording], output=recording.output, name=f"relax {host.formula} host"))


@job
def record_host(document: Mapping[str, Any] | BaseModel, *, begun: BegunHost, store: str | None) -> Pristine:
    """Write the relaxed host; the base is the host that the store then holds."""
    with open_store(store) as records:
        run = begun.own(records)
        relaxed = begun.finished(document, run)
        if not relaxed.ledger.converged:
            logger.warning(
                "host %s: its relaxation did not converge; its last positions are the base", begun.host.formula
            )
        if records.host(relaxed.id) is None:  # another campaign may have been faster: all share its base
            records.put(relaxed)
        kept = records.host(relaxed.id) or relaxed
        if run is not None:
            records.put(run.model_copy(update={"status": "done"}))
    return Pristine(host=begun.host, base=kept.relaxed, source="relaxed")


# ------------------------------------------------------------------ prediction


@job
def predict_batch(  # noqa: PLR0913 - queues hold jobs that name `model` and `weights`
    pristine: Pristine | None,
    configurations: Sequence[Configuration],
    *,
    model: str,
    weights: str,
    store: str | None,
    allow_unseen_host: bool,
    ahead: Sequence[Configuration] = (),
    prerelaxers: Sequence[PreRelaxerName] = (),
    engine: str | Maker | None = None,
    after: object = None,
) -> dict[str, int]:
    """Propose a start for all configurations, judge and write the proposals; stored proposals are only judged.

    Parameters
    ----------
    model, weights
        The network, by registry id or path and by sha256; it alone proposes where `prerelaxers` is empty.
    ahead
        Configurations of other workflows, predicted too if anything has to be: the first of several workflows that
        gets a GPU then serves them all.
    prerelaxers
        What proposes; `auto` chooses for each configuration.
    engine
        The engine whose records the pre-relaxers may learn from.
    after
        What this job waits for: the ends of an earlier stage.

    Returns
    -------
    dict
        Number of configurations, of those predicted now, and of each verdict.
    """
    del after
    if pristine is None:
        raise InputError(NO_BASE)
    names = tuple(prerelaxers) or (PreRelaxerName(name=DEFINET, key=weights, model=model),)
    counts = Counter[str]()
    with open_store(store) as records:
        place = Workplace(
            records, pristine, engine, store, [*configurations, *ahead], allow_unseen_host=allow_unseen_host
        )
        for named in names:
            records.put(*known_names(named))
            if named.name == AUTO:
                counts.update(choose_starts(named, place, configurations))
            else:
                counts.update(_propose(prerelaxer_of(named, place), place, configurations, ahead))
    return dict(counts)


def _propose(
    prerelaxer: PreRelaxer, place: Workplace, configurations: Sequence[Configuration], ahead: Sequence[Configuration]
) -> Counter[str]:
    """Write the proposals of a pre-relaxer; return counts."""
    kept = [place.kept(configuration, prerelaxer.key) for configuration in configurations]
    if None in kept:
        configurations = [*configurations, *ahead]
        kept += [place.kept(configuration, prerelaxer.key) for configuration in ahead]
    predictions = write_proposals(place.records, prerelaxer, place.pristine, configurations, kept)
    verdicts = Counter[str](prediction.gate.verdict for prediction in predictions)
    return Counter({"configurations": len(predictions), "predicted": kept.count(None)}) + verdicts


# ------------------------------------------------------------------ relaxation


@job
def relax_configuration(
    pristine: Pristine | None,
    configuration: Configuration,
    *,
    engine: str | Maker,
    weights: str | Sequence[str],
    store: str | None,
    control: bool,
    predicted: object,
) -> list[dict[str, Any]] | Response[list[dict[str, Any]]]:
    """Relax a configuration from each start whose relaxation the store does not have yet.

    Parameters
    ----------
    pristine
        Host and base; None if the host's relaxation failed.
    weights
        Keys of the pre-relaxers; a single unrelaxed relaxation serves all.
    control
        Relax from the unrelaxed structure too where a proposal is fit.
    predicted
        Output of the prediction job: this job waits for it, and runs without it if it failed.

    Returns
    -------
    list
        For each start "record" (its id), "start", "status" at this moment and whether it was "reused".
    """
    del predicted
    if pristine is None:
        raise InputError(NO_BASE)
    keys = (weights,) if isinstance(weights, str) else tuple(weights)
    with open_store(store) as records:
        plans = [planned(records, pristine, configuration, resolve_engine(engine), key) for key in keys]
        known, mine = [], []
        for plan, start in wanted_starts(plans, control=control):
            earlier = ended(records, records.record(plan.record_id(start)))
            begun = None if done(earlier) else _begun(records, plan, start, earlier, store)
            if begun is not None:
                mine.append(begun)
            else:
                now = records.record(plan.record_id(start))
                known.append(summary(plan.record_id(start), start, now.status if now else "running", reused=True))
        if any(start["status"] == "done" for start in known):  # a run killed between record and pair left no pair
            update_pairs(records, plans[0].configuration_id, plans[0].settings_hash)
    return joined(known, mine)


def _begun(
    records: Records, planned: PlannedConfiguration, start: Start, earlier: DefectRecord | None, store: str | None
) -> tuple[Job, Job] | None:
    """Return the jobs of a relaxation, marked as running; None if another job relaxes it, or has done so."""
    if not may_begin(records, earlier, owner()):
        return None
    relaxation = next_relaxation(planned, start, earlier, store)
    running = owned(planned.running(start, relaxation.output.uuid, earlier), owner(), store)
    return _recorded(relaxation, running, store) if begin(records, running, earlier) else None


def _recorded(relaxation: Job, record: DefectRecord, store: str | None) -> tuple[Job, Job]:
    """Return the job of a relaxation, and the job that completes its record."""
    relaxation.append_name(f" {record.name} {record.start}")
    relaxation.update_metadata({RECORD_METADATA: carry(record)}, dynamic=False)
    recording = survive_parents(
        record_relaxation(relaxation.output, record_id=record.id, store=store, job_uuid=relaxation.uuid)
    )
    recording.name = f"record {record.name} {record.start}"
    return relaxation, recording


@job
def resume_relaxation(
    record_id: str, *, engine: str | Maker, store: str | None
) -> list[dict[str, Any]] | Response[list[dict[str, Any]]]:
    """Go on with the relaxation of a record that failed or did not converge, from its last positions."""
    resolved = resolve_engine(engine)
    with open_store(store) as records:
        record = records.record(record_id)
        if record is None:
            msg = f"no record {record_id} in store {records.name!r}"
            raise InputError(msg)
        relaxation = resolved.relaxation(next_structure(record, resolved), record.id, store)
        running = owned(resumed(record, relaxation.output.uuid), owner(), store)
        mine = begin(records, running, record)
    if not mine:
        return [summary(record_id, record.start, "running", reused=True)]
    return joined([], [_recorded(relaxation, running, store)])


@job
def record_relaxation(
    document: Mapping[str, Any] | BaseModel | None, *, record_id: str, store: str | None, job_uuid: str | None = None
) -> dict[str, Any]:
    """Complete the record of a relaxation, and its pair if the relaxation from the other start is done.

    Parameters
    ----------
    document
        The document that the engine returned; None if its job failed.
    job_uuid
        The engine's job; None in flows of earlier versions.
    """
    with open_store(store) as records:
        record = completed(records, record_id, document, job_uuid)
        update_pairs(records, record.configuration_id, record.settings_hash)
    return {"record": record_id, "start": record.start, "status": record.status, "reused": False}


# ------------------------------------------------------------------ totals


@job
def totals(
    configuration_ids: Sequence[str],
    *,
    pristine: Pristine | None,
    engine: str | Maker,
    relax_host: bool,
    weights: str | Sequence[str],
    store: str | None,
    relaxed: Sequence[list[dict[str, Any]] | None] = (),
    batches: Sequence[dict[str, Any] | None] = (),
) -> dict[str, Any]:
    """Count the relaxations that were run and reused, and the steps that pre-relaxation saved.

    Parameters
    ----------
    weights
        Keys of the pre-relaxers.
    relaxed
        Outputs of `relax_configuration`; None where it failed.
    batches
        Outputs of `totals` for the parts of a campaign.

    Returns
    -------
    dict
        "host" (source of the base), "relaxations_run", "relaxations_reused" (the host not counted), "saving" (share
        of ionic steps, None if unknown or of several pre-relaxers), "message" (a single line, each pre-relaxer by
        itself), "savings" (all figures; of several pre-relaxers and `auto` those of every start).
    """
    starts = [start for part in relaxed if part for start in part if start]
    parts = [part for part in batches if part]
    reused = sum(start["reused"] for start in starts)
    counts = {
        "relaxations_run": len(starts) - reused + sum(part["relaxations_run"] for part in parts),
        "relaxations_reused": reused + sum(part["relaxations_reused"] for part in parts),
    }
    keys = (weights,) if isinstance(weights, str) else tuple(weights)
    where = Filter(
        configuration_ids=tuple(configuration_ids),
        settings_hash=settings_hash_of(resolve_engine(engine), relaxed_host=relax_host),
        weights=keys[0] if len(keys) == 1 and keys[0] != AUTO else None,
    )
    with open_store(store) as records:
        found = savings(records, where)
        apart = {} if where.weights is not None else savings_by_start(records, where, keys)
    ran = f"relaxations: {counts['relaxations_run']} run, {counts['relaxations_reused']} reused"
    shown = apart or {"": found}
    said = (f"{name}: {one.message}" if name else one.message for name, one in shown.items())
    message = "; ".join([ran, *said])
    logger.info(message)
    host = None if pristine is None else pristine.source
    saving = next(iter(shown.values())).saving if len(shown) == 1 else None
    figures = {"saving": saving, "message": message, "savings": found.model_dump(mode="json")}
    return {"host": host, **counts, **figures}
