"""Routing: which worker runs which kind of job, and with which queue resources; a single YAML file for all.

Jobs made while others run are placed too. jobflow hands a job's own `manager_config` down to its replacement, which
would send the relaxations that a bookkeeping job spawns to the bookkeeping worker (or VASP to a GPU): that is switched
off, and each job carries the `manager_config` of its children of each kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from definet_flows.errors import InputError
from definet_flows.schemas import Frozen
from definet_flows.workflows.queue.kinds import KINDS, Kind, made_by, require_known
from definet_flows.yaml_file import read_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from jobflow import Flow, Job

_FIRST: dict[Kind, int] = {"predict": 1, "relax": 2, "record": 3}
"""FireWorks' priorities: work that has begun ends first. Each query for work reads all jobs that are ready, and a
relaxation holds its structure: a campaign that prepared all relaxations before the first would slow down."""


class Place(Frozen):
    """Where jobs of a kind run."""

    category: str = Field(
        min_length=1, description="FireWorks: category of the FWorkers that may run them; others never do"
    )
    queue: dict[str, Any] = Field(
        default_factory=dict,
        description="FireWorks: entries that replace those of my_qadapter.yaml (`qlaunch -r`, reservation mode, only)",
    )
    worker: str | None = Field(default=None, description="jobflow-remote: name of the worker in the project")
    exec_config: str | None = Field(default=None, description="jobflow-remote: name of the exec_config in the project")
    resources: dict[str, Any] = Field(
        default_factory=dict,
        description="jobflow-remote: resources of the queue; left out for a worker without a scheduler",
    )

    @property
    def fireworks(self) -> dict[str, Any]:
        """Entries of the spec of a Firework."""
        queue = {"_queueadapter": self.queue} if self.queue else {}
        return {"_category": self.category, **queue}

    @property
    def remote(self) -> dict[str, Any]:
        """Entries of a job's manager_config that jobflow-remote reads."""
        given = {"worker": self.worker, "exec_config": self.exec_config, "resources": self.resources or None}
        return {name: value for name, value in given.items() if value is not None}


class Placement(Frozen):
    """The three kinds of jobs and their places."""

    predict: Place = Field(
        default=Place(category="gpu"), description="predictions in batches, training, rounds of learning"
    )
    relax: Place = Field(default=Place(category="cpu"), description="relaxations of defects and of the host")
    light: Place = Field(default=Place(category="light"), description="bookkeeping: seconds each, needs the databases")

    @property
    def fireworks(self) -> dict[Kind, dict[str, Any]]:
        """The manager_config of each kind in FireWorks."""
        return {kind: {**place.fireworks, "_priority": _FIRST.get(kind, 0)} for kind, place in self._kinds.items()}

    @property
    def remote(self) -> dict[Kind, dict[str, Any]]:
        """The manager_config of each kind in jobflow-remote."""
        return {kind: place.remote for kind, place in self._kinds.items()}

    def without_resources(self, workers: Collection[str | None]) -> Placement:
        """Return the placement whose jobs ask for no resources on some workers of jobflow-remote; None is the first."""
        places = {name: getattr(self, name) for name in type(self).model_fields}
        bare = {name: p.model_copy(update={"resources": {}}) for name, p in places.items() if p.worker in workers}
        return self.model_copy(update=bare)

    @property
    def _kinds(self) -> dict[Kind, Place]:
        return {"predict": self.predict, "relax": self.relax, "record": self.light, "light": self.light}


DEFAULT_PLACEMENT = Placement()


def read_placement(path: Path | None) -> Placement:
    """Return the placement that a YAML file says; without a file the categories gpu, cpu and light.

    Raises
    ------
    InputError
        If the file cannot be read, or holds an unknown key or a value of the wrong type.
    """
    if path is None:
        return DEFAULT_PLACEMENT
    content = read_mapping(path, "placement")
    try:
        return Placement.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"placement {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(msg) from None


def place(flow: Flow | Job, configs: Mapping[Kind, Mapping[str, Any]]) -> None:
    """Give every job of a flow, and every job that these will make, the manager_config of its kind.

    An unknown job that the package's own jobs make belongs to the engine, so no step of a user's own engine is taken
    for bookkeeping.

    Parameters
    ----------
    flow
        Changed in place.
    configs
        The manager_config of each kind.

    Raises
    ------
    InputError
        If the flow holds a job whose kind is not known; nothing is changed then.
    """
    require_known(flow)
    children = made_by(flow)  # every update is stored in every job: only those that a job of this flow needs
    _give(flow, configs["relax"], None, dynamic=True)
    for function, kind in KINDS.items():
        _give(flow, configs[kind], function, dynamic=function in children)


def _give(flow: Flow | Job, config: Mapping[str, Any], function: Callable[..., Job] | None, *, dynamic: bool) -> None:
    update = {"manager_config": dict(config), "pass_manager_config": False}
    # jobflow means None to be "every function", but does not say so in the type
    flow.update_config(update, function_filter=function, attributes=list(update), dynamic=dynamic)  # type: ignore[arg-type]
