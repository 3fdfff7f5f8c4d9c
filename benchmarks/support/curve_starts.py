"""The held-out pairs of the learning curve: what each way proposes for them, and the relaxations from there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jobflow import Flow, JobOrder

from benchmarks.learning import ENGINE, settings
from benchmarks.starts import errors
from benchmarks.starts_steps import store_of
from benchmarks.support.curve_cases import HOST, converged, unrelaxed
from benchmarks.support.curve_networks import fields_of_others, train_after_fields, train_network
from definet_flows.schemas import KnownPreRelaxer, Prediction, PreRelaxerName, RelaxedHost, Supercell
from definet_flows.starts.chains import ChainPreRelaxer
from definet_flows.starts.evidence import recorded
from definet_flows.starts.fields import FieldsPreRelaxer
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.proposals import Proposal
from definet_flows.stores import Filter, open_store
from definet_flows.workflows.campaign.jobs import prepare_host, relax_configuration
from definet_flows.workflows.campaign.local import run_here
from definet_flows.workflows.campaign.prediction import prediction_of, write_proposals
from definet_flows.workflows.learning.label_sets import read_training_set
from definet_flows.workflows.recording.cases import Pristine
from standins.learning_curve import WAYS, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.learning import Task
    from definet_flows.starts.proposals import Evidence, PreRelaxer
    from definet_flows.stores import Records


def proposals_of(folder: Path, count: int) -> Path:
    """Return the store of what is proposed and relaxed after so many records."""
    return folder.absolute() / f"{HOST}-{count}.sqlite"


# ------------------------------------------------------------------ what proposes


def evidence_of(records: Records, chosen: Task, count: int) -> dict[str, Evidence]:
    """Return the first relaxations of a task by configuration_id, as fields learn from them."""
    first = {record.id: record.configuration_id for record in converged(records, chosen)[:count]}
    found = {item.record_id: item for item in recorded(records, chosen.host.formula, settings(records))}
    return {one: found[record] for record, one in first.items()}


def ways(folder: Path, learned: Task, count: int, seconds: float) -> dict[str, PreRelaxer]:
    """Return what proposes after so many records, networks trained where they are not."""
    with open_store(str(store_of(folder, HOST)), read_only=True) as records:
        evidence = evidence_of(records, learned, count)
        training = read_training_set(records, settings(records), (learned.host,))
    mine = [entry for entry in training.entries if entry.configuration_id in evidence]
    training = replace(training, entries=tuple(mine))
    print(f"{time.strftime('%H:%M:%S')} {count} records, {len(mine)} of them fit for networks", flush=True)
    models = folder / "models"
    network = train_network(training, list(evidence), seconds, models / f"network-{count}")
    items = list(evidence.values())
    others = fields_of_others(items, list(evidence))
    after = train_after_fields(training, others, seconds, models / f"after-fields-{count}")
    fields = FieldsPreRelaxer(items)
    made = (fields, NetworkPreRelaxer(network), ChainPreRelaxer(fields, NetworkPreRelaxer(after)))
    return dict(zip(WAYS, made, strict=True))


def propose(folder: Path, learned: Task, held_out: Task, count: int, seconds: float) -> dict[str, str]:
    """Write what each way proposes for the held-out pairs; return the keys of the ways."""
    made = ways(folder, learned, count, seconds)
    with (
        open_store(str(store_of(folder, HOST)), read_only=True) as labelled,
        open_store(str(proposals_of(folder, count))) as records,
    ):
        known = unrelaxed(records, held_out)
        records.put(
            *labelled.find(RelaxedHost),
            *labelled.find(Supercell),
            *(record for one, record in unrelaxed(labelled, held_out).items() if one not in known),
        )
        (host,) = (one for one in records.find(RelaxedHost) if one.host.hash == held_out.host.hash)
        pristine = Pristine(host=held_out.host, base=host.relaxed, source="reused")
        for way, prerelaxer in made.items():
            kept = [prediction_of(records, pristine, one, prerelaxer.key) for one in held_out.configurations]
            write_proposals(records, prerelaxer, pristine, held_out.configurations, kept)
            records.put(KnownPreRelaxer.of(PreRelaxerName(name=way, key=prerelaxer.key)))
    return {way: prerelaxer.key for way, prerelaxer in made.items()}


# ------------------------------------------------------------------ relaxations from there


def relax_from(folder: Path, held_out: Task, count: int, keys: dict[str, str]) -> None:
    """Relax the held-out pairs from each proposal that the gate lets pass; what is stored is not run again."""
    store = str(proposals_of(folder, count))
    prepared = prepare_host(held_out.host, ENGINE, store, relax=True)
    jobs = [
        relax_configuration(
            prepared.output,
            one,
            engine=ENGINE,
            weights=list(keys.values()),
            store=store,
            control=True,
            predicted=None,
        )
        for one in held_out.configurations
    ]
    flow = Flow([prepared, *jobs], output=jobs[-1].output, order=JobOrder.LINEAR)
    run_here(flow, folder / "jobs" / f"from-{count}-{time.time_ns()}", _tell)


def _tell(event: str, what: str) -> None:
    if event == "Failed" or (event == "Finished" and what.startswith("record")):
        print(f"{time.strftime('%H:%M:%S')} {event} {what}", flush=True)


# ------------------------------------------------------------------ what they show


def measured(folder: Path, held_out: Task, count: int) -> Iterator[Measurement]:
    """Yield what the store shows of each way and held-out pair."""
    with open_store(str(proposals_of(folder, count)), read_only=True) as records:
        controls = {record.id: record for record in unrelaxed(records, held_out).values()}
        truth = {
            controls[item.record_id].configuration_id: item
            for item in recorded(records, held_out.host.formula, settings(records))
            if item.record_id in controls
        }
        names = {one.key: one.name for one in records.find(KnownPreRelaxer)}
        where = Filter(configuration_ids=held_out.ids)
        pairs = {(pair.configuration_id, pair.weights): pair for pair in records.pair_rows(where)}
        forces = {
            (row.configuration_id, row.start == "predicted" and row.weights): row.start_max_force
            for row in records.record_rows(where)
        }
        made = {
            (one.configuration_id, names[one.weights]): one for one in records.find(Prediction) if one.weights in names
        }
    for one, way in ((one, way) for way in WAYS for one in truth if (one, way) in made):
        found, item = made[one, way], truth[one]
        proposal = None if found.displacements is None else Proposal(np.array(found.displacements))
        still, error = errors(item, None, centred=True), errors(item, proposal, centred=True)
        pair = pairs.get((one, found.weights))
        control = next(record for record in controls.values() if record.configuration_id == one)
        yield Measurement(
            records=count,
            way=way,
            configuration_id=one,
            name=control.name,
            verdict=found.gate.verdict,
            stated=found.uncertainty,
            mean_unrelaxed=round(still[0], 5),
            largest_unrelaxed=round(still[1], 4),
            mean=None if proposal is None else round(error[0], 5),
            largest=None if proposal is None else round(error[1], 4),
            steps_unrelaxed=control.ledger.ionic_steps if control.ledger else None,
            steps=pair.steps_predicted if pair else None,
            ends=pair.verdict if pair else None,
            force_unrelaxed=forces[one, False],
            force=forces.get((one, found.weights)),
        )
