"""Pairs: whether the relaxations from both starts of one configuration ended in the same minimum."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, DefectRecord, FloatArray, Ledger, Pair, SiteMap, Start, Verdict
from definet_flows.stores.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from definet_flows.defects.sites.symmetry import SiteOperations
    from definet_flows.stores.records import Records

SAME_DISTANCE = 0.05
"""Å; ends of relaxations to 0.01 eV/Å by two optimisers differ by about 0.02."""

SAME_ENERGY = 0.005
"""eV per cell"""

SAME_MOMENT = 0.1
"""μB per cell; the sign of a total moment is arbitrary and does not count"""

FLOORS = {"conjugate gradient": 3}
"""Fewest force evaluations of a relaxation that does not begin converged, by optimiser.

A line search of VASP's conjugate gradient is the start, a trial and a corrector.
"""

_FLOOR = 2  # any other optimiser: the start and a step

Images: TypeAlias = "SiteOperations | None"


def images_of(record: DefectRecord) -> Images:
    """Return the operations that leave the record's unrelaxed configuration as it is; None if unknown."""
    from definet_flows.defects.sites.symmetry import stabilizer  # noqa: PLC0415 - loads spglib and pymatgen's io
    from definet_flows.stores.learning.pristine import pristine_of  # noqa: PLC0415 - loads the readers of VASP

    try:
        return stabilizer(pristine_of(record), record.configuration)
    except InputError:
        return None  # a host that lost its symmetry when it was relaxed; the ends are then compared as they are


def end_distance(
    lattice: npt.ArrayLike, unrelaxed: SiteMap, predicted: SiteMap, images: Images = None
) -> tuple[float, int]:
    """Return the distance between two ends of one configuration, up to symmetry and a rigid shift.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, Å, [3, 3].
    unrelaxed, predicted
        Site maps of the two relaxations; their starts share the `unrelaxed` table.
    images
        Operations of the configuration; only the identity is tried if None.

    Returns
    -------
    distance
        Largest displacement of any atom from one end to the other, Å, mean shift removed, for the
        best image.
    image
        Index of that operation.
    """
    if unrelaxed.relaxed is None or predicted.relaxed is None:
        msg = "a site map without relaxed coordinates cannot be compared: the relaxation has not finished"
        raise InputError(msg)
    sites = unrelaxed.unrelaxed
    atoms = np.array([marker != str(VACANCY) for marker in unrelaxed.markers])
    return field_distance(lattice, sites, unrelaxed.relaxed - sites, predicted.relaxed - sites, atoms, images)


def field_distance(
    lattice: npt.ArrayLike,
    sites: FloatArray,
    first: FloatArray,
    second: FloatArray,
    atoms: npt.NDArray[np.bool_],
    images: Images = None,
) -> tuple[float, int]:
    """Return the same for two displacement fields of one configuration, Å, [n_rows, 3].

    Parameters
    ----------
    lattice, images
        See `end_distance`.
    sites
        Unrelaxed positions of the rows, Cartesian, Å, [n_rows, 3].
    first, second
        Displacements from there.
    atoms
        Which rows are no vacancies, [n_rows].
    """
    cell = np.asarray(lattice, dtype=float)
    one, other = _nearest_image(first, cell), _nearest_image(second, cell)
    distances = [_largest_shift((other - image)[atoms], cell) for image in _images(one, sites, cell, images)]
    best = int(np.argmin(distances))
    return distances[best], best


def _images(field: FloatArray, sites: FloatArray, cell: FloatArray, images: Images) -> Iterator[FloatArray]:
    """Yield the images of a displacement field [n, 3]; an operation takes row i to row permutation[i]."""
    if images is None:
        yield field
        return
    inserted = sites[images.permutations.shape[1] :]
    for permutation, rotation, shift in zip(images.permutations, images.rotations, images.translations, strict=True):
        rows = np.concatenate([permutation, len(permutation) + _partners(inserted, rotation, shift, cell)])
        image = np.empty_like(field)
        image[rows] = field @ rotation.T
        yield image


def _partners(inserted: FloatArray, rotation: FloatArray, shift: FloatArray, cell: FloatArray) -> npt.NDArray[np.int64]:
    """Return where each inserted atom goes; they are no sites, so the permutation does not say."""
    if not len(inserted):
        return np.empty(0, dtype=np.int64)
    moved = inserted @ rotation.T + shift
    apart = [np.linalg.norm(_nearest_image(inserted - point, cell), axis=1) for point in moved]
    return np.asarray(np.argmin(apart, axis=1), dtype=np.int64)


def _nearest_image(vectors: FloatArray, cell: FloatArray) -> FloatArray:
    """Return the shortest periodic images of displacement vectors [n, 3], Å."""
    frac = vectors @ np.linalg.inv(cell)
    nearest: FloatArray = (frac - np.rint(frac)) @ cell
    return nearest


def _largest_shift(difference: FloatArray, cell: FloatArray) -> float:
    """Return the largest displacement, Å, once the mean shift is gone; [n_atoms, 3]."""
    # Wrapped about a single atom first: a shift near half a cell must not wrap some atoms and not others.
    relative = _nearest_image(difference - difference[0], cell)
    lengths = np.linalg.norm(_nearest_image(relative - relative.mean(axis=0), cell), axis=1)
    return float(lengths.max())


