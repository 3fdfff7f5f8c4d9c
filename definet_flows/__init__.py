"""High-throughput point-defect workflows: enumerate, pre-relax, relax, record, retrain.

Names are loaded when first used: importing the package imports neither torch nor a workflow engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows._lazy import names_of
from definet_flows._moved import keep_former_names

if TYPE_CHECKING:
    from definet_flows.defects import Choices
    from definet_flows.errors import InputError
    from definet_flows.stores import open_store
    from definet_flows.workflows import (
        DefectFlowMaker,
        PotentialRelaxMaker,
        RetrainConfig,
        RetrainMaker,
        VaspDefectRelaxMaker,
        defect_flow,
    )

__version__ = "0.1.0"

__all__ = [
    "Choices",
    "DefectFlowMaker",
    "InputError",
    "PotentialRelaxMaker",
    "RetrainConfig",
    "RetrainMaker",
    "VaspDefectRelaxMaker",
    "__version__",
    "defect_flow",
    "open_store",
]

_HOMES = {
    "Choices": "definet_flows.defects",
    "DefectFlowMaker": "definet_flows.workflows",
    "InputError": "definet_flows.errors",
    "PotentialRelaxMaker": "definet_flows.workflows",
    "RetrainConfig": "definet_flows.workflows",
    "RetrainMaker": "definet_flows.workflows",
    "VaspDefectRelaxMaker": "definet_flows.workflows",
    "defect_flow": "definet_flows.workflows",
    "open_store": "definet_flows.stores",
}


keep_former_names()

__getattr__, __dir__ = names_of(__name__, _HOMES)
