"""Reading a defect structure: which configuration of the host is it, and which atom belongs to which site."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Element, Lattice, Structure
from pymatgen.util.coord import pbc_shortest_vectors

from definet_flows.defects.build import nodes
from definet_flows.defects.kinds import DefectKind, check_kinds
from definet_flows.defects.reading.alignment import rigid_shift
from definet_flows.defects.sites.symmetry import site_operations, stabilizer
from definet_flows.errors import InputError
from definet_flows.hosts.frame import Frame, frames
from definet_flows.schemas import INSERTED, SUBSTITUTION, VACANCY, Configuration, Edit, FloatArray, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Numbers from 2DMD: of its structures relaxed by at most 1.5 Å, none is read as another configuration unless an atom
# settled on a vacant site.
_SEATED = 0.3  # Å; an atom this near a site sits on it, whatever the element
_FOREIGN = 1.0  # Å²; else an atom counts as this much farther (squared) from a site of another element
_MARGIN = 1.0  # Å²; two assignments of a displaced atom whose costs differ by less are not distinguished
_NEARBY = 3.0  # Å; how far an atom may come to settle on another site: twice the tolerance
_INSERTED = 1e3  # cost of leaving an atom without a site: only if no assignment within the tolerance exists
_FORBIDDEN = 1e6
_SAME_CELL = 1e-3  # relative difference of cells whose rows are taken for each other without a look at other axes
_EXACT = 0.01  # Å; atoms this near their sites on average leave no doubt how the cell lies
_MOST_EDITED = 0.3  # share of edited sites beyond which a cell laid on the host in other axes is none of its defects
_TOLERANCE = 1.5  # Å; beyond it distances alone do not show which site an atom came from
_MOST_INSERTED = 0.1  # share of inserted atoms beyond which this is not a defect structure of the host


@dataclass(frozen=True, eq=False)
class Recovered:
    """A structure read as a configuration of a host."""

    configuration: Configuration
    """As placed in the structure; `canonical` gives its symmetry-canonical placement."""
    permutation: IntArray
    """Atom k of the structure is row ``permutation[k]`` of the table, [n_atoms]."""
    positions: FloatArray
    """Cartesian, Å, [n_rows, 3]: each atom in the periodic image nearest its site; a vacancy's row is its site."""
    shift: FloatArray
    """Rigid shift of the structure against the host that was taken off the positions, Cartesian, Å, [3]."""
    frame: Frame
    """How the structure's cell lies in the host's frame, in which all of the above is given."""

    def numbers_and_markers(self, host: Host) -> tuple[IntArray, IntArray]:
        """Return the rows' atomic numbers and markers, [n_rows] each."""
        return nodes(host, self.configuration)


def recover(
    host: Host, structure: Structure, tolerance: float = _TOLERANCE, kinds: Sequence[str] | None = None
) -> Recovered:
    """Return the configuration of a defect structure, unrelaxed or relaxed.

    The structure's cell may be turned, reflected, left-handed, in other axes or strained by up to 2 % against the
    host's: fractional coordinates are carried over, and displacements keep their lengths. Of several ways in which the
    cells agree, the mapping with the fewest edits, then the smallest displacements, is taken.

    Atoms, in any order and any periodic image, are assigned to sites so that the sum of squared distances (plus a
    small cost for an atom on another element's site) is least. Sites left over are vacancies, atoms
    left over are inserted. A rigid shift of the whole structure against the host is found and taken off.

    Parameters
    ----------
    host
        The bulk supercell that the structure is a defect of.
    structure
        Same cell as the host, however it is described.
    tolerance
        Largest distance of an atom from its site, Å. Beyond 1.5 Å an atom may have come from another site than the
        nearest, so `kinds` must then be given.
    kinds
        The only kinds of defects that may occur, as ``("v_B", "C_B")``; None: any. It separates an antisite beside a
        vacancy from an atom that relaxed towards the vacancy, which distances alone cannot.

    Raises
    ------
    InputError
        Another cell, disorder, an atom that moved beyond the tolerance, or an assignment that is not unique; the
        message names the atoms.
    """
    if not structure.is_ordered:
        msg = f"structure {structure.formula} is disordered; a defect structure has one element on each site"
        raise InputError(msg)
    if not 0 < tolerance < np.inf or (tolerance > _TOLERANCE and kinds is None):
        msg = (
            f"tolerance={tolerance:g} Å: above {_TOLERANCE:g} Å a structure may be read as another configuration; "
            f"name the kinds that may occur, or keep to {_TOLERANCE:g} Å"
        )
        raise InputError(msg)
    first: InputError | None = None
    found: list[Recovered] = []
    for frame in _frames(host, structure):
        try:
            recovered = _in_frame(host, structure, frame, tolerance, kinds)
        except InputError as error:
            first = first or error
            continue
        if _fits(host, recovered):
            return recovered
        if first is None or len(recovered.configuration.edits) <= _MOST_EDITED * host.n_sites:
            found.append(recovered)
    if not found:
        raise first or _another_cell(host, structure)
    return min(found, key=lambda fit: (len(fit.configuration.edits), round(_mean_move(host, fit), 2)))


