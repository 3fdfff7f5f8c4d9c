"""A challenger against the champion on configurations that neither learned from."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import wilcoxon

from definet_flows.schemas.models import HostTrial, ModelRef, StepTrial, Trial
from definet_flows.stores import Filter
from definet_flows.workflows.learning.judging import LEAST_HELD_OUT
from definet_flows.workflows.learning.label_sets import pair_sets
from definet_flows.workflows.recording.provenance import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from definet_flows.model.data.archive import PairSet
    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.schemas import FloatArray
    from definet_flows.stores import Records
    from definet_flows.stores.learning.training_set import TrainingSet

SIGNIFICANCE = 0.05
"""Largest p of the paired test, for each host."""


def hold_trial(
    challenger: Checkpoint, champion: Checkpoint, training: TrainingSet, claims: Sequence[str], steps: StepTrial | None
) -> Trial:
    """Compare two models on the held-out configurations of the hosts that the challenger claims.

    The challenger passes if on every such host its mean error is smaller, the one-sided Wilcoxon signed-rank test over
    configurations says so with p < `SIGNIFICANCE`, and its error is smaller than that of no prediction; and if, where
    held-out configurations were relaxed from the predictions of both, its relaxations took no more steps in sum. As all
    hosts must pass, their tests need no correction for their number.

    Parameters
    ----------
    training
        The training set; its split `test` is held out.
    claims
        Hosts by formula.
    steps
        From `residual_steps`.
    """
    return _trial(champion, [_errors_by_host(challenger, champion, training, claims)], steps, training.held_out_hash)


def cross_validate(
    parts: Iterable[tuple[Checkpoint, TrainingSet]],
    champion: Checkpoint,
    training: TrainingSet,
    claims: Sequence[str],
    steps: StepTrial | None,
) -> Trial:
    """Compare the champion with networks that were trained as the challenger was, each on the fold that it never saw.

    The rules are those of `hold_trial`. A champion that learned from some of the configurations is favoured by that.

    Parameters
    ----------
    parts
        Of each fold: the network, and the training set whose split `test` is the fold.
    training
        All labels.
    claims
        Hosts by formula.
    steps
        From `residual_steps`.
    """
    errors = [_errors_by_host(network, champion, part, claims) for network, part in parts]
    return _trial(champion, errors, steps, training.data_hash, folds=len(errors))


def _trial(
    champion: Checkpoint,
    parts: Sequence[Mapping[str, FloatArray]],
    steps: StepTrial | None,
    held_out: str,
    folds: int = 0,
) -> Trial:
    """Return the trial of the errors by host, Å, [3, n], of one held-out set or of several folds."""
    every = {host: [part[host] for part in parts if host in part] for part in parts for host in part}
    hosts = tuple(_host_trial(host, np.concatenate(found, axis=1)) for host, found in sorted(every.items()))
    problems = [problem for host in hosts for problem in _problems(host, 0 if folds else LEAST_HELD_OUT)]
    if not hosts:
        problems = [f"no host has {LEAST_HELD_OUT} held-out configurations"]
    if steps is not None and steps.challenger > steps.champion:
        problems.append(f"{steps.n} relaxations took {steps.challenger} steps from it, {steps.champion} from the other")
    reason = "; ".join(problems) or _praise(champion.name, hosts, steps)
    return Trial(
        champion=ModelRef(name=champion.name, sha256=champion.sha256),
        held_out=held_out,
        hosts=hosts,
        folds=folds,
        steps=steps,
        passed=not problems,
        reason=f"{folds}-fold cross-validation: {reason}" if folds else reason,
        at=now(),
    )


def _errors_by_host(
    challenger: Checkpoint, champion: Checkpoint, training: TrainingSet, claims: Sequence[str]
) -> dict[str, FloatArray]:
    """Return, for each claimed host, the errors of its held-out configurations, Å, [3, n]."""
    errors: dict[str, list[FloatArray]] = defaultdict(list)
    for pairs in pair_sets(training):
        if pairs.host.formula in claims and len(pairs.split("test")):
            errors[pairs.host.formula].append(_errors(challenger, champion, pairs))
    return {host: np.concatenate(parts, axis=1) for host, parts in errors.items()}


def _errors(challenger: Checkpoint, champion: Checkpoint, pairs: PairSet) -> FloatArray:
    """Return the errors of champion, challenger and of no displacement, Å, [3, n]."""
    from definet_flows.model.training.local_errors import local_errors  # noqa: PLC0415 - torch

    return np.stack([local_errors(net, pairs, "test") for net in (champion.network, challenger.network, None)])


def _host_trial(host: str, errors: FloatArray) -> HostTrial:
    champion, challenger, nothing = errors
    return HostTrial(
        host=host,
        n=errors.shape[1],
        champion=float(champion.mean()),
        challenger=float(challenger.mean()),
        nothing=float(nothing.mean()),
        p=paired_p(champion, challenger),
    )


def paired_p(champion: FloatArray, challenger: FloatArray) -> float:
    """Return the one-sided p that the challenger's errors are smaller; 1 where the two do not differ."""
    if np.array_equal(champion, challenger):
        return 1.0
    return float(wilcoxon(champion - challenger, alternative="greater").pvalue)


def _problems(host: HostTrial, least: int) -> list[str]:
    """Return what speaks against a challenger on a host of which `least` configurations must be held out."""
    if host.n < least:
        return [f"{host.host}: {host.n} held-out configurations say too little, {least} are needed"]
    where = f"{host.host}: {1000 * host.challenger:.2f} mÅ"
    if not host.challenger < host.champion:
        return [f"{where}, not below the champion's {1000 * host.champion:.2f}"]
    if not host.p < SIGNIFICANCE:
        return [f"{where} after {1000 * host.champion:.2f} is no sure gain over {host.n} (p = {host.p:.2g})"]
    if not host.challenger < host.nothing:
        return [f"{where}, not below the {1000 * host.nothing:.2f} of no prediction"]
    return []


def _praise(name: str, hosts: Sequence[HostTrial], steps: StepTrial | None) -> str:
    lines = [
        f"{t.host}: {1000 * t.challenger:.2f} mÅ after {1000 * t.champion:.2f}, without prediction "
        f"{1000 * t.nothing:.2f}, over {t.n} (p = {t.p:.2g})"
        for t in hosts
    ]
    measured = "not measured" if steps is None else f"{steps.challenger} after {steps.champion} over {steps.n}"
    return f"beats {name} on {'; '.join(lines)}; residual steps: {measured}"


def residual_steps(
    records: Records, training: TrainingSet, challenger: str, champion: str, claims: Sequence[str]
) -> StepTrial | None:
    """Return the ionic steps of held-out configurations relaxed from the predictions of both; None if there are none.

    Parameters
    ----------
    challenger, champion
        sha256 of the weights.
    claims
        Hosts by formula.
    """
    held_out = tuple(e.configuration_id for e in training.of_split("test") if e.host.formula in claims)
    took: dict[str, dict[str, int]] = {challenger: {}, champion: {}}
    where = Filter(settings_hash=training.settings_hash, configuration_ids=held_out)
    for row in records.ledgers(where):
        ledger = row.ledger if row.start == "predicted" and row.status == "done" else None
        if ledger is not None and ledger.converged and ledger.ionic_steps is not None:
            took.get(row.weights or "", {})[row.configuration_id] = ledger.ionic_steps
    both = took[challenger].keys() & took[champion].keys()
    if not both:
        return None
    sums = {sha: sum(steps for identity, steps in found.items() if identity in both) for sha, found in took.items()}
    return StepTrial(n=len(both), champion=sums[champion], challenger=sums[challenger])
