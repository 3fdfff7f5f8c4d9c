"""To and from pymatgen-analysis-defects' objects and the names that doped gives to defects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import spglib
from pymatgen.core import Element, Lattice, PeriodicSite

from definet_flows.defects.build import edit_of
from definet_flows.defects.kinds import DefectKind, check_kinds
from definet_flows.defects.sites.interstitials import candidate_sites
from definet_flows.defects.sites.symmetry import canonical, primitive_cell, site_operations, stored_point
from definet_flows.errors import InputError
from definet_flows.hosts import to_structure
from definet_flows.hosts.symmetrize import space_group
from definet_flows.schemas import INSERTED, VACANCY, Configuration, Edit, FloatArray, Host, signed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from pymatgen.analysis.defects.core import Defect
    from pymatgen.core import Structure

_HERE = 0.1  # Å; sites of two cells nearer than this are the same
_SYMPREC = 1e-3  # Å
_SHELLS = 3  # distances that doped-style names use at most
_SAME_SHELL = 0.01  # Å
_DOPED = re.compile(r"(?P<kind>[A-Za-z]+_[A-Za-z]+?)(?P<label>(?:_[A-Za-z0-9.]+)*?)(?:_(?P<charge>[+-]?\d+))?")
_SCHOENFLIES = {
    "1": "C1", "-1": "Ci", "2": "C2", "m": "Cs", "2/m": "C2h", "222": "D2", "mm2": "C2v", "mmm": "D2h", "4": "C4",
    "-4": "S4", "4/m": "C4h", "422": "D4", "4mm": "C4v", "-42m": "D2d", "4/mmm": "D4h", "3": "C3", "-3": "C3i",
    "32": "D3", "3m": "C3v", "-3m": "D3d", "6": "C6", "-6": "C3h", "6/m": "C6h", "622": "D6", "6mm": "C6v",
    "-6m2": "D3h", "-62m": "D3h", "6/mmm": "D6h", "23": "T", "m-3": "Th", "432": "O", "-43m": "Td", "m-3m": "Oh",
}  # fmt: skip


def _core() -> ModuleType:
    try:
        from pymatgen.analysis.defects import core  # noqa: PLC0415
    except ImportError as error:
        need = "pymatgen's Defect objects need pymatgen-analysis-defects"
        msg = f"{need}: pip install -e '.[defects]' in the clone of definet_flows"
        raise InputError(msg) from error
    return core


def to_pymatgen(host: Host, configuration: Configuration) -> Defect:
    """Return a `Vacancy`, `Substitution` or `Interstitial`; a `DefectComplex` of them if there are several.

    Their structure is the bulk supercell. These objects have no charge of their own: that of a single defect
    becomes its only `user_charges`.

    Parameters
    ----------
    host
        The bulk supercell.
    configuration
        Of this host; its charge is in elementary charges.

    Raises
    ------
    InputError
        Without pymatgen-analysis-defects, or without a defect.
    """
    core = _core()
    structure = to_structure(host)
    made = [_defect(core, structure, edit, configuration) for edit in configuration.edits]
    if not made:
        msg = "a bulk supercell is no defect: there is nothing to convert"
        raise InputError(msg)
    return made[0] if len(made) == 1 else core.DefectComplex(made, oxi_state=configuration.charge)


def _defect(core: ModuleType, structure: Structure, edit: Edit, configuration: Configuration) -> Defect:
    place = np.array(edit.position) if edit.site is None else structure[edit.site].frac_coords
    site = PeriodicSite(Element.from_Z(edit.new or edit.old or 0), place, structure.lattice)
    made = (
        core.Vacancy if edit.marker == VACANCY else core.Interstitial if edit.marker == INSERTED else core.Substitution
    )
    return made(  # type: ignore[no-any-return]
        structure.copy(),
        site,
        multiplicity=configuration.multiplicity if len(configuration.edits) == 1 else 1,
        oxi_state=configuration.charge,
        user_charges=[configuration.charge],
    )


def from_pymatgen(host: Host, defect: Defect, charge: int | None = None) -> Configuration:
    """Return the canonical configuration of a `Defect` or `DefectComplex`.

    Parameters
    ----------
    host
        The supercell; the defect's own structure may be its unit cell or any other cell in the same frame.
    defect
        From pymatgen-analysis-defects; doped's are made of the same classes.
    charge
        Net charge, elementary charges. None: the defect's `user_charges` if there is just one, else 0.

    Raises
    ------
    InputError
        If the defect's structure is not the host, or it is of another class.
    """
    core = _core()
    _check_frame(host, defect.structure)
    parts = defect.defects if isinstance(defect, core.DefectComplex) else [defect]
    if charge is None:
        given = getattr(defect, "user_charges", [])
        charge = given[0] if len(given) == 1 else 0
    edits = tuple(_edit(core, host, part) for part in parts)
    sites = [edit.site for edit in edits if edit.site is not None]
    if len(set(sites)) < len(sites):
        msg = f"defect {defect.name}: two of its parts are on the same site of host {host.formula}"
        raise InputError(msg)
    return canonical(host, Configuration(edits=edits, charge=charge))


def _edit(core: ModuleType, host: Host, defect: Defect) -> Edit:
    frac = defect.site.coords @ np.linalg.inv(np.array(host.lattice))
    new = Element(defect.site.specie.symbol).Z
    if isinstance(defect, core.Interstitial):
        return Edit(marker=INSERTED, new=new, position=stored_point(frac))
    if not isinstance(defect, core.Vacancy | core.Substitution):
        msg = f"defect {defect.name}: a {type(defect).__name__} is no vacancy, substitution, interstitial or complex"
        raise InputError(msg)
    distances = Lattice(host.lattice).get_all_distances(frac, host.frac_coords)[0]
    site = int(distances.argmin())
    if distances[site] > _HERE:
        msg = f"defect {defect.name} is {distances[site]:.2f} Å from the nearest site of host {host.formula}"
        raise InputError(msg)
    kind = DefectKind(new=None if isinstance(defect, core.Vacancy) else new, old=host.numbers[site])
    return edit_of(kind, site)


def _check_frame(host: Host, structure: Structure) -> None:
    """Refuse a defect's structure whose atoms are not where the host has the same elements."""
    frac = structure.cart_coords @ np.linalg.inv(np.array(host.lattice))
    distances = Lattice(host.lattice).get_all_distances(frac, host.frac_coords)
    elements = [Element(site.specie.symbol).Z for site in structure]
    distances[np.array(elements)[:, None] != np.array(host.numbers)] = np.inf
    far = np.flatnonzero(distances.min(axis=1) > _HERE)
    if len(far):
        msg = (
            f"the defect's structure {structure.formula} is not a cell of host {host.formula}: its atom {far[0]} is on "
            "no site of that element; make the host from the defect's structure"
        )
        raise InputError(msg)


