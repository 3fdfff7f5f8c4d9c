"""Run a flow on this machine, with a trajectory for every relaxation and word of every job."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import Flow, JobStore, OnMissing, run_locally

from definet_flows.settings import load_settings
from definet_flows.stores import SqliteStore
from definet_flows.workflows.campaign.outputs import configured_store, job_store_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobflow import Job, Response

_WORD = re.compile(r"(Starting|Finished) job - (.*) \([0-9a-f-]+")
_FAILED = " failed with exception:"
_RUNS = "runs"
JOBS = "jobs.sqlite"
"""File in a run's folder that holds jobflow's outputs."""

DATA = "data.sqlite"
"""File in a run's folder that holds trajectories."""

JOURNALS = ("jobs.jsonl", "data.jsonl")
"""Names of these files in folders that earlier versions wrote."""


def new_folder() -> Path:
    """Return a folder for the jobs of a run, named by the time, in the data folder."""
    return load_settings().data_dir / _RUNS / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def run_here(flow: Flow, folder: Path, tell: Callable[[str, str], None]) -> dict[str, Any] | None:
    """Run a flow in this process, each job in a folder of its own; what a job has read and returned is let go.

    Parameters
    ----------
    flow
        A flow whose output is that of its totals.
    folder
        Takes the jobs' folders and, unless jobflow is configured otherwise, their outputs (`jobs.sqlite`) and
        trajectories (`data.sqlite`).
    tell
        Called with "Starting" or "Finished" and a job's name, with "Failed" and a line that says which and why.

    Returns
    -------
    dict or None
        The output of the totals; None if they did not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = job_store(folder)
    with _listening(tell), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cd is deprecated", FutureWarning)  # jobflow's own use of monty's cd
        warnings.filterwarnings("ignore", "No POTCAR file with matching TITEL", UserWarning)  # of a dry run
        warnings.filterwarnings("ignore", "Structure charge", UserWarning)  # beside neutral atoms: a charged defect
        _run(flow, store, folder)
    for empty in folder.glob("job_*"):  # bookkeeping leaves nothing in its folders
        if not any(empty.iterdir()):
            empty.rmdir()
    uuid = flow.output.uuid
    return store.get_output(uuid, load=False) if store.count({"uuid": uuid}) else None


class _Alone(Flow):
    """A job of a flow, run by itself with the jobs that it makes; it stays a part of its flow."""

    def __init__(self, job: Job) -> None:
        super().__init__([])
        self.job = job

    def iterflow(self) -> Iterator[tuple[Job, list[str]]]:
        """Yield the job; its parents have run."""
        yield self.job, []


def _run(flow: Flow, store: JobStore, folder: Path) -> None:
    """Run the jobs of a flow after each other, as `run_locally` does, in the order in which the flow lists them.

    `run_locally` keeps every response until its end, some megabytes for each relaxation: it gets a job at a time.
    """
    failed: set[str] = set()
    for job, parents in _in_order(flow):
        if failed.intersection(parents) and job.config.on_missing_references == OnMissing.ERROR:
            failed.add(job.uuid)
            continue
        responses = run_locally(
            _Alone(job), log=False, store=store, create_folders=True, root_dir=folder, allow_external_references=True
        )
        if not _has_output(responses.get(job.uuid, {})):
            failed.add(job.uuid)
        job.function_args, job.function_kwargs = (), {}  # resolved, they hold what the job has read


def _in_order(flow: Flow) -> Iterator[tuple[Job, list[str]]]:
    """Yield the jobs of a flow with their parents: of all whose parents have run, the job that the flow lists first.

    A batch relaxes before the next batch predicts. jobflow's own order begins with all predictions.
    """
    known = {job.uuid: (job, parents) for job, parents in flow.iterflow()}  # type: ignore[no-untyped-call]
    places = {uuid: place for place, uuid in enumerate(flow.job_uuids)}
    order = TopologicalSorter({uuid: parents for uuid, (_, parents) in known.items()})
    order.prepare()
    ready: list[tuple[int, str]] = []
    while order.is_active():
        for uuid in order.get_ready():
            heappush(ready, (places[uuid], uuid))
        _, first = heappop(ready)
        yield known[first]
        order.done(first)


def _has_output(responses: dict[int, Response[Any]]) -> bool:
    """Say whether a job has an output: its own, or that of the jobs which replace it."""
    return bool(responses) and responses[max(responses)].replace is None


def job_store(folder: Path) -> JobStore:
    """Return jobflow's own JobStore where the user has configured one that lasts, else files in `folder`; connected.

    Parameters
    ----------
    folder
        Folder of a run: the parent of its jobs' folders.
    """
    if fault := job_store_fault():
        warnings.warn(f"{fault}: the outputs of jobs go to {folder / JOBS}", stacklevel=3)
    store = configured_store() or folder_store(folder)
    store.connect()
    return store


def folder_store(folder: Path, *, read_only: bool = False) -> JobStore:
    """Return the JobStore in a run's folder, not connected yet."""
    jobs, data = (str(folder / journal) for journal in JOURNALS)
    docs = SqliteStore(str(folder / JOBS), key="uuid", read_only=read_only, journal=jobs)
    arrays = SqliteStore(str(folder / DATA), key="blob_uuid", read_only=read_only, journal=data)
    there = not read_only or any((folder / name).is_file() for name in (DATA, JOURNALS[1]))
    return FolderStore(docs, additional_stores={"data": arrays} if there else {})


class FolderStore(JobStore):
    """The JobStore of a run's folder: an output without references is read as it is, not turned into data twice."""

    def get_output(  # type: ignore[no-untyped-def]  # noqa: ANN201
        self,
        uuid: str,
        which: str | int = "last",
        load: bool | dict[str, Any] = False,  # noqa: FBT001, FBT002 - jobflow's signature
        cache: dict[str, Any] | None = None,
        on_missing: OnMissing = OnMissing.ERROR,
    ):
        """Return the output of a job, as jobflow's own store does."""
        if which == "last":
            found = self.query_one({"uuid": uuid}, ["output"], {"index": -1}, load)
            if found is not None and not _refers(found["output"]):
                return found["output"]
        return super().get_output(uuid, which, load, cache, on_missing)  # type: ignore[arg-type]  # None is its default


def _refers(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Say whether a reference to the output of another job lies in a value."""
    if isinstance(value, dict):
        return value.get("@class") == "OutputReference" or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))


def holds_run(folder: Path) -> bool:
    """Say whether a folder holds the outputs of a run."""
    return any((folder / name).is_file() for name in (JOBS, JOURNALS[0]))


def run_folders() -> list[Path]:
    """Return the folders of the runs in the data folder, oldest first."""
    return sorted(filter(holds_run, (load_settings().data_dir / _RUNS).glob("*")))


@contextmanager
def _listening(tell: Callable[[str, str], None]) -> Iterator[None]:
    """Hear jobflow's log of jobs that start and end."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            match = _WORD.match(message)
            if match:
                tell(match[1], match[2])
            elif _FAILED in message:
                name, _, trace = message.partition(_FAILED)
                tell("Failed", f"{name}: {_reason(trace)}")

    logger, ear = logging.getLogger("jobflow"), Ear()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
        logger.propagate = propagate


def _reason(trace: str) -> str:
    """Return the last line of a traceback, without the module of an error's class."""
    last = trace.strip().splitlines()[-1] if trace.strip() else "no reason given"
    kind, colon, text = last.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{text}"
