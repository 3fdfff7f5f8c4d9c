"""Finished relaxations by VASP of any crystal, as the stand-in writes them, without running it."""

from __future__ import annotations

import contextlib
import io
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

sys.path.insert(0, str(Path(__file__).parent / "vasp_standin"))

from output import Output

TAGS = {"IBRION": "2", "NSW": "5", "EDIFFG": "-0.01", "ENCUT": "500", "GGA": "PE", "ISIF": "2", "ISPIN": "2"}


def write_run(folder: Path, start: Structure, end: Structure, swelling: float = 1.0) -> None:
    """Write a relaxation of two steps from `start` to `end`: same atoms, and the same cell if nothing swells."""
    folder.mkdir(parents=True)
    order = np.argsort(start.atomic_numbers, kind="stable")
    symbols = [start[int(k)].specie.symbol for k in order]
    species = [(symbol, len(list(group))) for symbol, group in groupby(symbols)]
    names, counts = (list(one) for one in zip(*species, strict=True))
    potcar = ([f"PAW_PBE {name} 01Jan2000" for name in names], [2.0] * len(names))
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        output = Output(dict(TAGS), start.lattice.matrix, (names, counts), potcar, start.frac_coords[order])
        output.electronic(1, 1, -10.0)
        output.ionic(1, -10.0, np.full((len(start), 3), 0.1))
        output.move((end.frac_coords - start.frac_coords)[order] @ start.lattice.matrix)
        output.lattice = swelling * output.lattice
        output.electronic(2, 1, -11.0)
        output.ionic(2, -11.0, np.full((len(start), 3), 0.001))
        output.end("reached required accuracy - stopping structural energy minimisation")
        for file in (output.outcar, output.oszicar, output.xml, output.xdatcar):
            file.close()