# ------------------------------------------------------------------ doped-style names


def doped_name(host: Host, configuration: Configuration) -> str:
    """Return the name of a single defect as doped writes it: `v_Cd_-1`, `Te_Cd_C2v_Te2.83_+2`, `Li_i_Td_+1`.

    What distinguishes inequivalent sites is added as far as needed, for an inserted atom always the first: the point
    group of the pristine site (Schoenflies), then element and distance (Å) of the nearest shells.

    Parameters
    ----------
    host
        The bulk supercell.
    configuration
        A single defect of this host; its charge, in elementary charges, ends the name.

    Raises
    ------
    InputError
        For a complex: doped names single defects.
    """
    if len(configuration.edits) != 1:
        msg = f"configuration {configuration.name}: doped-style names are for single defects"
        raise InputError(msg)
    (edit,) = configuration.edits
    kind = DefectKind(new=edit.new, old=edit.old)
    place = np.array(edit.position) if edit.site is None else np.array(host.frac_coords[edit.site])
    own = _label(host, place)
    others = [label for label in (_label(host, point) for point in _inequivalent(host, kind)) if label != own]
    needed = next((n for n in range(len(own)) if all(label[:n] != own[:n] for label in others)), len(own))
    label = own[: max(needed, 1 if kind.old is None else 0)]
    return "_".join([kind.name, *label[:1], "".join(label[1:]), signed(configuration.charge)]).replace("__", "_")


