"""Finding the host, and the supercell of it, that a crystal is a defect structure of."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymatgen.core import Lattice, Structure

from definet_flows.defects import Recovered, recover
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host, to_structure
from definet_flows.hosts.frame import right_handed
from definet_flows.hosts.layer import cell_height, is_layer, layer_axis, layer_frame, with_height
from definet_flows.model.inference.checkpoint import Card
from definet_flows.schemas import FloatArray, Host, content_hash
from definet_flows.structures.crystal import Crystal

if TYPE_CHECKING:
    from ase import Atoms

IntArray = npt.NDArray[np.int64]

_LAYER = 2
_CELL, _ANGLE = 0.02, 1.0  # relative, degrees: what `recover` takes for the same cell
_MOST_EDITED = 0.3  # share of edited sites beyond which a crystal is not taken for a defect structure of a host
_SAME_CELL = 1e-3  # Å, degrees
_MOST_ATOMS = 3000  # of a crystal: to assign atoms to sites takes memory with the square of their number
_MOST_POINTS = 60_000  # lattice points of a unit cell that a crystal's cell may reach over
_MOST_SETTINGS = 500  # mappings of one cell onto another that are looked at
_WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class Found:
    """A host that crystals were found to be defect structures of."""

    host: Host
    inferred: str
    """What was not given: "host and supercell", "host", "supercell" or nothing."""

    @property
    def label(self) -> str:
        """Return the host in words, such as `MoS2 8 x 8 x 1`."""
        matrix = np.abs(np.array(self.host.matrix))  # signs are a matter of setting
        plain = np.array_equal(matrix, np.diag(np.diag(matrix)))
        repeats = " x ".join(map(str, np.diag(matrix))) if plain else str(np.array(self.host.matrix).tolist())
        return f"{self.host.formula} {repeats}"


class HostFinder:
    """Finds the host of each crystal; crystals of the same campaign share a host.

    Parameters
    ----------
    units
        Unit cells that come into question.
    supercell
        Repetitions along a, b, c; None: from the crystal's lattice.
    given
        Whether the user named the host: then what does not fit is an error of the crystal, not another host.
    dimensionality
        As in `make_host`.
    own_origin
        Whether a host stays where its unit cell puts it, so that it is the same for every origin of the crystals.
    """

    def __init__(
        self,
        units: Sequence[Structure],
        supercell: tuple[int, int, int] | None = None,
        *,
        given: bool = False,
        dimensionality: int | None = None,
        own_origin: bool = False,
    ) -> None:
        self._units = [_Unit(unit, dimensionality) for unit in units]
        self._supercell, self._given, self._dimensionality = supercell, given, dimensionality
        self._own_origin = own_origin
        self._found: list[tuple[FloatArray, Found]] = []
        missing = [*(() if given else ("host",)), *(() if supercell else ("supercell",))]
        self._inferred = " and ".join(missing)

    @property
    def key(self) -> str:
        """Hash of what may be found: unit cells and supercell."""
        units = [
            (
                np.round(u.structure.lattice.matrix, 6).tolist(),
                np.round(u.structure.frac_coords, 6).tolist(),
                u.structure.atomic_numbers,
            )
            for u in self._units
        ]
        extra = () if self._dimensionality is None else (self._dimensionality,)
        return content_hash("hosts", units, self._supercell, self._given, *extra)

    def find(self, crystal: Crystal) -> tuple[Found, Recovered]:
        """Return the host of a crystal and the crystal read as one of its configurations.

        Raises
        ------
        InputError
            If no host fits, or several do.
        """
        if len(crystal.numbers) > _MOST_ATOMS:
            raise InputError(f"has {len(crystal.numbers)} atoms, more than {_MOST_ATOMS}: give a smaller supercell")
        structure = crystal.structure()
        cell = np.array(structure.lattice.parameters)
        for known, found in self._found:
            recovered = _try(found.host, structure) if np.allclose(cell, known, atol=_SAME_CELL) else None
            if recovered is not None and _edited(found.host, recovered) <= _MOST_EDITED:
                return found, recovered
        host, recovered = self._search(structure)
        if np.any(recovered.shift) and not self._own_origin:
            # Files of one campaign share their origin: with the host's put there, no other has to be searched for it.
            host = _shifted(host, recovered.shift)
            recovered = recover(host, structure)
        same = (found for _, found in self._found if found.host == host)
        found = next(same, None) or Found(host, self._inferred)
        self._found.append((cell, found))
        return found, recovered

    def _search(self, structure: Structure) -> tuple[Host, Recovered]:
        fits: list[tuple[float, float, Host, Recovered]] = []
        reason = ""
        for unit in self._units:
            try:
                host, fitted = self._fit(unit, structure)
            except InputError as error:
                reason = str(error)
                continue
            fits.append((_edited(host, fitted), unit.misfit(structure.lattice, host), host, fitted))
        if self._given and not fits:
            raise InputError(reason)
        if not fits:
            known = ", ".join(dict.fromkeys(unit.formula for unit in self._units)) or "none known to the model"
            msg = f"its host cannot be inferred (trained on: {known}): name host and supercell (--host, --supercell)"
            raise InputError(msg)
        formulas = sorted({host.formula for _, _, host, _ in fits})
        if len(formulas) > 1:
            raise InputError(
                f"its host is ambiguous ({', '.join(formulas)}): name host and supercell (--host, --supercell)"
            )
        _, _, host, recovered = min(fits, key=lambda fit: (round(fit[0], 6), fit[1]))
        return host, recovered

    def _fit(self, unit: _Unit, structure: Structure) -> tuple[Host, Recovered]:
        """Return the supercell that makes the crystal a defect structure with few edits."""
        cell = unit.with_height_of(structure)
        reason = (
            f"its cell is no supercell of host {unit.formula} within {_CELL:.0%}, or its atoms do not lie on the sites"
        )
        asked: tuple[Host, Recovered] | None = None
        if self._given and self._supercell is not None:
            host = _host(cell, self._supercell, self._dimensionality)
            try:
                asked = host, recover(host, structure)
            except InputError as error:
                reason = str(error)
            if asked is not None and _edited(*asked) <= _MOST_EDITED:
                return asked
        fitted = next(self._settings(unit, cell, structure), None) or asked
        if fitted is None:
            raise InputError(reason)
        return fitted

    def _settings(self, unit: _Unit, cell: Structure, structure: Structure) -> Iterator[tuple[Host, Recovered]]:
        """Yield supercells of the crystal's cell, in any setting, that make it a defect structure with few edits."""
        for matrix in _matrices(cell.lattice, structure.lattice):
            cells = round(float(np.linalg.det(matrix)))
            if self._supercell is not None and cells != np.prod(self._supercell):
                continue
            if unit.may_have(structure, cells):
                host = _host(cell, matrix, self._dimensionality)
                recovered = _try(host, structure)
                if recovered is not None and _edited(host, recovered) <= _MOST_EDITED:
                    yield host, recovered


