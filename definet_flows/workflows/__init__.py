"""Thin job shells, relaxation engines and flows."""

from __future__ import annotations

from definet_flows.workflows.engines import ENGINES, Engine, resolve_engine
from definet_flows.workflows.flow import DEFAULT_SUPERCELL, Campaign, DefectFlowMaker, defect_flow
from definet_flows.workflows.forcefield import PotentialRelaxMaker
from definet_flows.workflows.retrain import RetrainConfig, RetrainMaker
from definet_flows.workflows.vasp import VaspDefectRelaxMaker, VaspDefectSetGenerator

__all__ = [
    "DEFAULT_SUPERCELL",
    "ENGINES",
    "Campaign",
    "DefectFlowMaker",
    "Engine",
    "PotentialRelaxMaker",
    "RetrainConfig",
    "RetrainMaker",
    "VaspDefectRelaxMaker",
    "VaspDefectSetGenerator",
    "defect_flow",
    "resolve_engine",
]