def _frames(host: Host, structure: Structure) -> Iterator[Frame]:
    """Yield the ways in which the cells agree that symmetry operations of the host do not make equivalent."""
    cell, reference = np.array(structure.lattice.matrix), np.array(host.lattice)
    plain = Frame(cell, reference, np.eye(3, dtype=np.int64))
    if plain.strain < _SAME_CELL:
        yield plain
    operations = np.unique(site_operations(host).rotations.round(6), axis=0)
    changes = np.rint(reference @ operations.transpose(0, 2, 1) @ np.linalg.inv(reference)).astype(np.int64)
    known = [plain] if plain.strain < _SAME_CELL else []
    for frame in frames(cell, reference):
        equivalent = (changes @ other.axes for other in known)
        if not any((axes == frame.axes).all(axis=(1, 2)).any() for axes in equivalent):
            known.append(frame)
            yield frame


def _another_cell(host: Host, structure: Structure) -> InputError:
    expected = Structure(host.lattice, [], []).lattice
    cells = [" ".join(f"{x:.3f}" for x in cell.parameters) for cell in (structure.lattice, expected)]
    return InputError(
        f"structure's cell ({cells[0]}) is not the host's supercell ({cells[1]}); give the host's supercell"
    )


def _fits(host: Host, recovered: Recovered) -> bool:
    """Whether a structure fits so well that no other way of laying it on the host needs to be tried."""
    few = len(recovered.configuration.edits) <= _MOST_INSERTED * host.n_sites
    return few and _mean_move(host, recovered) < _EXACT


def _mean_move(host: Host, recovered: Recovered) -> float:
    """Root mean square of the distances from the sites, Å."""
    moved = recovered.positions[: host.n_sites] - host.cartesian
    return float(np.sqrt((moved**2).sum(axis=1).mean()))


def _in_frame(
    host: Host, structure: Structure, frame: Frame, tolerance: float, kinds: Sequence[str] | None
) -> Recovered:
    """Read a structure that is laid on the host in one way."""
    laid = Structure(host.lattice, structure.species, frame.frac(structure.frac_coords), charge=_charge(structure))
    shift = rigid_shift(host, laid)
    aligned = laid.frac_coords - shift @ np.linalg.inv(np.array(host.lattice))
    vectors, squared = pbc_shortest_vectors(Lattice(host.lattice), host.frac_coords, aligned, return_d2=True)
    distance = np.sqrt(squared.T)
    foreign = np.array(laid.atomic_numbers)[:, None] != np.array(host.numbers)[None]
    cost = distance**2 + _FOREIGN * (foreign & (distance > _SEATED))
    cost[~_allowed(host, laid, kinds)] = _FORBIDDEN
    sites = _assign(np.where(distance > tolerance, _FORBIDDEN, cost))
    _refuse_lost_atoms(host, laid, sites, distance, tolerance)
    _refuse_ambiguity(host, laid, sites, cost, distance)
    strain = np.linalg.solve(np.array(host.lattice), frame.turned)  # what the host's cell is stretched by to the run's
    return _table(host, laid, sites, vectors @ strain, shift, frame)


def _allowed(host: Host, structure: Structure, kinds: Sequence[str] | None) -> BoolArray:
    """Which atoms may sit on which sites, [n_atoms, n_sites]."""
    atoms, sites = np.array(structure.atomic_numbers)[:, None], np.array(host.numbers)[None]
    if kinds is None:
        return np.ones((atoms.size, sites.size), dtype=bool)
    parsed = tuple(DefectKind.parse(kind) for kind in kinds)
    check_kinds(host, parsed)
    allowed = atoms == sites
    for kind in parsed:
        if kind.new is not None:
            allowed |= (atoms == kind.new) & (sites == kind.old)
    return np.asarray(allowed)


