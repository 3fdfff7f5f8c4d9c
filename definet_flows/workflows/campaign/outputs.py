"""Where jobflow puts the outputs of jobs: the JobStore of its settings, or nowhere, which is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

import jobflow

from definet_flows.errors import InputError
from definet_flows.stores.durability import require_whole, volatile

if TYPE_CHECKING:
    from jobflow import JobStore

_VARIABLE = "JOBFLOW_CONFIG_FILE"


def configured_store() -> JobStore | None:
    """Return the JobStore that the user has configured for jobflow; None if there is none, or it keeps nothing."""
    return jobflow.SETTINGS.JOB_STORE if _is_configured() and job_store_fault() is None else None


def job_store_fault() -> str | None:
    """Return why jobflow's settings name no JobStore that keeps outputs; None if they do, or nothing is configured."""
    if not _is_configured():
        return None
    path = Path(jobflow.SETTINGS.CONFIG_FILE)
    if _is_named() and not path.is_file():
        return f"JOBFLOW_CONFIG_FILE names {path}, and there is no such file"
    store = jobflow.SETTINGS.JOB_STORE
    reason = volatile(store)
    if reason is not None and "JOB_STORE" not in jobflow.SETTINGS.model_fields_set:
        return f"{path} names no JOB_STORE"
    if reason is not None:
        return f"the JOB_STORE of {path} {reason}"
    try:
        require_whole(store, f"the JOB_STORE of {path}")
    except InputError as error:
        return str(error)
    return None


def _is_configured() -> bool:
    """Say whether jobflow's settings have a file, a file is named, or the environment holds the store."""
    path = Path(jobflow.SETTINGS.CONFIG_FILE)
    in_environment = any(name.upper() == "JOBFLOW_JOB_STORE" for name in os.environ)
    return in_environment or path.is_file() or _is_named()


def _is_named() -> bool:
    """Tell whether JOBFLOW_CONFIG_FILE names a file."""
    return any(name.upper() == _VARIABLE for name in os.environ)
