"""The default supercell: the smallest whose periodic images are 12 Å apart, of a layer in its plane."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from definet_flows.hosts import IMAGES_APART, make_host
from definet_flows.hosts.cell import near_images
from definet_flows.hosts.layer import layer_axis

_TURNS = tuple(np.array(n) for n in itertools.product(range(-9, 10), repeat=3) if any(n))


def bulk(*parameters):
    """A crystal of one atom in a cell with these lengths and angles."""
    return Structure(Lattice.from_parameters(*parameters), ["Cu"], [[0.1, 0.2, 0.3]])


BULK = {
    "cubic": bulk(4.2, 4.2, 4.2, 90, 90, 90),
    "face-centred, primitive": bulk(2.55, 2.55, 2.55, 60, 60, 60),
    "body-centred, primitive": bulk(2.5, 2.5, 2.5, 109.4712, 109.4712, 109.4712),
    "hexagonal": bulk(3.2, 3.2, 5.2, 90, 90, 120),
    "flat": bulk(3.0, 6.1, 12.5, 90, 90, 90),
    "oblique": bulk(3.1, 4.3, 5.4, 71, 98, 112),
    "very oblique": bulk(3.0, 5.0, 4.0, 80, 85, 35),
    "large": bulk(13.0, 14.0, 15.0, 90, 100, 90),
}


def layer(axis, *, gamma=120.0, tilt=0.0):
    """A flat layer of h-BN's distances; the lattice vector `axis` crosses 20 Å of vacuum, at an angle if `tilt`."""
    plane = Lattice.from_parameters(2.5, 2.9, 20.0, 90, 90, gamma).matrix.copy()
    plane[2] += tilt * plane[0]
    order = np.roll(np.arange(3), axis - 2)
    places = np.array([[0.0, 0.0, 0.5], [1 / 3, 2 / 3, 0.5]])
    made = Structure(Lattice(plane[order]), ["B", "N"], places[:, order])
    assert layer_axis(made) == axis
    return made


LAYERS = {
    f"vacuum along {'abc'[axis]}, {name}": (axis, layer(axis, **shape))
    for axis in range(3)
    for name, shape in {
        "hexagonal": {},
        "rectangular": {"gamma": 90.0},
        "oblique": {"gamma": 74.0},
        "oblique, vacuum at an angle": {"gamma": 105.0, "tilt": 2.0},
    }.items()
}


def distance(cell, axes):
    """Shortest combination of the lattice vectors `axes`, by trying all."""
    some = np.array([n for n in _TURNS if not any(n[axis] for axis in set(range(3)) - set(axes))])
    return float(np.linalg.norm(some @ cell, axis=1).min())


def check(unit, axes):
    host = make_host(unit, dimensionality=len(axes))
    repeat = np.diag(np.array(host.matrix))
    assert np.array_equal(np.diag(repeat), host.matrix)
    assert all(repeat[axis] == 1 for axis in set(range(3)) - set(axes))
    assert distance(np.array(host.lattice), axes) >= IMAGES_APART - 1e-6
    cell = unit.lattice.matrix
    ranges = [range(1, int(np.prod(repeat)) + 1) if axis in axes else (1,) for axis in range(3)]
    smaller = [n for n in itertools.product(*ranges) if np.prod(n) < np.prod(repeat)]
    assert all(distance(np.array(n)[:, None] * cell, axes) < IMAGES_APART for n in smaller if max(n) < 10)
    assert near_images(host) is None
    told = host.provenance["supercell"]
    assert told.startswith(" x ".join(map(str, repeat)))
    assert told.endswith(f"{distance(np.array(host.lattice), axes):.1f} Å")
    assert ("in the plane" in told) == (len(axes) == 2)


@pytest.mark.parametrize("name", BULK)
def test_a_crystal_repeats_until_its_images_are_apart_and_no_further(name):
    check(BULK[name], [0, 1, 2])


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_repeats_in_its_plane_alone(name):
    axis, unit = LAYERS[name]
    check(unit, [k for k in range(3) if k != axis])


def test_what_is_asked_for_is_not_replaced():
    assert np.array_equal(make_host("MoS2", (8, 8, 1)).matrix, np.diag([8, 8, 1]))
    assert "supercell" not in make_host("MoS2", (8, 8, 1)).provenance
    assert make_host("MoS2", 15.0).provenance["supercell"].startswith("5 x 5 x 1, the smallest with periodic images at")
    assert make_host("MoS2") == make_host("MoS2", IMAGES_APART)