def finder_for(
    card: Card | None,
    host: Structure | Atoms | str | Path | None,
    supercell: tuple[int, int, int] | None,
    dimensionality: int | None = None,
) -> HostFinder:
    """Return the finder for a host that the user named (as in `load_structure`), else for those trained on.

    Parameters
    ----------
    card
        Of the model; None: no network predicts.

    Raises
    ------
    InputError
        If the host cannot be read, or is left out and there is no card that names hosts.
    """
    if host is not None:
        return HostFinder([load_structure(host)], supercell, given=True, dimensionality=dimensionality)
    if dimensionality is not None:
        raise InputError(f"--dimensionality {dimensionality} is of a host: name it with --host")
    if card is None:
        raise InputError("without the network, no host is known: name it with --host")
    if not card.hosts:
        raise InputError(f"model {card.name} does not name the hosts it was trained on: name the host (--host)")
    return HostFinder(
        [Structure(u.lattice, np.array(u.numbers).tolist(), np.array(u.frac_coords)) for u in card.hosts], supercell
    )


class _Unit:
    """A unit cell; a layer's height may be changed to that of the crystal in question."""

    def __init__(self, structure: Structure, dimensionality: int | None) -> None:
        self.structure, _ = right_handed(structure)
        self.formula = structure.composition.reduced_formula
        self.layer = is_layer(structure) if dimensionality is None else dimensionality == _LAYER

    def with_height_of(self, structure: Structure) -> Structure:
        """Return the cell; a layer's vector across it as long as that of a structure, whose vacuum it may have."""
        if not self.layer:
            return self.structure
        height = cell_height(structure)
        across = (_across_is_normal(cell) for cell in (self.structure, structure))
        if not all(across) or abs(height - cell_height(self.structure)) < _SAME_CELL:
            return self.structure
        return with_height(self.structure, height)

    def misfit(self, lattice: Lattice, host: Host) -> float:
        """Return the relative difference of cell lengths, the layer's own height included."""
        scale = np.linalg.norm(np.array(host.lattice), axis=1)
        if self.layer:
            scale[layer_axis(to_structure(host))] = self.structure.lattice.abc[layer_axis(self.structure)]
        return float(np.abs(np.array(lattice.abc) / scale - 1).max())

    def may_have(self, structure: Structure, cells: int) -> bool:
        """Whether enough atoms are of the elements that a supercell of so many cells has."""
        theirs = structure.composition.get_el_amt_dict()
        amounts = self.structure.composition.get_el_amt_dict()
        common = sum(min(n * cells, theirs.get(element, 0)) for element, n in amounts.items())
        sites = len(self.structure) * cells
        return common >= (1 - _MOST_EDITED) * sites and len(structure) <= (1 + _MOST_EDITED) * sites


