"""From a configuration to nodes and to a Structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Structure

from definet_flows.defects.kinds import DefectKind, check_kinds
from definet_flows.defects.sites.interstitials import candidate_sites
from definet_flows.defects.sites.symmetry import canonical, stored_point
from definet_flows.errors import InputError
from definet_flows.schemas import INSERTED, SUBSTITUTION, VACANCY, Configuration, Edit, FloatArray, Host

if TYPE_CHECKING:
    from collections.abc import Iterable

IntArray = npt.NDArray[np.int64]


def edit_of(kind: DefectKind, site: int) -> Edit:
    """Return the edit that places a vacancy or substitution on a site."""
    return Edit(marker=VACANCY if kind.new is None else SUBSTITUTION, site=site, old=kind.old, new=kind.new)


def place(host: Host, defects: Iterable[str | DefectKind], charge: int = 0) -> Configuration:
    """Return the canonical configuration with these defects on these sites.

    Parameters
    ----------
    host
        The supercell.
    defects
        Kinds with their sites, such as ``["v_S@64", "W_Mo@0"]``, or candidate positions, ``["Li_i@3"]`` (rows of
        `candidate_sites`); here a site is meant exactly.
    charge
        Net charge, elementary charges.

    Raises
    ------
    InputError
        For a kind without a site, two defects on one site, or what the host does not have.
    """
    kinds = tuple(DefectKind.parse(defect) for defect in defects)
    check_kinds(host, kinds)
    taken = [(kind.old is None and kind.new, kind.site) for kind in kinds]
    if any(kind.site is None for kind in kinds) or len(set(taken)) < len(taken):
        names = ", ".join(kind.name for kind in kinds)
        msg = (
            f"defects {names} on sites {[kind.site for kind in kinds]}: name one site of its own for each, as in v_S@12"
        )
        raise InputError(msg)
    edits = tuple(_edit_at(host, kind, kind.site or 0) for kind in kinds)
    return canonical(host, Configuration(edits=edits, charge=charge))


def _edit_at(host: Host, kind: DefectKind, site: int) -> Edit:
    if kind.old is not None:
        return edit_of(kind, site)
    candidates = candidate_sites(host, kind.name.removesuffix("_i"))
    return Edit(marker=INSERTED, new=kind.new, position=stored_point(candidates.at(site)))


def nodes(host: Host, configuration: Configuration) -> tuple[IntArray, IntArray]:
    """Return atomic numbers and markers of all rows: the pristine sites, then the inserted atoms.

    A vacancy keeps the missing element's number.

    Returns
    -------
    numbers, markers
        [n_rows] each.
    """
    inserted = [edit.new for edit in configuration.edits if edit.marker == INSERTED]
    numbers = np.array([*host.numbers, *inserted], dtype=np.int64)
    markers = np.zeros(len(numbers), dtype=np.int64)
    markers[host.n_sites :] = INSERTED
    for edit in configuration.edits:
        if edit.site is None:
            continue
        if not 0 <= edit.site < host.n_sites or host.numbers[edit.site] != edit.old:
            msg = f"edit {edit.name} on site {edit.site} does not fit host {host.formula} with {host.n_sites} sites"
            raise InputError(msg)
        if markers[edit.site]:
            raise InputError(
                f"edit {edit.name} on site {edit.site}: another edit is there already; name each site once"
            )
        markers[edit.site] = edit.marker
        numbers[edit.site] = edit.new or edit.old
    return numbers, markers


def unrelaxed_positions(host: Host, configuration: Configuration) -> FloatArray:
    """Return Cartesian coordinates of all rows, placeholders and inserted atoms included, Å, [n_rows, 3]."""
    inserted = np.array([edit.position for edit in configuration.edits if edit.position is not None]).reshape(-1, 3)
    return np.concatenate([host.cartesian, inserted @ np.array(host.lattice)])


def build_structure(host: Host, configuration: Configuration, positions: FloatArray | None = None) -> Structure:
    """Return the defect structure: pristine-site order, vacancies dropped, inserted atoms last, charge set.

    Parameters
    ----------
    host
        The supercell.
    configuration
        What is edited.
    positions
        Cartesian coordinates of all rows, placeholders included, Å, [n_rows, 3]; None: unrelaxed.
    """
    numbers, markers = nodes(host, configuration)
    table = unrelaxed_positions(host, configuration) if positions is None else np.asarray(positions, dtype=np.float64)
    if table.shape != (len(numbers), 3):
        msg = (
            f"positions have shape {table.shape}, but the configuration has {len(numbers)} rows (placeholders included)"
        )
        raise InputError(msg)
    atoms = markers != VACANCY
    return Structure(
        host.lattice, numbers[atoms].tolist(), table[atoms], coords_are_cartesian=True, charge=configuration.charge
    )
