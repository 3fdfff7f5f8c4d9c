"""Weights small enough for tests, and defect structures written in the formats that files come in."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from pymatgen.core import Element, Structure

from definet_flows.defects import build_structure, nodes, place
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, Checkpoint, save_checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.inference.predict import predict
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import Configuration, Host

HOST = make_host("MoS2", (4, 4, 1))
CONFIG = NetworkConfig(hidden=8, layers=1, gaussians=8, radial_extent=6, cutoff=4.5)


def small_checkpoint(path: Path, *hosts: str, seed: int = 0, name: str = "small") -> Checkpoint:
    """Random weights that move atoms by some hundredths of an Å."""
    torch.manual_seed(seed)
    network = DefiNet(CONFIG)
    with torch.no_grad():
        for layer in network.coord_update_layers:
            layer.lin_vec2coord.weight *= 10
            layer.coord_mlp[2].weight *= 10
            layer.coord_mlp[2].bias.zero_()
    units = tuple(unit_cell(make_host(host, (2, 2, 1))) for host in hosts)
    elements = tuple(sorted({z for unit in units for z in unit.numbers} | {34, 74})) if hosts else ()
    return save_checkpoint(path, network, Card(name=name, config=CONFIG, hosts=units, elements=elements))


def configurations(host: Host = HOST) -> list[Configuration]:
    names = (["v_S@20"], ["W_Mo@3", "v_S@40"], ["Se_S@17", "v_Mo@7"])
    return [place(host, defects) for defects in names]


def shuffled(host: Host, configuration: Configuration, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms of a configuration in random order and images: their sites, atomic numbers, fractional coordinates."""
    rng = np.random.default_rng(seed)
    numbers, markers = nodes(host, configuration)
    sites = rng.permutation(np.flatnonzero(markers != 2))
    return sites, numbers[sites], np.array(host.frac_coords)[sites] + rng.integers(-1, 2, (len(sites), 3))


def moved(checkpoint: Checkpoint, host: Host, configuration: Configuration, sites: np.ndarray) -> np.ndarray:
    """Displacements that belong on some sites, Cartesian, Å."""
    (raw,) = predict(checkpoint, host, [configuration])
    assert raw.displacements is not None
    return raw.displacements[sites]


def structure(host: Host = HOST, configuration: Configuration | None = None) -> Structure:
    return build_structure(host, configuration or configurations(host)[0])


def poscar_text(
    lattice: np.ndarray,
    numbers: np.ndarray,
    frac: np.ndarray,
    *,
    scale: str = "1.0",
    cartesian: bool = False,
    selective: bool = False,
    tail: str = "",
) -> str:
    """A POSCAR with the atoms in the order given, one species block for each run of an element."""
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
    symbols = [Element.from_Z(int(numbers[k])).symbol for k in starts[:-1]]
    rows = frac @ lattice if cartesian else frac
    lines = ["my comment, kept", scale, *("  ".join(f"{x:.12f}" for x in row) for row in lattice)]
    lines += ["  ".join(symbols), "  ".join(map(str, np.diff(starts)))]
    lines += ["Selective dynamics"] if selective else []
    lines += ["Cartesian" if cartesian else "Direct"]
    flags = ["  T F T" if k % 2 else "  F F F" for k in range(len(rows))] if selective else [""] * len(rows)
    lines += [" ".join(f"{x:.12f}" for x in row) + flag for row, flag in zip(rows, flags, strict=True)]
    return "\n".join([*lines, tail])


def write(path: Path, lattice: np.ndarray, numbers: np.ndarray, frac: np.ndarray) -> Path:
    """Write a structure in the format its name tells, the order of atoms kept."""
    if path.suffix == ".json":
        path.write_text(json.dumps(Structure(lattice, numbers.tolist(), frac).as_dict()))
    elif path.suffix == ".extxyz":
        ase.io.write(path, Atoms(numbers=numbers, cell=lattice, positions=frac @ lattice, pbc=True))
    elif path.suffix == ".cif":
        from archive_data import write_cif  # noqa: PLC0415

        write_cif(path, lattice, numbers, frac)
    else:
        path.write_text(poscar_text(lattice, numbers, frac))
    return path


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers and fractional coordinates in the image they are written in."""
    from definet_flows.structures.crystals import read_crystals  # noqa: PLC0415

    (crystal,) = read_crystals(path, path.read_bytes()).crystals
    return crystal.numbers, crystal.frac
