"""Thin job shells, relaxation engines and flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows._lazy import names_of

if TYPE_CHECKING:
    from definet_flows.workflows.campaign.contents import Campaign
    from definet_flows.workflows.campaign.flow import DefectFlowMaker, defect_flow
    from definet_flows.workflows.engines.base import ENGINES, Engine, resolve_engine
    from definet_flows.workflows.engines.calculator import CalculatorRelaxMaker
    from definet_flows.workflows.engines.gpaw import GpawRelaxMaker
    from definet_flows.workflows.engines.potential import PotentialRelaxMaker
    from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator
    from definet_flows.workflows.learning.retrain import RetrainConfig, RetrainMaker

__all__ = [
    "ENGINES",
    "CalculatorRelaxMaker",
    "Campaign",
    "DefectFlowMaker",
    "Engine",
    "GpawRelaxMaker",
    "PotentialRelaxMaker",
    "RetrainConfig",
    "RetrainMaker",
    "VaspDefectRelaxMaker",
    "VaspDefectSetGenerator",
    "defect_flow",
    "resolve_engine",
]

_HOMES = {
    "CalculatorRelaxMaker": "definet_flows.workflows.engines.calculator",
    "Campaign": "definet_flows.workflows.campaign.contents",
    "DefectFlowMaker": "definet_flows.workflows.campaign.flow",
    "ENGINES": "definet_flows.workflows.engines.base",
    "Engine": "definet_flows.workflows.engines.base",
    "GpawRelaxMaker": "definet_flows.workflows.engines.gpaw",
    "PotentialRelaxMaker": "definet_flows.workflows.engines.potential",
    "RetrainConfig": "definet_flows.workflows.learning.retrain",
    "RetrainMaker": "definet_flows.workflows.learning.retrain",
    "VaspDefectRelaxMaker": "definet_flows.workflows.engines.vasp.maker",
    "VaspDefectSetGenerator": "definet_flows.workflows.engines.vasp.maker",
    "defect_flow": "definet_flows.workflows.campaign.flow",
    "resolve_engine": "definet_flows.workflows.engines.base",
}

__getattr__, __dir__ = names_of(__name__, _HOMES)
