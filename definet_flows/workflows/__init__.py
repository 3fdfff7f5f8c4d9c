"""Thin job shells, relaxation engines and flows."""

from __future__ import annotations

import os

from definet_flows.errors import InputError

try:
    import jobflow  # noqa: F401 - it reads its settings when it is imported
except ImportError:
    raise
except Exception as _error:  # noqa: BLE001 - YAML's, pydantic's, the file system's; they may quote a password
    _named = next((value for name, value in os.environ.items() if name.upper() == "JOBFLOW_CONFIG_FILE"), None)
    _file = "~/.jobflow.yaml" if _named is None else f"JOBFLOW_CONFIG_FILE={_named}"
    _msg = f"jobflow's settings, {_file}, cannot be used ({type(_error).__name__}): mend the file or name another"
    raise InputError(_msg) from None

from definet_flows.workflows.campaign.flow import DEFAULT_SUPERCELL, Campaign, DefectFlowMaker, defect_flow
from definet_flows.workflows.engines.base import ENGINES, Engine, resolve_engine
from definet_flows.workflows.engines.potential import PotentialRelaxMaker
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator
from definet_flows.workflows.learning.retrain import RetrainConfig, RetrainMaker

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