def from_doped_name(host: Host, name: str) -> Configuration:
    """Return the canonical configuration that a doped-style name means in a host; without a charge, 0.

    Parameters
    ----------
    host
        The bulk supercell.
    name
        Such as `v_Cd_-1`, the charge in elementary charges.

    Raises
    ------
    InputError
        Not such a name, or not the name of exactly one inequivalent site; the message gives the names there are.
    """
    match = _DOPED.fullmatch(name.strip())
    if match is None:
        msg = f"defect {name!r} is not a name such as v_Cd_-1, Te_Cd_C2v_Te2.83_+2 or Li_i_Td_0"
        raise InputError(msg)
    kind = DefectKind.parse(match["kind"])
    check_kinds(host, (kind,))
    label, charge = match["label"].replace("_", ""), int(match["charge"] or 0)
    points = _inequivalent(host, kind)
    fits = [point for point in points if "".join(_label(host, point)).startswith(label)]
    if len(fits) != 1:
        names = ", ".join(doped_name(host, _single(host, kind, point, charge)) for point in points)
        msg = f"defect {name!r} fits {len(fits)} inequivalent sites of host {host.formula}, which has {names}"
        raise InputError(msg)
    return _single(host, kind, fits[0], charge)


def _single(host: Host, kind: DefectKind, point: FloatArray, charge: int) -> Configuration:
    if kind.old is None:
        edit = Edit(marker=INSERTED, new=kind.new, position=stored_point(point))
    else:
        edit = edit_of(kind, int(np.abs(np.array(host.frac_coords) - point).sum(axis=1).argmin()))
    return canonical(host, Configuration(edits=(edit,), charge=charge))


def _inequivalent(host: Host, kind: DefectKind) -> Sequence[FloatArray]:
    """Return a place of each orbit that a kind may take, fractional."""
    if kind.old is None:
        candidates = candidate_sites(host, kind.name.removesuffix("_i"))
        first = np.unique(candidates.orbit, return_index=True)[1]
        return list(candidates.frac_coords[first])
    heads = site_operations(host).permutations.min(axis=0)
    sites = np.unique(heads[np.array(host.numbers) == kind.old])
    return list(np.array(host.frac_coords)[sites])


def _label(host: Host, place: FloatArray) -> tuple[str, ...]:
    """Return point group and nearest shells of a place in the pristine crystal: ("C2v", "Te2.83", "Cd4.58", ...)."""
    unit = primitive_cell(host)
    frac = unit.lattice.get_fractional_coords(place @ np.array(host.lattice))
    dataset = space_group(unit.lattice.matrix, unit.frac_coords, unit.atomic_numbers, _SYMPREC)
    delta = dataset.rotations @ frac + dataset.translations - frac
    delta -= np.rint(delta)
    fixing = np.linalg.norm(delta @ unit.lattice.matrix, axis=1) < 10 * _SYMPREC
    found = spglib.get_pointgroup(dataset.rotations[fixing])
    group = found[0].strip() if found else "1"
    shells: list[tuple[float, str]] = []
    around = unit.get_sites_in_sphere(place @ np.array(host.lattice), 6.0)
    for atom in sorted(around, key=lambda atom: (round(atom.nn_distance, 3), atom.specie.Z)):
        if atom.nn_distance > _HERE and (not shells or atom.nn_distance > shells[-1][0] + _SAME_SHELL):
            shells.append((atom.nn_distance, f"{atom.specie.symbol}{atom.nn_distance:.2f}"))
    return (_SCHOENFLIES[group], *(text for _, text in shells[:_SHELLS]))
