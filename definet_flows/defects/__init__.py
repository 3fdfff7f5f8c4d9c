"""Supercell -> configurations; pure functions, no workflow engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows._lazy import names_of

if TYPE_CHECKING:
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

_HOMES = {
    "CandidateSites": "definet_flows.defects.sites.interstitials",
    "Choices": "definet_flows.defects.kinds",
    "ClassCount": "definet_flows.defects.enumeration",
    "DefectKind": "definet_flows.defects.kinds",
    "PRESETS": "definet_flows.defects.presets",
    "Recipe": "definet_flows.defects.presets",
    "Recovered": "definet_flows.defects.reading.recover",
    "Sampling": "definet_flows.defects.sampling",
    "SiteOperations": "definet_flows.defects.sites.symmetry",
    "build_structure": "definet_flows.defects.build",
    "candidate_sites": "definet_flows.defects.sites.interstitials",
    "canonical": "definet_flows.defects.sites.symmetry",
    "count_by_class": "definet_flows.defects.enumeration",
    "doped_name": "definet_flows.defects.reading.convert",
    "enumerate_configurations": "definet_flows.defects.enumeration",
    "from_doped_name": "definet_flows.defects.reading.convert",
    "from_pymatgen": "definet_flows.defects.reading.convert",
    "guess_charges": "definet_flows.defects.charges",
    "nodes": "definet_flows.defects.build",
    "place": "definet_flows.defects.build",
    "preset": "definet_flows.defects.presets",
    "read_configurations": "definet_flows.defects.files",
    "recover": "definet_flows.defects.reading.recover",
    "sample_concentration": "definet_flows.defects.sampling",
    "select_configurations": "definet_flows.defects.sampling",
    "site_operations": "definet_flows.defects.sites.symmetry",
    "stabilizer": "definet_flows.defects.sites.symmetry",
    "to_pymatgen": "definet_flows.defects.reading.convert",
    "unrelaxed_positions": "definet_flows.defects.build",
    "write_configurations": "definet_flows.defects.files",
}

__getattr__, __dir__ = names_of(__name__, _HOMES)
