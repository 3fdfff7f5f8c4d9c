"""What the stand-in computes instead of quantum mechanics: Morse bonds, and VASP's three optimisers in outline."""

from __future__ import annotations

import numpy as np

DEPTH, STIFFNESS, CUTOFF, ONSET = 0.35, 1.3, 3.5, 3.0  # eV, 1/Å, Å, Å
RADII = {"Cu": 1.36, "Ni": 1.24, "Zn": 1.33}
TRIAL = 0.2  # length of a conjugate-gradient trial step over POTIM times force, Å²/eV


def energy_and_forces(lattice, symbols, coords):
    """Return the energy (eV) and forces [n, 3] (eV/Å) of Morse bonds that end smoothly at the cutoff."""
    radii = np.array([RADII.get(symbol, 1.3) for symbol in symbols])
    vectors = coords[None] - coords[:, None]
    frac = vectors @ np.linalg.inv(lattice)
    vectors = (frac - np.rint(frac)) @ lattice
    lengths = np.linalg.norm(vectors, axis=2)
    np.fill_diagonal(lengths, np.inf)
    near = lengths < CUTOFF
    r = np.where(near, lengths, CUTOFF)
    bond = np.exp(-STIFFNESS * (r - radii[:, None] - radii[None]))
    value, slope = DEPTH * (bond**2 - 2 * bond), -2 * DEPTH * STIFFNESS * (bond**2 - bond)
    t = np.clip((CUTOFF - r) / (CUTOFF - ONSET), 0, 1)
    window, steep = t * t * (3 - 2 * t), -6 * t * (1 - t) / (CUTOFF - ONSET)
    slope = slope * window + value * steep
    forces = ((slope / r * near)[..., None] * vectors).sum(axis=1)
    return float((value * window).sum() / 2 - 3.0 * len(symbols)), forces


def relaxation(ibrion, potim):
    """Return a coroutine that is sent forces and yields the displacement to the next positions [n, 3], Å."""
    made = _conjugate_gradient(potim) if ibrion == 2 else _quasi_newton(potim)
    next(made)
    return made


def _conjugate_gradient(potim):
    """One line search is a trial and a corrector; a direction is searched from the corrector on."""
    forces = yield
    direction = forces
    while True:
        slope = float((forces * direction).sum())
        if slope <= 0:
            direction, slope = forces, float((forces**2).sum())
        trial = TRIAL * potim
        at_trial = yield trial * direction
        change = slope - float((at_trial * direction).sum())
        best = np.clip(trial * slope / change if change > 0 else 4 * trial, 0.1 * trial, 8 * trial)
        new = yield (best - trial) * direction
        gamma = max(0.0, float((new * (new - forces)).sum() / (forces**2).sum()))
        direction, forces = new + gamma * direction, new


def _quasi_newton(potim):
    forces = yield
    step = TRIAL * potim * forces
    while True:
        new = yield step
        change = forces - new
        length = float((step * change).sum() / max((change**2).sum(), 1e-12))
        step, forces = np.clip(length, 0.02, 1.0) * new, new
