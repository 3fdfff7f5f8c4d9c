"""High-throughput point-defect workflows: enumerate, pre-relax, relax, record, retrain.

The names in `__all__` are the public ones; `docs/api.md` lists them. They are loaded when first used: importing the
package imports neither torch nor a workflow engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows._lazy import names_of
from definet_flows._moved import keep_former_names

if TYPE_CHECKING:
    from definet_flows.defects import (
        Choices,
        Recipe,
        Sampling,
        count_by_class,
        doped_name,
        enumerate_configurations,
        from_doped_name,
        from_pymatgen,
        preset,
        read_configurations,
        recover,
        to_pymatgen,
    )
    from definet_flows.errors import InputError, LeftOutWarning
    from definet_flows.hosts import make_host
    from definet_flows.stores import Filter, gather, open_store, savings
    from definet_flows.stores.export.tables import pair_frame, record_frame
    from definet_flows.structures.prerelax import Prerelaxed, prerelax
    from definet_flows.workflows import (
        CalculatorRelaxMaker,
        DefectFlowMaker,
        GpawRelaxMaker,
        PotentialRelaxMaker,
        RetrainConfig,
        RetrainMaker,
        VaspDefectRelaxMaker,
        defect_flow,
    )
    from definet_flows.workflows.campaign.local import job_store
    from definet_flows.workflows.campaign.models import checkpoint_of
    from definet_flows.workflows.learning.acquisition import ACQUISITIONS, Acquisition
    from definet_flows.workflows.learning.active.flow import ActiveLearningMaker
    from definet_flows.workflows.recovery.rebuild import RecordBuilder

__version__ = "0.1.0"

__all__ = [
    "ACQUISITIONS",
    "Acquisition",
    "ActiveLearningMaker",
    "CalculatorRelaxMaker",
    "Choices",
    "DefectFlowMaker",
    "Filter",
    "GpawRelaxMaker",
    "InputError",
    "LeftOutWarning",
    "PotentialRelaxMaker",
    "Prerelaxed",
    "Recipe",
    "RecordBuilder",
    "RetrainConfig",
    "RetrainMaker",
    "Sampling",
    "VaspDefectRelaxMaker",
    "__version__",
    "checkpoint_of",
    "count_by_class",
    "defect_flow",
    "doped_name",
    "enumerate_configurations",
    "from_doped_name",
    "from_pymatgen",
    "gather",
    "job_store",
    "make_host",
    "open_store",
    "pair_frame",
    "prerelax",
    "preset",
    "read_configurations",
    "record_frame",
    "recover",
    "savings",
    "to_pymatgen",
]

_HOMES = {
    "ACQUISITIONS": "definet_flows.workflows.learning.acquisition",
    "Acquisition": "definet_flows.workflows.learning.acquisition",
    "ActiveLearningMaker": "definet_flows.workflows.learning.active.flow",
    "CalculatorRelaxMaker": "definet_flows.workflows",
    "Choices": "definet_flows.defects",
    "DefectFlowMaker": "definet_flows.workflows",
    "Filter": "definet_flows.stores",
    "InputError": "definet_flows.errors",
    "LeftOutWarning": "definet_flows.errors",
    "GpawRelaxMaker": "definet_flows.workflows",
    "PotentialRelaxMaker": "definet_flows.workflows",
    "Prerelaxed": "definet_flows.structures.prerelax",
    "Recipe": "definet_flows.defects",
    "RecordBuilder": "definet_flows.workflows.recovery.rebuild",
    "RetrainConfig": "definet_flows.workflows",
    "RetrainMaker": "definet_flows.workflows",
    "Sampling": "definet_flows.defects",
    "VaspDefectRelaxMaker": "definet_flows.workflows",
    "record_frame": "definet_flows.stores.export.tables",
    "checkpoint_of": "definet_flows.workflows.campaign.models",
    "count_by_class": "definet_flows.defects",
    "defect_flow": "definet_flows.workflows",
    "doped_name": "definet_flows.defects",
    "pair_frame": "definet_flows.stores.export.tables",
    "enumerate_configurations": "definet_flows.defects",
    "from_doped_name": "definet_flows.defects",
    "from_pymatgen": "definet_flows.defects",
    "gather": "definet_flows.stores",
    "job_store": "definet_flows.workflows.campaign.local",
    "make_host": "definet_flows.hosts",
    "open_store": "definet_flows.stores",
    "prerelax": "definet_flows.structures.prerelax",
    "preset": "definet_flows.defects",
    "read_configurations": "definet_flows.defects",
    "recover": "definet_flows.defects",
    "savings": "definet_flows.stores",
    "to_pymatgen": "definet_flows.defects",
}

keep_former_names()

__getattr__, __dir__ = names_of(__name__, _HOMES)
