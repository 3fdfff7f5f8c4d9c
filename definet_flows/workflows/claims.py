"""Whether a relaxation may begin: not while another job has it, whatever campaign that belongs to."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from jobflow import CURRENT_JOB

if TYPE_CHECKING:
    from definet_flows.schemas import DefectRecord

_REMOTE = "jfremote_in.json"
"""What jobflow-remote leaves in the folder of each job."""


def owner() -> str:
    """Return the uuid of the job at work: the same if a queue runs it again."""
    return CURRENT_JOB.job.uuid if CURRENT_JOB.job is not None else str(uuid.uuid4())


def owned(record: DefectRecord, by: str) -> DefectRecord:
    """Return a record that says who relaxes; where one process runs the whole flow, also which one that is."""
    place = {"owner": by, "hostname": socket.gethostname(), "pid": None if _queued() else os.getpid()}
    return record.model_copy(update={"provenance": record.provenance.model_copy(update=place)})


def may_begin(record: DefectRecord | None, by: str) -> bool:
    """Tell whether nothing relaxes a record now, as far as can be known here.

    A run of this machine whose process is gone is known to be dead. Of a job in a queue only the queue knows: it stays
    running until the queue has the job run again, or until `definet retry` declares it lost.
    """
    if record is None or record.status != "running":
        return True
    told = record.provenance
    if told.owner in (None, by):
        return True
    return told.pid is not None and told.hostname == socket.gethostname() and not _lives(told.pid, told.started)


def _lives(pid: int, started: str | None) -> bool:
    """Tell whether a process that wrote at this time runs; this very one has come back to it, so it does not."""
    if pid == os.getpid() or not psutil.pid_exists(pid):
        return False
    try:
        born = psutil.Process(pid).create_time()
    except psutil.Error:
        return False
    return started is None or born <= datetime.fromisoformat(started).timestamp() + 1


def _queued() -> bool:
    """Tell whether a queue runs the jobs of this flow, each in a process of its own."""
    return (CURRENT_JOB.job is not None and "fw_id" in CURRENT_JOB.job.metadata) or Path(_REMOTE).exists()
