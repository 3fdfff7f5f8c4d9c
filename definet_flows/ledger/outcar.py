"""OUTCAR, whole or cut off: what it counts, and what it tells of the cell where there is no vasprun.xml."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from pymatgen.io.ase import AseAtomsAdaptor

from definet_flows.ledger.outcome import largest_force
from definet_flows.ledger.run import OPTIMIZERS, VaspRun, force_criterion, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ase import Atoms
    from pymatgen.core import Structure

_LAST = {
    "energy": re.compile(r"energy  without entropy=.*energy\(sigma->0\) =\s*(\S+)"),
    "magnetization": re.compile(r"number of electron\s+\S+\s+magnetization\s+(\S+)"),
    "wall_seconds": re.compile(r"Elapsed time \(sec\):\s*(\S+)"),
    "cores": re.compile(r"running (?:on)?\s*(\d+) (?:total cores|mpi-ranks)"),
    "threads": re.compile(r"mpi-ranks, with\s+(\d+) threads"),
    "ediffg": re.compile(r"EDIFFG =\s*(\S+)\s+stopping-criterion"),
    "ibrion": re.compile(r"IBRION =\s*(-?\d+)\s+ionic relax"),
    "nelm": re.compile(r"NELM   =\s*(\d+);"),
}
_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")


def read_outcar(path: Path) -> VaspRun:
    """Return what an OUTCAR counts; see `with_cell` for the rest."""
    last: dict[str, float] = {}
    electronic, loop, forces, ended = 0, 0, [], False
    lines = lines_of(path)
    for line in lines:
        if "TOTAL-FORCE" in line:
            forces.extend(_force_table(lines))
        elif found := _ITERATION.search(line):
            electronic, loop = electronic + 1, int(found[1])
        elif "General timing and accounting" in line:
            ended = True
        else:
            last |= {name: float(found[1]) for name, form in _LAST.items() if (found := form.search(line))}
    return VaspRun(
        ionic_steps=len(forces),
        electronic_steps=electronic,
        finished=ended,
        electronically_converged=loop < last["nelm"] if "nelm" in last else None,
        energy=last.get("energy"),
        start_max_force=forces[0] if forces else None,
        max_force=forces[-1] if forces else None,
        magnetization=last.get("magnetization"),
        force_criterion=force_criterion(last.get("ediffg")),
        optimizer=OPTIMIZERS.get(int(last.get("ibrion", -1))),
        cores=int(last["cores"] * last.get("threads", 1)) if "cores" in last else None,
        wall_seconds=last.get("wall_seconds"),
        notes=() if ended else (f"OUTCAR is cut off after {len(forces)} finished ionic steps",),
    )


def _force_table(lines: Iterator[str]) -> list[float]:
    """Return the largest force of the table that begins here, as a list of one; empty if it is cut off."""
    next(lines, "")  # the rule above the table
    rows: list[list[float]] = []
    for line in lines:
        if "-----" in line:
            return [largest_force(rows) or 0.0]
        rows.append([_number(word) for word in line.split()[3:6]])
    return []


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:  # ******: too large to print
        return float(np.inf)


# ------------------------------------------------------------------ what vasprun.xml tells better


_TAGS = frozenset(
    {"GGA", "METAGGA", "LMETAGGA", "LHFCALC", "AEXX", "HFSCREEN", "LUSE_VDW", "IVDW", "LSORBIT", "LDAUTYPE"}
    | {"ENCUT", "PREC", "ISPIN", "ISMEAR", "SIGMA", "LREAL", "LASPH", "LDAUU", "LDAUJ", "NELECT"}
)
_TAG = re.compile(r"\b([A-Z_]+)\s*=\s*([^\s;]+)")
_VALENCES = re.compile(r"POMASS =.*ZVAL\s*=\s*([\d.]+)")
_COUNTS = re.compile(r"ions per type =\s*(.*)")
_POTCAR = re.compile(r"POTCAR:\s+(\S+)")
_MESH = "k-points in reciprocal lattice and weights"


def with_cell(run: VaspRun, path: Path) -> VaspRun:
    """Return a run with structures, charge and energy surface as its OUTCAR tells them."""
    counts, valences, potcars, tags, mesh = _header(path)
    initial, final = _ends(path)
    electrons = sum(n * z for n, z in zip(counts, valences, strict=False))
    known = bool(counts) and len(counts) == len(valences) and "NELECT" in tags
    # what an OUTCAR leaves out, a vasprun.xml has: their surfaces are never taken for the same
    surface = {**{name: tags[name] for name in sorted(tags) if name != "NELECT"}, "KPOINTS": mesh, "told by": "OUTCAR"}
    return replace(
        run,
        initial=initial,
        final=final,
        charge=electrons - float(tags["NELECT"]) if known else None,
        surface={**surface, "POTCAR": sorted(potcars)},
    )


def _header(path: Path) -> tuple[list[int], list[float], set[str], dict[str, str], list[list[float]]]:
    """Return atoms and valence electrons by species, kinds of POTCARs, tags, and k-points [n, 3]."""
    counts: list[int] = []
    valences: list[float] = []
    potcars: set[str] = set()
    tags: dict[str, str] = {}
    mesh: list[list[float]] = []
    lines = lines_of(path)
    for line in lines:
        if _ITERATION.search(line):
            break
        if _MESH in line:
            mesh = [[float(word) for word in row.split()[:3]] for row in iter(lambda: next(lines, "").strip(), "")]
        elif found := _VALENCES.search(line):
            valences.append(float(found[1]))
        elif found := _COUNTS.search(line):
            counts = [int(word) for word in found[1].split()]
        elif found := _POTCAR.search(line):
            potcars.add(found[1])
        else:
            tags |= {name: value for name, value in _TAG.findall(line) if name in _TAGS}
    return counts, valences, potcars, tags, mesh


def _ends(path: Path) -> tuple[Structure | None, Structure | None]:
    """Return the first and the last Structure whose forces an OUTCAR holds; None without."""
    from ase.io import read  # noqa: PLC0415 - ASE's formats take a second to load

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on blocks of other versions; what is missing is None
            frames = cast("list[Atoms]", read(path, index=":", format="vasp-out"))
    except Exception:  # noqa: BLE001  # a file cut off anywhere fails in many ways
        return None, None
    if not frames:
        return None, None
    first, last = (AseAtomsAdaptor.get_structure(frames[k]) for k in (0, -1))
    return first, last
