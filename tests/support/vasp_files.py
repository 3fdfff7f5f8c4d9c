"""Folders of VASP output as a test wants them, written by the stand-in's own writer, without running it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from vasp_helpers import STANDIN

from definet_flows.hosts import make_host

sys.path.insert(0, str(STANDIN))
from output import Output

CU = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
HOST = make_host(CU, (2, 2, 2))
TAGS = {"NSW": "50", "IBRION": "2", "ISIF": "2", "EDIFFG": "-0.05", "NELM": "60", "ENMAX": "400"}


def vacancy(shift=0.0):
    """Return the host without its first atom; its neighbours moved towards the vacancy by up to `shift`, Å."""
    cell = CU * (2, 2, 2)
    hole = cell[0].coords
    cell.remove_sites([0])
    for k, site in enumerate(cell):
        way = _way(cell, site, hole)
        length = np.linalg.norm(way)
        if length < 3.0:
            cell.translate_sites([k], shift * way / length, frac_coords=False)
    return cell


def _way(cell, site, hole):
    frac = cell.lattice.get_fractional_coords(hole) - site.frac_coords
    return cell.lattice.get_cartesian_coords(frac - np.rint(frac))


def write_run(
    folder, shifts=(), *, cells=None, energy=-100.0, charge=0.0, last_force=0.01, ended=True, date="2024 01 01", **tags
):
    """Write a relaxation of the vacancy through shifts of its neighbours, or through cells; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        cells = cells or [vacancy(shift) for shift in shifts]
        electrons = {"NELECT": str(len(cells[0]) - charge)} if charge else {}
        every = {**TAGS, **electrons, **{name: str(value) for name, value in tags.items()}}
        kinds, potcar = (["Cu"], [len(cells[0])]), (["PAW_PBE Cu"], [1.0])
        output = Output(dict(every), cells[0].lattice.matrix, kinds, potcar, cells[0].frac_coords)
        for step, cell in enumerate(cells, start=1):
            output.coords = cell.frac_coords
            output.electronic(step, 1, energy)
            output.electronic(step, 2, energy)
            size = last_force if step == len(cells) else 0.5
            output.ionic(step, energy, np.tile([size, 0.0, 0.0], (len(cell), 1)))
        if ended:
            output.end("")
        for file in (output.outcar, output.oszicar, output.xml, output.xdatcar):
            file.close()
    finally:
        os.chdir(before)
    xml = folder / "vasprun.xml"
    xml.write_text(re.sub(r'(name="date" type="string">)[^<]*', rf"\g<1>{date} ", xml.read_text()))
    (folder / "POSCAR").write_text(cells[0].to(fmt="poscar"))
    (folder / "INCAR").write_text("\n".join(f"{name} = {value}" for name, value in every.items()))
    return folder
