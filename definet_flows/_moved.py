"""Former places of public classes and jobs: queues, settings and JobStores hold them as `@module`.

A document of a Maker, a store or a job names the module that its class was in when it was written. The finder below
imports the module of today under the former name, so that such documents are read for as long as they exist.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

MOVED = {
    "definet_flows.stores.journal": "definet_flows.stores.backends.journal_store",
    "definet_flows.workflows.active": "definet_flows.workflows.learning.active.flow",
    "definet_flows.workflows.arms": "definet_flows.workflows.recording.cases",
    "definet_flows.workflows.flow": "definet_flows.workflows.campaign.flow",
    "definet_flows.workflows.forcefield": "definet_flows.workflows.engines.potential",
    "definet_flows.workflows.jobs": "definet_flows.workflows.campaign.jobs",
    "definet_flows.workflows.retrain": "definet_flows.workflows.learning.retrain",
    "definet_flows.workflows.retry": "definet_flows.workflows.recovery.retry",
    "definet_flows.workflows.probe": "definet_flows.workflows.recovery.probe",
    "definet_flows.workflows.vasp": "definet_flows.workflows.engines.vasp.maker",
    "definet_flows.workflows.vasp_inputs": "definet_flows.workflows.engines.vasp.inputs",
    "definet_flows.workflows.vasp_run": "definet_flows.workflows.engines.vasp.run",
}
"""Former module: module of today."""


def former(module: str) -> str:
    """Return the name that documents and settings hashes know a module by: its former one, if it has moved."""
    return next((name for name, today in MOVED.items() if today == module), module)


class _FormerPlaces(MetaPathFinder, Loader):
    """Finds the modules of `MOVED` by their former names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(MOVED[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing, the module of today has run already; give it its own specification back."""
        module.__spec__ = spec_from_loader(module.__name__, module.__loader__, origin=module.__file__)


def keep_former_names() -> None:
    """Let the former names be imported; asked for once, when the package is imported."""
    if not any(isinstance(finder, _FormerPlaces) for finder in sys.meta_path):
        sys.meta_path.append(_FormerPlaces())