def _across_is_normal(structure: Structure) -> bool:
    axis, normal, _ = layer_frame(structure)
    across = structure.lattice.matrix[axis]
    return bool(across @ normal > np.cos(np.radians(_ANGLE)) * np.linalg.norm(across))


def _host(cell: Structure, supercell: object, dimensionality: int | None) -> Host:
    with warnings.catch_warnings():
        # The structures exist already: it is too late to warn that their vacuum is small.
        warnings.filterwarnings("ignore", message="2D host .* of vacuum", category=UserWarning)
        # The symmetry matters to an enumeration, not to a structure that is there.
        warnings.filterwarnings("ignore", message="host .* within .* Å, but", category=UserWarning)
        return make_host(cell, supercell, dimensionality=dimensionality)


def _shifted(host: Host, shift: FloatArray) -> Host:
    frac = np.array(host.frac_coords) + shift @ np.linalg.inv(np.array(host.lattice))
    return host.model_copy(update={"frac_coords": tuple(map(tuple, (np.round(frac % 1.0, 12) % 1.0).tolist()))})


def _try(host: Host, structure: Structure) -> Recovered | None:
    try:
        return recover(host, structure)
    except InputError:
        return None


def _edited(host: Host, recovered: Recovered) -> float:
    return len(recovered.configuration.edits) / host.n_sites


def _matrices(unit: Lattice, target: Lattice) -> Iterator[IntArray]:
    """Yield supercell matrices that give the cell within 2 %: plain repetitions first, then other settings."""
    repeat = np.rint(np.array(target.abc) / np.array(unit.abc)).clip(1).astype(np.int64)
    seen: list[IntArray] = []
    signs = ((1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1))
    plain = [np.diag(repeat * np.array(sign)) for sign in signs]
    near = _shells(unit, target) <= _MOST_POINTS
    mappings = unit.find_all_mappings(target, ltol=_CELL, atol=_ANGLE, skip_rotation_matrix=True) if near else ()
    others = (np.asarray(found, dtype=np.int64) for _, _, found in itertools.islice(mappings, _MOST_SETTINGS))
    fitting = (matrix for matrix in plain if _similar(matrix @ unit.matrix, target))
    for matrix in itertools.chain(fitting, others):
        if np.linalg.det(matrix) > 0 and not any(_same_supercell(matrix, other) for other in seen):
            seen.append(matrix)
            yield matrix


def _same_supercell(matrix: IntArray, other: IntArray) -> bool:
    """Whether two matrices span the same lattice, so that `recover` finds what lies on either."""
    change = matrix @ np.linalg.inv(other)
    return bool(np.abs(change - np.rint(change)).max() < _WHOLE)


def _shells(unit: Lattice, target: Lattice) -> float:
    """Return how many lattice points `find_all_mappings` would look at; it compares them pair by pair."""
    return float(4 / 3 * np.pi * (max(target.abc) * (1 + _CELL)) ** 3 / unit.volume)


def _similar(matrix: FloatArray, target: Lattice) -> bool:
    mine = Lattice(matrix)
    lengths = np.abs(np.array(mine.abc) / np.array(target.abc) - 1).max()
    return bool(lengths <= _CELL and np.abs(np.array(mine.angles) - np.array(target.angles)).max() <= _ANGLE)
