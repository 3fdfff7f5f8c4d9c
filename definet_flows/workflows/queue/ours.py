"""The Fireworks of this package in a LaunchPad: all others in a shared LaunchPad are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow.core.job import store_inputs

from definet_flows._moved import former
from definet_flows.workflows.queue.kinds import KINDS, plain
from definet_flows.workflows.queue.plan import KEY
from definet_flows.workflows.recording.begun import HOST_METADATA, RECORD_METADATA
from definet_flows.workflows.recovery.probe import PROBE_METADATA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from fireworks import LaunchPad

TASK = "spec._tasks.0.job"
"""Where a Firework holds jobflow's job."""

CARRIED = (RECORD_METADATA, HOST_METADATA, PROBE_METADATA)
"""Metadata of the jobs of relaxations."""

_UUID, _HOSTS = f"{TASK}.uuid", f"{TASK}.hosts"
_JOB_IDS = {"fw_id": 1, "spec._tasks.job.uuid": 1, "spec._tasks.job.hosts": 1}  # a projection takes no index
_AT_ONCE = 10_000  # ids in a query


def of_functions(functions: Iterable[Any]) -> dict[str, Any]:
    """Return the query for the jobs of some functions."""
    names = {
        (module, function.__name__)
        for function in map(plain, functions)
        for module in (function.__module__, former(function.__module__))
    }
    pairs = [{f"{TASK}.function.@module": module, f"{TASK}.function.@callable": name} for module, name in sorted(names)]
    return {"$or": pairs}


_JOINS = of_functions([store_inputs])  # jobflow's job at the end of every replacement, also of other packages
_FUNCTIONS = of_functions(function for function in KINDS if function is not store_inputs)
_MARKED = [{f"{TASK}.metadata.{key}": {"$exists": True}} for key in (KEY, *CARRIED)]
_OURS = {"$or": [*_FUNCTIONS["$or"], *_MARKED, {f"spec.{HOST_METADATA}": {"$exists": True}}]}


def our_fireworks(launchpad: LaunchPad, query: dict[str, Any] | None = None) -> set[int]:
    """Return the ids of the Fireworks that are of this package and match a query.

    A Firework is known by the function of its job or by the metadata that the job carries. The job in which jobflow
    ends a replacement has neither; it has the uuid of the job that was replaced.
    """
    given = query or {}
    found = {int(raw["fw_id"]) for raw in launchpad.fireworks.find({"$and": [given, _OURS]}, {"fw_id": 1})}
    others = {"$and": [given, _JOINS, {"fw_id": {"$nin": sorted(found)}}]}
    by_uuid: dict[str, list[int]] = {}
    for raw in launchpad.fireworks.find(others, _JOB_IDS):
        by_uuid.setdefault(_job(raw)["uuid"], []).append(int(raw["fw_id"]))
    for part in _parts(sorted(by_uuid)):
        for raw in launchpad.fireworks.find({"$and": [{_UUID: {"$in": part}}, _FUNCTIONS]}, _JOB_IDS):
            found.update(by_uuid[_job(raw)["uuid"]])
    return found


def workflows_of(launchpad: LaunchPad, ids: Collection[int], fields: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the workflows that hold some Fireworks, each once."""
    seen = set()
    for part in _parts(sorted(ids)):
        for raw in launchpad.workflows.find({"nodes": {"$in": part}}, fields):
            if raw["_id"] not in seen:
                seen.add(raw["_id"])
                yield raw


def half_written(launchpad: LaunchPad, unknown: Collection[int]) -> set[int]:
    """Return which of some Fireworks that no workflow knows are children of a job that a workflow knows.

    A job hands the uuids of its flows down to its children. The Fireworks of a workflow that is being added at this
    moment have other uuids.
    """
    raws = list(launchpad.fireworks.find({"fw_id": {"$in": sorted(unknown)}}, _JOB_IDS))
    flows = sorted({host for raw in raws for host in _job(raw).get("hosts", ())})
    relatives: dict[int, list[str]] = {}
    for part in _parts(flows):
        query = {_HOSTS: {"$in": part}, "fw_id": {"$nin": sorted(unknown)}}
        for raw in launchpad.fireworks.find(query, _JOB_IDS):
            relatives[int(raw["fw_id"])] = _job(raw)["hosts"]
    placed = {fw_id for raw in workflows_of(launchpad, relatives, {"nodes": 1}) for fw_id in raw["nodes"]}
    known = {host for fw_id, hosts in relatives.items() if fw_id in placed for host in hosts}
    return {int(raw["fw_id"]) for raw in raws if known & set(_job(raw).get("hosts", ()))}


def _job(raw: dict[str, Any]) -> dict[str, Any]:
    tasks = raw["spec"]["_tasks"]
    job: dict[str, Any] = tasks[0].get("job", {})
    return job


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    return (items[k : k + _AT_ONCE] for k in range(0, len(items), _AT_ONCE))
