"""Eight crystals, and the ways in which the same crystal may be described."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from definet_flows.defects import build_structure, canonical, nodes, site_operations, unrelaxed_positions
from definet_flows.hosts import load_structure, make_host
from definet_flows.schemas import VACANCY, Configuration, Edit, Host

CIRCLE = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Sample:
    """A unit cell, the matrix of its supercell, and what is edited in it."""

    unit: Structure
    matrix: npt.NDArray[np.int64]
    axis: int = 2  # across the layer
    edits: tuple[tuple[int, int | None], ...] = ((3, None),)  # site, new atomic number

    @cached_property
    def host(self) -> Host:
        return make_host(self.unit, self.matrix.tolist())

    @cached_property
    def configuration(self) -> Configuration:
        host = self.host
        edits = tuple(
            Edit(marker=VACANCY if new is None else 1, site=site, old=host.numbers[site], new=new)
            for site, new in self.edits
        )
        return canonical(host, Configuration(edits=edits))


def across_a(name: str) -> Structure:
    layer = load_structure(name)
    return Structure(Lattice(layer.lattice.matrix[[2, 0, 1]]), layer.species, layer.frac_coords[:, [2, 0, 1]])


def spacegroup(symbol: str, lattice: Lattice, sites: dict[str, tuple[float, float, float]]) -> Structure:
    return Structure.from_spacegroup(symbol, lattice, [key.rstrip("0123") for key in sites], list(sites.values()))


@cache
def samples() -> dict[str, Sample]:
    cube = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    copper = Structure(Lattice([[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]]), ["Cu"], [[0, 0, 0]])
    rutile = {"Ti": (0.0, 0.0, 0.0), "O": (0.305, 0.305, 0.0)}
    baddeleyite = {"Zr": (0.2754, 0.0395, 0.2083), "O1": (0.07, 0.3317, 0.3447), "O2": (0.4496, 0.7569, 0.4792)}
    wurtzite = {"Ga": (1 / 3, 2 / 3, 0.0), "N": (1 / 3, 2 / 3, 0.377)}
    chiral = Structure(
        Lattice.from_parameters(3.6, 4.3, 4.9, 82, 97, 104),
        ["Si", "Ge", "C", "N"],
        [[0.02, 0.05, 0.01], [0.48, 0.41, 0.13], [0.11, 0.52, 0.61], [0.63, 0.93, 0.57]],
    )
    two = np.diag([2, 2, 2])
    return {
        "MoS2": Sample(load_structure("MoS2"), np.diag([4, 4, 1]), edits=((3, 74), (20, None))),
        "phosphorene": Sample(load_structure("P"), np.diag([4, 2, 1]), edits=((3, 7), (9, None))),
        "BN across a": Sample(across_a("BN"), np.diag([1, 4, 4]), axis=0, edits=((3, 6), (20, None))),
        "rutile": Sample(spacegroup("P4_2/mnm", Lattice.tetragonal(4.594, 2.959), rutile), two, edits=((2, None),)),
        "wurtzite": Sample(spacegroup("P6_3mc", Lattice.hexagonal(3.19, 5.19), wurtzite), two, edits=((3, 13),)),
        "fcc": Sample(copper, 2 * cube, edits=((3, 28), (7, None))),
        "monoclinic": Sample(
            spacegroup("P2_1/c", Lattice.monoclinic(5.15, 5.21, 5.32, 99.2), baddeleyite),
            np.diag([2, 2, 1]),
            edits=((3, 72), (40, None)),
        ),
        "triclinic": Sample(chiral, two, edits=((3, 32), (20, None))),
    }


@dataclass(frozen=True, eq=False)
class Described:
    """A crystal in other words.

    Atom k of `structure` is atom ``order[k]`` of the original; a vector v of the original is ``v @ rotation`` in it.
    """

    structure: Structure
    axes: npt.NDArray[np.int64]
    rotation: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]

    def matrix(self, matrix: npt.NDArray[np.int64]) -> list[list[int]]:
        """The supercell of the original in this cell, its vectors in these axes too."""
        change = self.axes if abs(round(np.linalg.det(self.axes))) == 1 else np.eye(3)
        return np.rint(change @ matrix @ np.linalg.inv(self.axes)).astype(int).tolist()


WAYS = ("rotated", "left-handed", "reversed", "permuted", "sheared", "shifted", "reordered", "images", "noise", "all")
MOVES = {
    "shifted": {"shift"},
    "reordered": {"order"},
    "images": {"images"},
    "noise": {"noise"},
    "rotated": {"rotation"},
    "all": {"shift", "order", "images", "rotation", "noise"},
}


def describe(structure: Structure, way: str, axis: int = 2, seed: int = 0) -> Described:
    """The same crystal in one of the ways; `sheared` and `doubled` leave the vector across a layer as it is."""
    rng = np.random.default_rng(seed)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    sheared, doubled = np.eye(3, dtype=int), np.eye(3, dtype=int)
    sheared[first, second], doubled[first, first] = 1, 2
    axes = {
        "left-handed": SWAP,
        "reversed": -np.eye(3, dtype=int),
        "permuted": CIRCLE,
        "sheared": sheared,
        "doubled": doubled,
        "all": SWAP @ CIRCLE @ sheared,
    }.get(way, np.eye(3, dtype=int))
    moves = MOVES.get(way, set())
    rotation = Rotation.random(random_state=seed).as_matrix() if "rotation" in moves else np.eye(3)
    shift = np.array([0.9, -0.6, 1.3]) if "shift" in moves else np.zeros(3)
    old = structure
    if way == "doubled":
        old = structure.copy().make_supercell(doubled, in_place=False, to_unit_cell=False)
        axes_now = np.eye(3)
    else:
        axes_now = axes
    order = rng.permutation(len(old)) if "order" in moves else np.arange(len(old))
    images = rng.integers(-2, 3, (len(old), 3)) if "images" in moves else 0
    noise = rng.uniform(-1e-4, 1e-4, (len(old), 3)) / np.sqrt(3) if "noise" in moves else 0
    lattice = axes_now @ old.lattice.matrix @ rotation
    frac = (old.cart_coords[order] + shift) @ rotation @ np.linalg.inv(lattice)
    frac = frac + noise @ np.linalg.inv(lattice) if "noise" in moves else frac
    made = Structure(Lattice(lattice), [old.species[k] for k in order], frac + images)
    return Described(made, axes, rotation, order)


def relaxed_field(host: Host, configuration: Configuration, seed: int = 1) -> npt.NDArray[np.float64]:
    """Displacements without any symmetry, zero on vacancies and on average, Å, [n_sites, 3]; 0.12 Å at most."""
    atoms = nodes(host, configuration)[1] != VACANCY
    field = np.random.default_rng(seed).uniform(-0.06, 0.06, (host.n_sites, 3)) * atoms[:, None]
    field[atoms] -= np.median(field[atoms], axis=0)
    return field


def relaxed(host: Host, configuration: Configuration) -> Structure:
    table = unrelaxed_positions(host, configuration) + relaxed_field(host, configuration)
    return build_structure(host, configuration, table)


def unlike(host: Host, expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64], atoms) -> float:
    """Largest difference of two fields of displacements, Å, up to the symmetry of the host and a rigid shift."""
    operations = site_operations(host)
    images = operations.images(expected)
    difference = found[None] - images
    present = np.zeros(operations.permutations.shape, dtype=bool)
    np.put_along_axis(present, operations.permutations, np.broadcast_to(atoms, present.shape), axis=1)
    centre = np.array([one[kept].mean(axis=0) for one, kept in zip(difference, present, strict=True)])
    off = np.linalg.norm((difference - centre[:, None]) * present[:, :, None], axis=2)
    return float(off.max(axis=1).min())
