"""Simulated images of a scanning transmission electron microscope, by abTEM."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

if TYPE_CHECKING:
    from definet_flows.schemas import FloatArray

REMEDY = "abTEM is missing, so the pictures have no simulated images: pip install abtem"
ENERGY, APERTURE, DETECTOR = 60e3, 30, (70, 180)
"""Of the beam, eV; of the probe, mrad; inner and outer angle of the annular detector, mrad."""
_FINE, _COARSE, _PIXEL, _SOURCE = 0.09, 0.4, 0.15, 0.35
"""Å: sampling of the potential, steps of the probe, pixels of the image, blur of the source."""
_RIM, _BLURRED = 4.0, 1.2
"""Å: atoms beyond the image on each side, and what the blur spoils there."""


def installed() -> bool:
    """Whether abTEM can be imported."""
    return find_spec("abtem") is not None


def image(atoms: Atoms, middle: FloatArray, width: float) -> np.ndarray:
    """Return the intensity of the annular detector around a point of a layer, [n, n], rows along x.

    Parameters
    ----------
    atoms
        The layer, periodic.
    middle
        Centre of the image, Å, [3].
    width
        Of the image, Å.
    """
    import abtem  # noqa: PLC0415 - not a dependency

    abtem.config.set({"diagnostics.progress_bar": False, "dask.lazy": True})
    box = _box(atoms, middle, width + 2 * _RIM)
    probe = abtem.Probe(energy=ENERGY, semiangle_cutoff=APERTURE)
    potential = abtem.Potential(box, sampling=_FINE, slice_thickness=2)
    first, last = _RIM - _BLURRED, _RIM + width + _BLURRED
    scan = abtem.GridScan(start=(first, first), end=(last, last), sampling=_COARSE)
    measured = probe.scan(potential, scan=scan, detectors=abtem.AnnularDetector(*DETECTOR)).compute()
    whole = np.asarray(measured.interpolate(_PIXEL).gaussian_filter(_SOURCE, boundary="reflect").array)
    cut = round(_BLURRED / _PIXEL)
    return whole[cut:-cut, cut:-cut]


def _box(atoms: Atoms, middle: FloatArray, side: float) -> Atoms:
    """Return the atoms in a square around a point, in a box that begins at its corner."""
    repeated = atoms.repeat((2, 2, 1))
    ways = np.array([[i, j, 0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ np.asarray(repeated.cell)
    near = find_mic(repeated.positions - middle, repeated.cell)[0]
    every = (near[:, None] + ways[None]).reshape(-1, 3)
    numbers = np.repeat(repeated.numbers, len(ways))
    inside = (np.abs(every[:, :2]) < side / 2).all(1)
    low = every[inside, 2].min()
    placed = every[inside] + [side / 2, side / 2, 0]
    placed[:, 2] += 2 - low
    return Atoms(numbers[inside], placed, cell=[side, side, placed[:, 2].max() + 2], pbc=True)
