"""Time and memory of the enumeration, and the check of the whole published data set.

    python benchmarks/enumeration.py                  counts, seconds and peak memory on one core
    python benchmarks/enumeration.py FOLDER           every unrelaxed structure of 2DMD unpacked in FOLDER

The numbers recorded on one core of a shared 2-core x86-64 machine are in docs/enumeration.md.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from definet_flows.defects import (
    Choices,
    canonical,
    count_by_class,
    enumerate_configurations,
    preset,
    recover,
    unrelaxed_positions,
)
from definet_flows.hosts import make_host

IDEAL = 2e-3  # Å; the files' rounding
SETS = {
    "MoS2_500": "MoS2",
    "WSe2_500": "WSe2",
    "hBN_spin_500": "BN",
    "GaSe_spin_500": "GaSe",
    "InSe_spin_500": "InSe",
    "BP_spin_500": "P",
}


def peak() -> float:
    """Peak resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def low_density() -> None:
    """Time the published low-density sets at four sizes."""
    for name, repeat in (("MoS2", 4), ("MoS2", 6), ("MoS2", 8), ("WSe2", 8), ("MoS2", 12), ("MoS2", 16)):
        recipe = preset("2dmd-low", name)
        host = make_host(name, (repeat, repeat, 1))
        start = time.perf_counter()
        found = sum(1 for _ in enumerate_configurations(host, recipe.choices))
        seconds = time.perf_counter() - start
        print(f"{name} {repeat:2d} x {repeat:<2d} {found:8,d} configurations {seconds:7.2f} s {peak():6.0f} MB")


def inserted() -> None:
    """Time pairs of an inserted atom and a vacancy, candidate positions included."""
    for repeat in (4, 8):
        host = make_host("MoS2", (repeat, repeat, 1))
        choices = Choices(defects=("Li_i", "v_S"), max_on={"i": 1, "S": 1}, min_defects=2)
        start = time.perf_counter()
        found = sum(1 for _ in enumerate_configurations(host, choices))
        seconds = time.perf_counter() - start
        print(f"MoS2 {repeat:2d} x {repeat:<2d} {found:8,d} of v_S+Li_i       {seconds:7.2f} s {peak():6.0f} MB")


def stream(name: str, repeat: int, choices: Choices) -> None:
    """Time a composition with more than a million inequivalent placements."""
    host = make_host(name, (repeat, repeat, 1))
    start = time.perf_counter()
    found = sum(1 for _ in enumerate_configurations(host, choices))
    seconds = time.perf_counter() - start
    (row,) = count_by_class(host, choices)
    print(f"{row.name} in {name} {repeat} x {repeat}: {found:,} configurations, {row.placements:,} placements")
    print(f"   {seconds:.1f} s, {peak():.0f} MB at most")


def read(path: Path, c: float | None = None) -> Structure:
    """Read a CIF; set the lattice vector across the layer to `c` Å."""
    structure = Structure.from_file(path)
    if c is None:
        return structure
    matrix = structure.lattice.matrix.copy()
    matrix[2] = [0, 0, c]
    return Structure(matrix, structure.species, structure.cart_coords, coords_are_cartesian=True)


def check_low_density(root: Path) -> None:
    """Every low-density structure is another orbit of the enumeration."""
    for name in ("MoS2", "WSe2"):
        host = make_host(read(root / f"{name}.cif"), (8, 8, 1))
        orbits = set(enumerate_configurations(host, preset("2dmd-low", name).choices))
        files = sorted(root.glob(f"{name}/CIF*/*_unrelaxed.cif"))
        found = {canonical(host, recover(host, read(path)).configuration) for path in files}
        assert len(found) == len(files)
        assert found <= orbits
        print(f"low density {name}: {len(files)} structures are {len(found)} of {len(orbits)} orbits")


def check_high_density(root: Path) -> None:
    """Every high-density structure maps back to markers within the recipe, on the ideal sites."""
    for folder, name in SETS.items():
        recipe = preset("2dmd-high", name)
        host = make_host(read(root / f"{name}.cif", c=20.0), recipe.supercell)
        files = sorted(root.glob(f"{folder}/CIF/*_unrelaxed.cif"))
        found = set()
        for path in files:
            structure = read(path)
            recovered = recover(host, structure)
            numbers, _ = recovered.numbers_and_markers(host)
            kinds = [edit.name for edit in recovered.configuration.edits]
            assert np.array_equal(numbers[recovered.permutation], structure.atomic_numbers)
            assert all(kinds.count(kind) <= recipe.choices.max_per_kind[kind] for kind in kinds)
            assert len(kinds) in {int(c * host.n_sites) for c in recipe.sampling.concentrations}
            assert np.abs(recovered.positions - unrelaxed_positions(host, recovered.configuration)).max() < IDEAL
            found.add(canonical(host, recovered.configuration))
        print(f"high density {name}: {len(files)} structures, {len(found)} orbits")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="check the structures of 2DMD unpacked here")
    folder = parser.parse_args().folder
    warnings.filterwarnings("ignore", message=".*Å of vacuum|.*fractional coordinates rounded")
    if folder is not None:
        check_low_density(folder / "low_density_defects")
        check_high_density(folder / "high_density_defects")
        return
    low_density()
    inserted()
    stream(
        "MoS2", 8, Choices(defects=("v_S", "Se_S"), max_on={"S": 5}, min_defects=5, max_per_kind={"v_S": 3, "Se_S": 2})
    )


if __name__ == "__main__":
    main()
