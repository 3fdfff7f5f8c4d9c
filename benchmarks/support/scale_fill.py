"""A campaign that has come far: records and predictions as its jobs would have written them, without an engine.

What the jobs that follow cost then shows whether the cost grows with the campaign, in minutes instead of hours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from definet_flows.schemas import Attempt, Gate, Ledger, Prediction
from definet_flows.stores import open_store, update_pairs
from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from definet_flows.schemas import Configuration, DefectRecord
    from definet_flows.workflows.queue.plan import Plan

_AT_ONCE = 100


def fill(plan: Plan, real: int) -> int:
    """Write records of all configurations of a plan but `real`, spread over all classes; return how many.

    What the store has stays as it is.
    """
    every = plan.campaign.configurations
    kept = {every[k * len(every) // real] for k in range(real)}
    host = plan.campaign.host
    pristine = Pristine(host=host, base=host.cartesian, source="as given")
    with open_store(plan.maker.store) as records:
        known = {row.configuration_id for row in records.record_rows()}
        left = [one for one in every if one not in kept and one.id_in(host.hash) not in known]
        for first in range(0, len(left), _AT_ONCE):
            made = [one for edits in left[first : first + _AT_ONCE] for one in _documents(plan, pristine, edits)]
            records.put(*made)
            for edits in left[first : first + _AT_ONCE]:
                if edits.id_in(host.hash) in plan.campaign.controls:
                    update_pairs(records, edits.id_in(host.hash), plan.settings_hash)
    return len(every) - len(kept)


def _documents(plan: Plan, pristine: Pristine, edits: Configuration) -> Iterator[Prediction | DefectRecord]:
    key = plan.campaign.keys[0]
    planned = PlannedConfiguration(pristine, edits, plan.engine, key, None)
    identity = planned.configuration_id
    prediction = Prediction(
        id=Prediction.identity(identity, key, pristine.base_hash),
        configuration_id=identity,
        weights=key,
        base=pristine.base_hash,
        displacements=0.0 * pristine.base + 0.01,
        gate=Gate(verdict="accepted"),
        seconds=0.01,
        device="cpu",
    )
    yield prediction
    planned = replace(planned, prediction=prediction)
    for start in planned.starts(control=identity in plan.campaign.controls):
        running = planned.running(start, "none")
        assert running.sites is not None
        steps = 30 if start == "unrelaxed" else 3
        ledger = Ledger(
            ionic_steps=steps,
            attempts=(Attempt(ionic_steps=steps, optimizer="LBFGS"),),
            converged=True,
            force_criterion=0.02,
            start_max_force=1.0,
            max_force=0.01,
            energy=-1.0,
            optimizer="LBFGS",
            wall_seconds=0.03,
        )
        sites = running.sites.model_copy(update={"relaxed": running.sites.unrelaxed + 0.02})
        yield running.model_copy(update={"status": "done", "ledger": ledger, "sites": sites})
