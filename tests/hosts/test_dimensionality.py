"""The dimensionality of bonded networks: what pymatgen's own module finds."""

import numpy as np
import pytest
from pymatgen.analysis.dimensionality import get_dimensionality_larsen
from pymatgen.analysis.graphs import StructureGraph
from pymatgen.core import Lattice, Structure

from definet_flows.hosts import load_structure, shipped_hosts
from definet_flows.hosts.layer import _bonds, bonded_dimensionality


def by_pymatgen(structure: Structure) -> int:
    edges = {
        (int(i), int(j), (0, 0, 0), tuple(map(int, image))): None
        for i, j, image in zip(*_bonds(structure), strict=True)
        if (i, 0, 0, 0) < (j, *image)
    }
    return int(get_dimensionality_larsen(StructureGraph.from_edges(structure, edges)))


@pytest.mark.parametrize("host", shipped_hosts())
def test_shipped_hosts_are_layers(host):
    assert bonded_dimensionality(load_structure(host)) == by_pymatgen(load_structure(host)) == 2


@pytest.mark.parametrize(
    ("cell", "expected"),
    [((8, 8, 8), 0), ((1.5, 8, 8), 1), ((1.5, 1.5, 8), 2), ((1.5, 1.5, 1.5), 3)],
    ids=["atom", "chain", "sheet", "crystal"],
)
def test_an_atom_and_its_images(cell, expected):
    structure = Structure(Lattice.orthorhombic(*cell), ["C"], [[0, 0, 0]])
    assert bonded_dimensionality(structure) == by_pymatgen(structure) == expected


def test_random_structures_are_as_pymatgen_has_them():
    random = np.random.default_rng(0)
    found = []
    for _ in range(60):
        count = int(random.integers(1, 9))
        cell = Lattice(np.diag(random.uniform(2, 9, 3)) + random.normal(scale=0.5, size=(3, 3)))
        structure = Structure(cell, ["C"] * count, random.uniform(size=(count, 3)))
        found.append(bonded_dimensionality(structure))
        assert found[-1] == by_pymatgen(structure)
    assert {0, 1, 3} <= set(found)
