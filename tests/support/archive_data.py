"""The published data where it is at hand, and small archives of the same layout written by tests."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from ase.data import chemical_symbols
from ase.geometry import cell_to_cellpar

from definet_flows.defects import build_structure, nodes, unrelaxed_positions
from definet_flows.hosts import load_structure
from definet_flows.schemas import Configuration, FloatArray, Host


def archive() -> Path:
    """Folder of the published data, or skip."""
    given = os.environ.get("DEFINET_2DMD")
    path = Path(given) if given else Path(__file__).parents[3] / "shared" / "2dmd"
    if not path.is_dir():
        pytest.skip(f"2DMD is not here: neither DEFINET_2DMD nor {path.name} beside the repository")
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Lists, hosts and a sample of the pairs (one id in 40, where the archive has to be unpacked)."""
    source = archive()
    if (source / "low_density_defects").is_dir():
        return source
    folder = tmp_path_factory.mktemp("2dmd")
    with tarfile.open(next(source.glob("*.tar.xz"))) as packed:
        for member in packed:
            entry = member.name.removesuffix("_relaxed.cif").removesuffix("_unrelaxed.cif")
            sampled = entry != member.name and crc32(entry.encode()) % 40 == 0
            pristine = len(Path(member.name).parts) == 2 and member.name.endswith(".cif")
            if sampled or pristine or member.name.endswith(".csv"):
                packed.extract(member, folder, filter="data")
    return folder


def write_unit_cell(root: Path, name: str = "MoS2") -> None:
    """Put a shipped host's unit cell where the archive has it."""
    folder = root / "high_density_defects"
    folder.mkdir(parents=True, exist_ok=True)
    load_structure(name).to(str(folder / f"{name}.cif"))


def write_lists(folder: Path, **splits: list[str]) -> None:
    for split, entries in splits.items():
        (folder / f"{split}.csv").write_text("\n".join(["atoms_id", *entries, ""]))


def write_pair(
    folder: Path, host: Host, configuration: Configuration, moved: FloatArray, *, tag: str, seed: int | None = None
) -> str:
    """Write one pair of CIF files, with `seed` in shuffled order and in random images; return its id."""
    numbers, markers = nodes(host, configuration)
    atoms = np.flatnonzero(markers != 2)
    images = np.zeros((2, len(atoms), 3))
    if seed is not None:
        rng = np.random.default_rng(seed)
        rng.shuffle(atoms)
        images = rng.integers(-1, 2, size=images.shape)
    formula = build_structure(host, configuration).composition.formula.replace(" ", "")
    entry = f"{host.formula}_{formula}_{tag}"
    start = unrelaxed_positions(host, configuration)
    for end, table, image in (("unrelaxed", start, images[0]), ("relaxed", start + moved, images[1])):
        frac = table[atoms] @ np.linalg.inv(np.array(host.lattice)) + image
        write_cif(folder / f"{entry}_{end}.cif", np.array(host.lattice), numbers[atoms], frac)
    return entry


def write_cif(path: Path, lattice: FloatArray, numbers: np.ndarray, frac: FloatArray) -> None:
    """Write a P1 CIF file as the archive's are, with eight decimals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = cell_to_cellpar(lattice)
    keys = [*(f"_cell_length_{x}" for x in "abc"), *(f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma"))]
    lines = ["data_image0", *(f"{key} {value:.8f}" for key, value in zip(keys, cell, strict=True))]
    columns = ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")
    lines += ["_space_group_name_H-M_alt 'P 1'", "loop_", *(f"_atom_site_{c}" for c in columns)]
    for k, (z, row) in enumerate(zip(numbers, frac, strict=True)):
        symbol = chemical_symbols[z]
        lines.append(f"{symbol} {symbol}{k} " + " ".join(f"{x:.8f}" for x in row) + " 1.0")
    path.write_text("\n".join([*lines, ""]))
