"""The defects of Fig. 6 of the paper, in layers MX2: a row of vacancies, one and two vacancies, and the trefoil."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import find_mic
from pymatgen.core import Element

from definet_flows.defects.build import edit_of
from definet_flows.defects.kinds import DefectKind
from definet_flows.schemas import Configuration

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray, Host

_ONE_COLUMN = 0.1
"""Å: sites nearer than this in the plane lie in a column."""


@dataclass(frozen=True)
class Picture:
    """A defect of a layer.

    Attributes
    ----------
    host
        The pristine supercell.
    vacant
        Sites without an atom.
    turned
        Sites whose atoms are turned by 60 degrees in the plane about the site `centre`.
    """

    name: str
    host: Host
    vacant: tuple[int, ...]
    turned: tuple[int, ...] = ()
    centre: int = 0

    @property
    def configuration(self) -> Configuration:
        """The vacancies."""
        element = Element.from_Z(self.host.numbers[self.vacant[0]]).symbol
        return Configuration(edits=tuple(edit_of(DefectKind.parse(f"v_{element}"), site) for site in self.vacant))

    def placed(self, positions: FloatArray) -> FloatArray:
        """Return positions of the host's sites with the turned atoms in their places, Å, [n_sites, 3]."""
        placed, middle = positions.copy(), positions[self.centre]
        for site in self.turned:
            (arm,), _ = find_mic([positions[site] - middle], self.host.lattice)
            placed[site] = middle + _SIXTH @ arm
        return placed

    @property
    def turned_host(self) -> Host:
        """The host with the turned atoms in their places: what the network is shown."""
        fractions = self.placed(self.host.cartesian) @ np.linalg.inv(self.host.lattice)
        return self.host.model_copy(update={"frac_coords": tuple(map(tuple, fractions % 1.0))})

    @property
    def atoms(self) -> np.ndarray:
        """Whether a site has an atom, [n_sites]."""
        there = np.ones(self.host.n_sites, dtype=bool)
        there[list(self.vacant)] = False
        return there

    def near(self, radius: float) -> np.ndarray:
        """Return which sites are less than a radius, Å, from a vacant site or from the centre of the trefoil."""
        marked = [*self.vacant, *([self.centre] if self.turned else [])]
        return self._layer.apart[:, marked].min(1) < radius

    @cached_property
    def rims(self) -> tuple[tuple[int, ...], ...]:
        """The three metal sites around each vacant site."""
        metals = self._layer.metals
        return tuple(tuple(metals[np.argsort(self._layer.apart[site][metals])[:3]].tolist()) for site in self.vacant)

    def across(self, positions: FloatArray) -> float:
        """Return the mean distance of the metal atoms around a vacant site, Å; positions [n_sites, 3]."""
        pairs = np.array([(rim[i], rim[j]) for rim in self.rims for i, j in ((0, 1), (0, 2), (1, 2))])
        between = positions[pairs[:, 0]] - positions[pairs[:, 1]]
        return float(find_mic(between, self.host.lattice)[1].mean())

    def arms(self, positions: FloatArray) -> float | None:
        """Return the mean distance of the turned atoms from the centre, Å; None where none is turned."""
        if not self.turned:
            return None
        between = positions[list(self.turned)] - positions[self.centre]
        return float(find_mic(between, self.host.lattice)[1].mean())

    @cached_property
    def _layer(self) -> _Layer:
        return _Layer(self.host)


_SIXTH = np.array([[0.5, -(3**0.5) / 2, 0.0], [3**0.5 / 2, 0.5, 0.0], [0.0, 0.0, 1.0]])


class _Layer:
    """Distances and columns of a pristine layer MX2.

    Attributes
    ----------
    metals, chalcogens
        Sites of each.
    apart, in_plane
        Distances between sites, and those of their places in the plane, Å, [n_sites, n_sites].
    """

    def __init__(self, host: Host) -> None:
        numbers = np.array(host.numbers)
        elements, counts = np.unique(numbers, return_counts=True)
        self.metals = np.flatnonzero(numbers == elements[counts.argmin()])
        self.chalcogens = np.flatnonzero(numbers == elements[counts.argmax()])
        between = (host.cartesian[:, None] - host.cartesian[None]).reshape(-1, 3)
        shape = (host.n_sites, host.n_sites)
        self.apart = find_mic(between, host.lattice)[1].reshape(shape)
        flat = find_mic(between, host.lattice)[0].reshape(*shape, 3)[..., :2]
        self.in_plane = np.linalg.norm(flat, axis=-1)

    def column(self, site: int) -> tuple[int, ...]:
        """Return the chalcogen sites above and below each other at a site."""
        return tuple(int(s) for s in self.chalcogens if self.in_plane[site, s] < _ONE_COLUMN)

    def shells(self, site: int) -> list[tuple[int, ...]]:
        """Return the chalcogen sites around a site, in shells by their distance in the plane."""
        distances = np.round(self.in_plane[site, self.chalcogens], 2)
        return [tuple(self.chalcogens[distances == d].tolist()) for d in np.unique(distances)]


def single(host: Host) -> Picture:
    """Return one vacancy of the upper chalcogen."""
    return replace(row(host, 1), name="single vacancy")


def double(host: Host) -> Picture:
    """Return two vacancies above each other."""
    return Picture("double vacancy", host, _Layer(host).column(single(host).vacant[0]))


def row(host: Host, length: int) -> Picture:
    """Return a straight row of vacancies of the upper chalcogens, along the first lattice vector."""
    layer, step = _Layer(host), np.array(host.lattice[0]) / np.array(host.matrix)[0][0]
    first = max(layer.chalcogens.tolist(), key=lambda site: round(host.cartesian[site, 2], 2))
    wanted = host.cartesian[first] + np.arange(length)[:, None] * step
    distances = [find_mic(host.cartesian - place, host.lattice)[1] for place in wanted]
    return Picture("row of vacancies", host, tuple(int(d.argmin()) for d in distances))


def trefoil(host: Host) -> Picture:
    """Return the trefoil of doi:10.1038/ncomms7736.

    The three columns of chalcogens around a metal atom are turned by 60 degrees about it, into the empty places of the
    layer. The three columns that would be too near to them are vacant.
    """
    layer = _Layer(host)
    centre = int(layer.metals[0])
    turned, vacant = layer.shells(centre)[:2]
    return Picture("trefoil", host, vacant, turned, centre)
