"""INCAR, POSCAR, KPOINTS and POTCAR, read as strictly as VASP reads them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np


class BadInputError(Exception):
    """VASP would stop here, with this message."""


def read_incar():
    """Return the tags with their values as text."""
    tags = {}
    for line in re.split(r"[\n;]", Path("INCAR").read_text()):
        name, equals, value = line.split("#")[0].partition("=")
        if equals:
            tags[name.strip().upper()] = value.strip()
    return tags


def read_poscar():
    """Return lattice [3, 3], symbols by atom, and fractional coordinates [n, 3]."""
    lines = Path("POSCAR").read_text().splitlines()
    lattice = float(lines[1]) * np.array([line.split() for line in lines[2:5]], dtype=float)
    species, counts = lines[5].split(), [int(word) for word in lines[6].split()]
    if not lines[7].strip().lower().startswith("d"):
        raise BadInputError("only direct coordinates")
    rows = lines[8 : 8 + sum(counts)]
    coords = np.array([row.split()[:3] for row in rows], dtype=float)
    return lattice, species, counts, coords


def read_potcar(species):
    """Return TITEL and ZVAL of each species, which must be those of the POSCAR in its order."""
    text = Path("POTCAR").read_text()
    titles = [title.strip() for title in re.findall(r"TITEL\s*=(.*)", text)]
    valences = [float(value) for value in re.findall(r"ZVAL\s*=\s*([\d.]+)", text)]
    elements = [title.split()[1].split("_")[0] for title in titles]
    if elements != species:
        raise BadInputError(
            f"ERROR: number of potentials on File POTCAR incompatible with number of species: {elements}, {species}"
        )
    return titles, valences


def check_kpoints():
    """Refuse k-points that are not a Gamma-centred mesh of one point; return nothing."""
    lines = Path("KPOINTS").read_text().splitlines()
    if not lines[2].lower().startswith("g") or lines[3].split() != ["1", "1", "1"]:
        raise BadInputError(f"the stand-in knows Gamma only, not {lines[2:4]}")
