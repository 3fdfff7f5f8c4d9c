"""CIF: the structure of a file, its symmetry written out. gemmi parses; what it leaves open is decided here."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from definet_flows.errors import InputError
from definet_flows.hosts.atoms import atomic_number, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from definet_flows.schemas import FloatArray

_SAME = 0.3  # Å; images of a site nearer than this are the same atom, on a special position
_FULL = 1e-3  # occupancies are rounded
_NUMBERS = ("_symmetry_Int_Tables_number", "_space_group_IT_number", "_space_group.IT_number")


@dataclass(frozen=True, eq=False)
class CifStructure:
    """The structure of a CIF file.

    Attributes
    ----------
    lattice
        Rows, Å, [3, 3]; a along x, b in the xy plane.
    numbers
        Atomic numbers, [n].
    frac
        Fractional coordinates, each site followed by its images, [n, 3].
    text
        CIF of this structure alone.
    """

    lattice: FloatArray
    numbers: npt.NDArray[np.int64]
    frac: FloatArray
    text: str


def read_cif(text: str) -> CifStructure:
    """Return the only structure of a CIF file, symmetry written out.

    The symmetry is that of the file's operations, else of its Hall symbol, its Hermann-Mauguin symbol, its number.
    Blocks without atoms, such as `data_global`, are passed over.

    Raises
    ------
    ValueError, RuntimeError
        By gemmi, if it is no CIF.
    InputError
        No structure or several, disorder, no element, or a space group that is not understood.
    """
    document = gemmi.cif.read_string(plain(text))
    block = _block(document)
    small = gemmi.make_small_structure_from_block(block)
    for site in small.sites:
        if abs(site.occ - 1) > _FULL:
            msg = f"is disordered: site {site.label} is occupied by {site.occ:g}, not by one element alone"
            raise InputError(msg)
    elements = [atomic_number(_symbol(site)) for site in small.sites]
    frac = np.array([site.fract.tolist() for site in small.sites]).reshape(-1, 3)
    lattice = np.array(small.cell.orth.mat.tolist()).T
    counts, expanded = _expand(lattice, frac, _operations(small, block, len(frac)))
    alone = gemmi.cif.Document()
    alone.add_copied_block(block)
    numbers = np.repeat(np.array(elements, dtype=np.int64), counts)
    return CifStructure(lattice, numbers, expanded, plain(text) if len(document) == 1 else alone.as_string())


def _block(document: gemmi.cif.Document) -> gemmi.cif.Block:
    holds = [block for block in document if _has(block, "_cell_length_a") and _has(block, "_atom_site_fract_x")]
    if len(holds) > 1:
        names = ", ".join(f"data_{block.name}" for block in holds[:5])
        msg = f"holds {len(holds)} structures ({names}): keep the block of a single structure"
        raise InputError(msg)
    if not holds:
        msg = "cannot be read (it holds no structure: a cell and fractional coordinates of atoms are needed)"
        raise InputError(msg)
    return holds[0]


def _has(block: gemmi.cif.Block, tag: str) -> bool:
    return len(list(block.find_values(tag))) > 0


def _symbol(site: gemmi.SmallStructure.Site) -> str:
    name = str(site.element.name)
    return name if name != "X" else site.type_symbol or site.label


# ------------------------------------------------------------------ symmetry


def _operations(small: gemmi.SmallStructure, block: gemmi.cif.Block, sites: int) -> FloatArray:
    """Return the operations as [n, 3, 4]: rotation and translation."""
    if small.symops:
        return _arrays([gemmi.Op(triplet) for triplet in small.symops])
    with suppress(RuntimeError, ValueError):
        if small.spacegroup_hall:
            return _arrays(gemmi.symops_from_hall(small.spacegroup_hall))
    name, number = small.spacegroup_hm.replace("_", "").strip(" ?."), _number(block)
    if not name and number is None:
        return _arrays([gemmi.Op("x,y,z")])
    found = _find(small, name) if name else None
    if found is None and number is not None:
        reference = gemmi.find_spacegroup_by_number(number)
        found = _find(small, reference.hm) if reference else None
    if found is None:
        msg = f"its space group ({name or number}) is not understood: add the symmetry operations to the CIF"
        raise InputError(msg)
    return _with_origin(small, block, found, explicit=":" in name) if sites else _arrays(found.operations())


def _number(block: gemmi.cif.Block) -> int | None:
    for tag in _NUMBERS:
        with suppress(TypeError, ValueError):
            return int(gemmi.cif.as_number(block.find_value(tag)))
    return None


def _find(small: gemmi.SmallStructure, name: str, prefer: str = "2") -> gemmi.SpaceGroup | None:
    found: gemmi.SpaceGroup | None = gemmi.find_spacegroup_by_name(
        name, small.cell.alpha, small.cell.gamma, prefer=prefer
    )
    return found


def _with_origin(
    small: gemmi.SmallStructure, block: gemmi.cif.Block, group: gemmi.SpaceGroup, *, explicit: bool
) -> FloatArray:
    """Return the operations; of two origins that a symbol leaves open, those of the origin that fits the formula."""
    operations = _arrays(group.operations())
    first = _find(small, group.hm, prefer="1")
    if explicit or first is None or {group.ext, first.ext} != {"1", "2"}:
        return operations
    other = _arrays(first.operations())
    wanted = _atoms_stated(block)
    frac = np.array([site.fract.tolist() for site in small.sites]).reshape(-1, 3)
    lattice = np.array(small.cell.orth.mat.tolist()).T
    in_second, in_first = (sum(_expand(lattice, frac, some)[0]) for some in (operations, other))
    if (in_first == wanted) != (in_second == wanted):
        return other if in_first == wanted else operations
    # Atoms lie on positions of high symmetry as a rule; with the wrong origin there are more of them.
    origin = "1" if in_first < in_second else "2"
    msg = f"space group {group.hm} has two origins and the CIF does not state which; origin {origin} is taken"
    warnings.warn(msg, UserWarning, stacklevel=4)
    return other if origin == "1" else operations


def _atoms_stated(block: gemmi.cif.Block) -> int | None:
    """Return how many atoms the formula and the number of formula units put into the cell."""
    formula, units = (block.find_value(tag) for tag in ("_chemical_formula_sum", "_cell_formula_units_Z"))
    if not formula or not units:
        return None
    words = gemmi.cif.as_string(formula).split()
    counts = [word.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") or "1" for word in words]
    with suppress(ValueError):
        return round(sum(map(float, counts)) * float(gemmi.cif.as_number(units)))
    return None


def _arrays(operations: Iterable[gemmi.Op]) -> FloatArray:
    return np.array([np.array(op.seitz(), dtype=float)[:3] for op in operations])


def _expand(lattice: FloatArray, frac: FloatArray, operations: FloatArray) -> tuple[list[int], FloatArray]:
    """Return how many atoms each site stands for, and their fractional coordinates, the site's own first."""
    if len(operations) == 1:
        return [1] * len(frac), frac
    counts, rows = [], [np.empty((0, 3))]
    for site in frac:
        images = operations[:, :, :3] @ site + operations[:, :, 3]
        images = np.concatenate([site[None], images])
        kept: list[FloatArray] = []
        for image in images:
            delta = np.array([image - other for other in kept]).reshape(-1, 3)
            delta -= np.rint(delta)
            if not (np.linalg.norm(delta @ lattice, axis=1) < _SAME).any():
                kept.append(image if not kept else image % 1.0)
        counts.append(len(kept))
        rows.append(np.array(kept))
    return counts, np.concatenate(rows)
