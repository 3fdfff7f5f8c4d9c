"""What lies in a reader's folder before a page begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from runs import write_run

from definet_flows import Choices, enumerate_configurations, make_host
from definet_flows.defects import build_structure
from definet_flows.hosts import to_structure


def old_runs() -> None:
    """Write a host and finished relaxations of its defects, whose atoms near the defect move outward."""
    lattice = Lattice.hexagonal(3.19, 5.19)
    gan = Structure.from_spacegroup("P6_3mc", lattice, ["Ga", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.377]])
    gan.to("GaN.cif")
    host = make_host("GaN.cif", (2, 2, 1))
    cell = to_structure(host)
    write_run(Path("old_runs", "bulk"), cell, cell)
    for configuration in enumerate_configurations(host, Choices(defects=("v_N", "O_N", "Mg_Ga"))):
        start = build_structure(host, configuration)
        site = cell[configuration.edits[0].site].coords
        write_run(Path("old_runs", configuration.name), start, _moved(start, site))


def _moved(start: Structure, site: np.ndarray) -> Structure:
    """Return the structure with the atoms within 2.5 Å of a site 0.1 Å farther from it."""
    end = start.copy()
    for near in start.get_sites_in_sphere(site, 2.5):
        away = near.coords - site
        if (length := np.linalg.norm(away)) > 0.1:
            end.translate_sites(near.index, 0.1 * away / length, frac_coords=False)
    return end