def _assign(cost: FloatArray) -> IntArray:
    """Return the site of each atom, -1 for an atom without one, [n_atoms]."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - a second to import

    alone = np.full((len(cost), len(cost)), _FORBIDDEN)
    np.fill_diagonal(alone, _INSERTED)
    _, columns = linear_sum_assignment(np.hstack([cost, alone]))
    return np.where(columns < cost.shape[1], columns, -1).astype(np.int64)


def _label(structure: Structure, atom: int) -> str:
    return f"{atom} ({structure[atom].specie.symbol})"


def _refuse_lost_atoms(
    host: Host, structure: Structure, sites: IntArray, distance: FloatArray, tolerance: float
) -> None:
    lost = np.flatnonzero(sites < 0)
    vacant = np.setdiff1d(np.arange(host.n_sites), sites)
    if len(lost) > max(1.0, _MOST_INSERTED * len(sites)):
        names = ", ".join(_label(structure, int(atom)) for atom in lost[:5])
        msg = (
            f"{len(lost)} atoms are more than {tolerance:g} Å from any free site, first {names}: "
            f"not a defect structure of host {host.formula}, or shifted against it"
        )
        raise InputError(msg)
    for atom in lost if len(vacant) else ():
        nearest = vacant[distance[atom, vacant].argmin()]
        if distance[atom, nearest] < 3 * tolerance:
            msg = (
                f"atom {_label(structure, int(atom))} is {distance[atom, nearest]:.2f} Å from the nearest free site "
                f"{nearest}: moved beyond {tolerance:g} Å or inserted? That is unclear; give the unrelaxed structure"
            )
            raise InputError(msg)


def _refuse_ambiguity(
    host: Host, structure: Structure, sites: IntArray, cost: FloatArray, distance: FloatArray
) -> None:
    """Refuse if moving a displaced atom to a free site, or exchanging it with another, costs next to nothing.

    A displaced atom on another element's site, with a site of its own element free nearby, is refused at any cost: it
    may as well be an atom of the host on its way from there.
    """
    atoms = np.flatnonzero(sites >= 0)
    own = cost[atoms, sites[atoms]]
    displaced = distance[atoms, sites[atoms]] > _SEATED
    vacant = np.setdiff1d(np.arange(host.n_sites), sites)
    moves = displaced[:, None] & (cost[np.ix_(atoms, vacant)] - own[:, None] < _MARGIN)
    elements, there = np.array(structure.atomic_numbers)[atoms], np.array(host.numbers)
    strays = displaced & (there[sites[atoms]] != elements)
    own_free = (there[vacant][None] == elements[:, None]) & (distance[np.ix_(atoms, vacant)] < _NEARBY)
    moves |= strays[:, None] & own_free & (cost[np.ix_(atoms, vacant)] < _FORBIDDEN)
    crossed = cost[np.ix_(atoms, sites[atoms])]
    swaps = np.triu(crossed + crossed.T - own[:, None] - own[None] < _MARGIN, k=1) & (displaced[:, None] | displaced)
    involved = np.unique(np.concatenate([np.nonzero(moves)[0], *np.nonzero(swaps)]))
    if len(involved):
        names = ", ".join(_label(structure, int(atoms[k])) for k in involved[:6])
        msg = f"atoms {names} fit more than one site of host {host.formula} equally well; give the unrelaxed structure"
        raise InputError(msg)


def _table(
    host: Host, structure: Structure, sites: IntArray, vectors: FloatArray, shift: FloatArray, frame: Frame
) -> Recovered:
    lost = np.flatnonzero(sites < 0)
    kept = np.flatnonzero(sites >= 0)
    permutation = sites.copy()
    permutation[lost] = host.n_sites + np.arange(len(lost))
    inserted = (structure.frac_coords[lost] - shift @ np.linalg.inv(np.array(host.lattice))) % 1.0 % 1.0
    positions = np.concatenate([host.cartesian, inserted @ np.array(host.lattice)])
    positions[sites[kept]] += vectors[sites[kept], kept]
    configuration = Configuration(edits=_edits(host, structure, sites, inserted), charge=_charge(structure))
    multiplicity = len(site_operations(host)) // len(stabilizer(host, configuration))
    configuration = configuration.model_copy(update={"multiplicity": multiplicity})
    return Recovered(configuration, permutation, positions, shift, frame)


def _charge(structure: Structure) -> int:
    """Return the charge that was set; the sum of oxidation states, which pymatgen takes where none was, is none."""
    structure = structure.copy()
    structure.remove_oxidation_states()
    with warnings.catch_warnings():
        # pymatgen warns that the charge is not the sum of oxidation states, which nobody has set
        warnings.simplefilter("ignore", UserWarning)
        return round(structure.charge)


def _edits(host: Host, structure: Structure, sites: IntArray, inserted: FloatArray) -> tuple[Edit, ...]:
    atom_on = {int(site): atom for atom, site in enumerate(sites) if site >= 0}
    edits = []
    for site, old in enumerate(host.numbers):
        new = structure[atom_on[site]].specie.Z if site in atom_on else None
        if new != old:
            edits.append(Edit(marker=VACANCY if new is None else SUBSTITUTION, site=site, old=old, new=new))
    for atom, (x, y, z) in zip(np.flatnonzero(sites < 0), inserted.tolist(), strict=True):
        edits.append(Edit(marker=INSERTED, new=Element(structure[int(atom)].specie.symbol).Z, position=(x, y, z)))
    return tuple(edits)
