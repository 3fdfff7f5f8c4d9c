"""Every job function of the package, the kind of worker that it wants, and the jobs that it makes while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import Flow, Job, Maker
from jobflow.core.job import store_inputs

from definet_flows.errors import InputError
from definet_flows.workflows.campaign import jobs
from definet_flows.workflows.learning import retrain
from definet_flows.workflows.learning.active import flow as active
from definet_flows.workflows.recovery import probe, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Kind = Literal["predict", "relax", "record", "light"]
"""`record` is the bookkeeping after a relaxation; it runs where `light` does."""


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function under jobflow's decorator."""
    return getattr(function, "__wrapped__", function)


KINDS: dict[Callable[..., Any], Kind] = {
    jobs.predict_batch: "predict",
    retrain.retrain_network: "predict",
    active.learn_round: "predict",  # it asks the network about the whole pool
    jobs.prepare_host: "light",
    jobs.relax_configuration: "light",
    jobs.resume_relaxation: "light",
    jobs.totals: "light",
    retry.ends_of: "light",
    probe.probe_end: "light",
    probe.probed: "light",
    jobs.record_host: "record",
    jobs.record_relaxation: "record",
    probe.record_probe: "record",
    store_inputs: "record",
}
"""Kinds of the package's job functions. All other jobs belong to the engine and run with the relaxations."""

_MAKES: dict[Callable[..., Any], tuple[Callable[..., Any], ...]] = {
    jobs.prepare_host: (jobs.record_host, store_inputs),
    jobs.relax_configuration: (jobs.record_relaxation, store_inputs),
    jobs.resume_relaxation: (jobs.record_relaxation, store_inputs),
    probe.probe_end: (probe.record_probe, store_inputs),
    active.learn_round: tuple(KINDS),
}


def made_by(flow: Flow | Job) -> set[Callable[..., Any]]:
    """Return the job functions that the jobs of a flow make while they run, the engine's own apart."""
    present = {plain(job.function) for job in iterate(flow)}
    return {made for maker, children in _MAKES.items() if plain(maker) in present for made in children}


def require_known(flow: Flow | Job) -> None:
    """Refuse a job whose kind is not known: it would be placed with the relaxations, on the most expensive nodes.

    Raises
    ------
    InputError
        If a job is neither of the package nor made by an engine's Maker.
    """
    known = {plain(function) for function in KINDS}
    for job in iterate(flow):
        function = plain(job.function)
        if function not in known and not isinstance(getattr(job.function, "__self__", None), Maker):
            name = f"{function.__module__}.{function.__qualname__}"
            msg = f"job {job.name!r} is of no kind that a placement knows ({name}): submit it in a flow of its own"
            raise InputError(msg)


def iterate(flow: Flow | Job) -> Iterator[Job]:
    """Yield the jobs of a flow, or the job itself."""
    if isinstance(flow, Job):
        yield flow
        return
    for job, _ in flow.iterflow():  # type: ignore[no-untyped-call]
        yield job
