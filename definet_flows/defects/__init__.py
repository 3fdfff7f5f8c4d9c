"""Supercell -> configurations; pure functions, no workflow engine."""

from __future__ import annotations

from definet_flows.defects.build import build_structure, nodes, place, unrelaxed_positions
from definet_flows.defects.charges import guess_charges
from definet_flows.defects.enumeration import ClassCount, count_by_class, enumerate_configurations
from definet_flows.defects.files import read_configurations, write_configurations
from definet_flows.defects.kinds import Choices, DefectKind
from definet_flows.defects.presets import PRESETS, Recipe, preset
from definet_flows.defects.reading.convert import doped_name, from_doped_name, from_pymatgen, to_pymatgen
from definet_flows.defects.reading.recover import Recovered, recover
from definet_flows.defects.sampling import Sampling, sample_concentration, select_configurations
from definet_flows.defects.sites.interstitials import CandidateSites, candidate_sites
from definet_flows.defects.sites.symmetry import SiteOperations, canonical, site_operations, stabilizer

__all__ = [
    "PRESETS",
    "CandidateSites",
    "Choices",
    "ClassCount",
    "DefectKind",
    "Recipe",
    "Recovered",
    "Sampling",
    "SiteOperations",
    "build_structure",
    "candidate_sites",
    "canonical",
    "count_by_class",
    "doped_name",
    "enumerate_configurations",
    "from_doped_name",
    "from_pymatgen",
    "guess_charges",
    "nodes",
    "place",
    "preset",
    "read_configurations",
    "recover",
    "sample_concentration",
    "select_configurations",
    "site_operations",
    "stabilizer",
    "to_pymatgen",
    "unrelaxed_positions",
    "write_configurations",
]
