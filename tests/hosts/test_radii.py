"""Covalent radii are those that the gate's limits were found with."""

from __future__ import annotations

import pytest
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Element

from definet_flows.hosts.radii import covalent_radius


@pytest.mark.parametrize("symbol", sorted(CovalentRadius.radius))
def test_radii_are_those_of_pymatgen(symbol):
    assert covalent_radius(Element(symbol).Z) == CovalentRadius.radius[symbol]


def test_elements_beyond_curium_get_its_radius():
    assert covalent_radius(97) == covalent_radius(118) == CovalentRadius.radius["Cm"]