def judge(unrelaxed: DefectRecord, predicted: DefectRecord, images: Images = None) -> Pair:
    """Compare two finished records of one configuration and one settings hash.

    Same minimum: the ends agree within `SAME_DISTANCE`, mean shift removed and `images` tried, within
    `SAME_ENERGY` and within `SAME_MOMENT`. Better minimum: the predicted end is lower by more than that. Not
    comparable: the inputs differ in more than the positions, or corrections led to different energy surfaces.

    Raises
    ------
    InputError
        If the records are not from the two starts of one configuration, or the steps of a relaxation are unknown,
        as they are before it is done.
    """
    starts = (unrelaxed.start, predicted.start) == ("unrelaxed", "predicted")
    if not starts or _pairing(unrelaxed) != _pairing(predicted) or predicted.prediction is None:
        msg = f"records {unrelaxed.id} and {predicted.id} are not from the two starts of one configuration"
        raise InputError(msg)
    ends = [record.ledger for record in (unrelaxed, predicted)]
    uncounted = any(ledger is None or ledger.ionic_steps is None for ledger in ends)
    if uncounted or unrelaxed.sites is None or predicted.sites is None:
        msg = f"records {unrelaxed.id} and {predicted.id} cannot be compared before both are done, their steps counted"
        raise InputError(msg)
    distance, _ = end_distance(unrelaxed.host.lattice, unrelaxed.sites, predicted.sites, images)
    first, second = (ledger for ledger in ends if ledger is not None)
    difference = None if first.energy is None or second.energy is None else second.energy - first.energy
    moments = _moment_difference(first.magnetization, second.magnetization)
    return Pair(
        id=Pair.identity(unrelaxed.id, predicted.id),
        configuration_id=unrelaxed.configuration_id,
        settings_hash=unrelaxed.settings_hash,
        engine=unrelaxed.engine,
        weights=predicted.prediction.weights,
        host_formula=unrelaxed.host.formula,
        name=unrelaxed.name,
        n_sites=unrelaxed.host.n_sites,
        n_defects=unrelaxed.n_defects,
        **_costs(first, "unrelaxed"),
        **_costs(second, "predicted"),
        energy_difference=difference,
        distance=distance,
        moment_difference=moments,
        same_inputs=_same_inputs(first, second),
        floor=FLOORS.get(second.optimizer or "", _FLOOR),
        notes=(*_notes("unrelaxed", first), *_notes("predicted", second)),
        verdict=_judged(first, second, distance, difference, moments),
    )


def _pairing(record: DefectRecord) -> tuple[str, str]:
    return record.configuration_id, record.settings_hash


def _costs(ledger: Ledger, start: Start) -> dict[str, int | float | None]:
    return {
        f"steps_{start}": ledger.ionic_steps,
        f"electronic_{start}": ledger.electronic_steps,
        f"core_hours_{start}": ledger.core_hours,
        f"start_force_{start}": ledger.start_max_force,
    }


def _moment_difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else abs(abs(first) - abs(second))


def _same_inputs(first: Ledger, second: Ledger) -> bool | None:
    return None if first.inputs is None or second.inputs is None else first.inputs == second.inputs


def _notes(start: Start, ledger: Ledger) -> tuple[str, ...]:
    """Return what changed during the relaxation from this start."""
    return tuple(f"{start}: {note}" for note in ledger.notes if "changed" in note)


def _judged(
    first: Ledger, second: Ledger, distance: float, energy_difference: float | None, moments: float | None
) -> Verdict:
    from definet_flows.ledger import surface_changes  # noqa: PLC0415 - loads pymatgen's readers of VASP

    if _same_inputs(first, second) is False or surface_changes(first.attempts) != surface_changes(second.attempts):
        return "not comparable"
    if not (first.converged and second.converged):
        return "unconverged"
    return _verdict(distance, energy_difference, moments)


def _verdict(distance: float, energy_difference: float | None, moments: float | None) -> Verdict:
    """Judge two converged ends; without both energies they count as different."""
    if energy_difference is None:
        return "other minimum"
    if energy_difference < -SAME_ENERGY:
        return "better minimum"
    same = distance < SAME_DISTANCE and abs(energy_difference) < SAME_ENERGY and (moments or 0.0) < SAME_MOMENT
    return "same minimum" if same else "other minimum"


def update_pairs(
    records: Records,
    configuration_id: str,
    settings_hash: str,
    images: Callable[[DefectRecord], Images] = images_of,
) -> list[Pair]:
    """Write the pair of every finished relaxation from a prediction with the control; return the pairs.

    Call it after either relaxation is written. The second caller finds both relaxations; if both callers find
    them, they write the same documents. The list is empty while a relaxation is missing.
    """
    where = Filter(configuration_ids=(configuration_id,), settings_hash=settings_hash)
    done = [record for record in records.records(where) if record.status == "done"]
    unrelaxed = next((record for record in done if record.start == "unrelaxed"), None)
    predicted = [record for record in done if record.start == "predicted"]
    if unrelaxed is None or not predicted:
        return []
    operations = images(unrelaxed)
    pairs = [judge(unrelaxed, record, operations) for record in predicted]
    records.put(*pairs)
    return pairs
