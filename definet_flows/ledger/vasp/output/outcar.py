"""OUTCAR, whole or cut off, in a single pass: its counts, and the cell where there is no vasprun.xml.

Force evaluations by a machine-learned force field, whose tables and energies are marked `ML`, are counted apart: they
are no ionic steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from definet_flows.ledger.outcome import largest_force
from definet_flows.ledger.vasp.output.packed import Lines
from definet_flows.ledger.vasp.run import CONTROLS, OPTIMIZERS, VaspRun, are_numbers, force_criterion, number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LAST = {
    "energy": re.compile(r"^\s*energy  without entropy=.*energy\(sigma->0\) =\s*(\S+)"),
    "magnetization": re.compile(r"number of electron\s+\S+\s+magnetization\s+(\S+)"),
    "wall_seconds": re.compile(r"Elapsed time \(sec\):\s*(\S+)"),
    "cores": re.compile(r"running (?:on)?\s*(\d+) (?:total cores|mpi-ranks)"),
    "threads": re.compile(r"mpi-ranks, with\s+(\d+) threads"),
    "ediffg": re.compile(r"EDIFFG =\s*(\S+)\s+stopping-criterion"),
    "nelm": re.compile(r"NELM   =\s*(\d+);"),
}
_TELLING = re.compile("energy  without|number of electron|Elapsed time|running|mpi-rank|EDIFFG|NELM   |direct lattice")
_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
_ML = re.compile(r"TOTAL-FORCE \(eV/Angst\)\s*\(ML\)")
_NUMBER = re.compile(r"[-+]?\d+\.\d{9}|\*+|NaN", re.IGNORECASE)


@dataclass
class _Account:
    """Results read so far."""

    last: dict[str, float] = field(default_factory=dict)
    electronic: int = 0
    loop: int = 0
    forces: list[float] = field(default_factory=list)
    ml_steps: int = 0
    ends_by_ml: bool = False
    ended: bool = False
    cell: list[list[float]] = field(default_factory=list)
    first: tuple[list[list[float]], list[list[float]]] | None = None
    final: tuple[list[list[float]], list[list[float]]] | None = None

    def take_table(self, lines: Iterator[str], *, ml: bool) -> None:
        """Take in the table of positions and forces that begins here, unless it is cut off."""
        rows = _table(lines)
        if not rows:
            return
        self.ends_by_ml = ml
        if ml:
            self.ml_steps += 1
            return
        self.forces.append(largest_force([row[3:6] for row in rows]) or 0.0)
        self.final = self.cell, [row[:3] for row in rows]
        self.first = self.first or self.final

    def take_line(self, line: str, lines: Iterator[str]) -> None:
        if "direct lattice vectors" in line:
            cell = [[number(word) for word in _NUMBER.findall(next(lines, ""))[:3]] for _ in range(3)]
            self.cell = cell if all(len(row) == 3 for row in cell) else self.cell  # noqa: PLR2004
        else:
            self.last |= {name: number(found[1]) for name, form in _LAST.items() if (found := form.search(line))}


def read_outcar(path: Path) -> VaspRun:
    """Return the results in an OUTCAR."""
    seen, header = _Account(), _Header()
    source = Lines(path)
    lines = iter(source)
    for line in lines:
        if "TOTAL-FORCE" in line:
            seen.take_table(lines, ml=bool(_ML.search(line)))
        elif found := _ITERATION.search(line):
            seen.electronic, seen.loop = seen.electronic + 1, int(found[1])
        elif "General timing and accounting" in line:
            seen.ended = True
        else:
            if not (seen.electronic or seen.forces or seen.ml_steps):
                header.take_line(line, lines)
            if _TELLING.search(line):
                seen.take_line(line, lines)
    return _run(seen, header, source.damage)


def _run(seen: _Account, header: _Header, damage: str) -> VaspRun:
    last, forces, ended = seen.last, seen.forces, seen.ended and not damage
    cut = f"OUTCAR is cut off after {len(forces)} finished ionic steps"
    return VaspRun(
        ionic_steps=len(forces),
        electronic_steps=seen.electronic,
        finished=ended,
        electronically_converged=seen.loop < last["nelm"] if "nelm" in last else None,
        energy=last.get("energy"),
        start_max_force=forces[0] if forces else None,
        max_force=forces[-1] if forces else None,
        magnetization=last.get("magnetization"),
        force_criterion=force_criterion(last.get("ediffg")),
        optimizer=OPTIMIZERS.get(header.controls.get("IBRION", -1)),
        cores=int(last["cores"] * last.get("threads", 1)) if "cores" in last else None,
        wall_seconds=last.get("wall_seconds"),
        initial=header.structure(seen.first),
        final=header.structure(seen.final),
        charge=header.charge,
        valence=header.valence,
        surface=header.surface,
        controls=header.controls,
        began=header.began,
        ml_steps=seen.ml_steps,
        ends_by_ml=seen.ends_by_ml,
        sound=are_numbers(last.get("energy"), forces[-1] if forces else None),
        notes=() if ended else tuple(filter(None, (cut, damage))),
    )


def _table(lines: Iterator[str]) -> list[list[float]]:
    """Return positions and forces, [n_atoms, 6], of the table that begins here; empty if it is cut off."""
    next(lines, "")  # the rule above the table
    rows: list[list[float]] = []
    for line in lines:
        if "-----" in line:
            return rows
        rows.append([number(word) for word in line.split()[:6]])
        if len(rows[-1]) < 6:  # noqa: PLR2004 - numbers that touch each other, or none
            rows[-1] += [np.nan] * (6 - len(rows[-1]))
    return []


# ------------------------------------------------------------------ better known from vasprun.xml


_TAGS = frozenset(
    {"GGA", "METAGGA", "LMETAGGA", "LHFCALC", "AEXX", "HFSCREEN", "LUSE_VDW", "IVDW", "LSORBIT", "LDAUTYPE"}
    | {"ENCUT", "PREC", "ISPIN", "ISMEAR", "SIGMA", "LREAL", "LASPH", "LDAUU", "LDAUJ", "NELECT"}
)
_TAG = re.compile(r"\b([A-Z_]+)\s*=\s*([^\s;]+)")
_CONTROL = re.compile(rf"\b({'|'.join(CONTROLS)})\s*=\s*(-?\d+)\b")
_VALENCES = re.compile(r"POMASS =.*ZVAL\s*=\s*([\d.]+)")
_ELEMENT = re.compile(r"VRHFIN\s*=\s*([A-Z][a-z]?)")
_COUNTS = re.compile(r"ions per type =\s*(.*)")
_POTCAR = re.compile(r"POTCAR:\s+(\S+)\s*([A-Z][a-z]?)?")
_MESH = "k-points in reciprocal lattice and weights"
_BEGAN = re.compile(r"date (\d{4})[. ](\d\d)[. ](\d\d)\s+(\d\d:\d\d:\d\d)")


@dataclass
class _Header:
    """The part before the first iteration: species, valences, tags, k-points."""

    counts: list[int] = field(default_factory=list)
    valences: list[float] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    potcars: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    controls: dict[str, int] = field(default_factory=dict)
    mesh: list[list[float]] = field(default_factory=list)
    began: str | None = None

    def take_line(self, line: str, lines: Iterator[str]) -> None:
        if _MESH in line:
            rows = iter(lambda: next(lines, "").strip(), "")
            self.mesh = [[number(word) for word in row.split()[:3]] for row in rows]
        elif found := _VALENCES.search(line):
            self.valences.append(number(found[1]))
        elif found := _COUNTS.search(line):
            self.counts = [int(word) for word in found[1].split() if word.isdecimal()]
        elif found := _ELEMENT.search(line):
            self.elements.append(found[1])
        elif found := _POTCAR.search(line):
            self.potcars.add(found[1])
            self.listed.append(found[2] or "")
        elif found := _BEGAN.search(line):
            self.began = f"{found[1]} {found[2]} {found[3]} {found[4]}"
        else:
            self.tags |= {name: value for name, value in _TAG.findall(line) if name in _TAGS}
            self.controls |= {name: int(value) for name, value in _CONTROL.findall(line)}

    @property
    def valence(self) -> float | None:
        known = bool(self.counts) and len(self.counts) == len(self.valences)
        return sum(n * z for n, z in zip(self.counts, self.valences, strict=True)) if known else None

    @property
    def charge(self) -> float | None:
        electrons = number(self.tags.get("NELECT", ""))
        return self.valence - electrons if self.valence is not None and np.isfinite(electrons) else None

    @property
    def surface(self) -> dict[str, object]:
        """Settings of the energy surface; a vasprun.xml holds more, so the two are never taken for equal."""
        tags = {name: self.tags[name] for name in sorted(self.tags) if name != "NELECT"}
        return {**tags, "KPOINTS": self.mesh, "told by": "OUTCAR", "POTCAR": sorted(self.potcars)}

    def structure(self, frame: tuple[list[list[float]], list[list[float]]] | None) -> Structure | None:
        """Return cell and positions as a structure; None where species or cell are not there, or no numbers."""
        species = self.elements if len(self.elements) == len(self.counts) else self.listed[: len(self.counts)]
        if frame is None or not all(species) or len(species) != len(self.counts):
            return None
        cell, positions = frame
        if not cell or sum(self.counts) != len(positions) or not np.isfinite([*cell, *positions]).all():
            return None
        symbols = [symbol for symbol, n in zip(species, self.counts, strict=True) for _ in range(n)]
        try:
            return Structure(cell, symbols, positions, coords_are_cartesian=True)
        except ValueError:  # no element, or a cell without volume
            return None
