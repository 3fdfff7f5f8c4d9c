"""Whether a record may be learned from; a reason if not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from definet_flows.defects import nodes
from definet_flows.errors import InputError
from definet_flows.ledger import surface_changes
from definet_flows.schemas import INSERTED, VACANCY, Configuration, DefectRecord, FloatArray, Gate, Host, SiteMap

Judge = Callable[[Host, Configuration, FloatArray, FloatArray], Gate]
"""Verdict on displacements: host, configuration, base [n_sites, 3] and displacements [n_rows, 3], Å."""

OFF_BASE = 1.0
"""Å; pristine sites of a record's start lie no farther than this from the host's own, the mean shift removed."""

EXCHANGED = 0.5
"""Å; atoms of one element count as exchanged if other partners would shorten the sum of their ways by more."""

_LONG_WAY = 1.0  # Å; shorter ways are not looked at
_NAMED = 6  # sites named in a reason


def why_refused(record: DefectRecord, host: Host, judge: Judge) -> str | None:
    """Return why a record must not be learned from; None if it may.

    Parameters
    ----------
    record
        Of the settings in question.
    host
        Its bulk supercell as given.
    judge
        The gate: refuses displacements that no relaxation shows.
    """
    return _why_unfinished(record) or _why_misplaced(record, host, judge)


def _why_unfinished(record: DefectRecord) -> str | None:
    ledger = record.ledger
    if record.status != "done":
        return f"{record.status}: {record.error}" if record.error else record.status
    if ledger is None or record.sites is None or record.sites.relaxed is None:
        return "no relaxed positions"
    if not ledger.converged:
        force = "unknown" if ledger.max_force is None else f"{ledger.max_force:.3f}"
        criterion = "unknown" if ledger.force_criterion is None else f"{ledger.force_criterion:g}"
        return f"not converged: largest force {force} eV/Å, criterion {criterion}"
    changed = surface_changes(ledger.attempts)
    if changed:
        return f"corrections changed the energy surface: {', '.join(f'{k}={v}' for k, v in sorted(changed.items()))}"
    return None


def _why_misplaced(record: DefectRecord, host: Host, judge: Judge) -> str | None:
    """Check the positions: the table, its order, and the displacements."""
    sites = record.sites
    assert sites is not None  # noqa: S101 - `_why_unfinished` has been asked
    try:
        problem = _why_other_table(sites, host, record.configuration)
    except InputError as error:
        return str(error)
    if problem:
        return problem
    base, moved = base_of(sites), displacements_of(record)
    if not (np.isfinite(base).all() and np.isfinite(moved).all()):
        return "positions are not finite"
    off = nearest_image(base - host.cartesian, host.lattice)
    off = nearest_image(off - off[0], host.lattice)
    far = np.linalg.norm(off - off.mean(0), axis=1)
    if far.max() > OFF_BASE:
        return f"site order: site {far.argmax()} starts {far.max():.2f} Å from the host's"
    swapped, only = _exchanged(sites, moved, host.lattice)
    gate = judge(host, record.configuration, base, moved)
    if gate.verdict == "rejected" and not only:
        return f"structure: {gate.reason}"
    return f"site order: atoms on sites {swapped} ended on each other's" if swapped else None


def _why_other_table(sites: SiteMap, host: Host, configuration: Configuration) -> str | None:
    numbers, markers = nodes(host, configuration)
    if sites.markers != "".join(map(str, markers)) or sites.numbers != tuple(numbers.tolist()):
        return "site order: elements or markers of the table are not those of host and configuration"
    if sorted(sites.permutation) != np.flatnonzero(markers != VACANCY).tolist():
        return "site order: the engine's permutation does not list every atom once"
    if sites.relaxed is None or sites.relaxed.shape != sites.unrelaxed.shape:
        return "relaxed and unrelaxed table differ in length"
    return None


def _exchanged(sites: SiteMap, moved: FloatArray, lattice: npt.ArrayLike) -> tuple[str, bool]:
    """Return which atoms of one element would have moved less if exchanged, and whether nothing else is wrong."""
    numbers = np.array(sites.numbers)
    atoms = np.array([marker != str(VACANCY) for marker in sites.markers])
    start, end = sites.unrelaxed, sites.unrelaxed + moved
    wrong: list[int] = []
    farthest = 0.0
    for number in np.unique(numbers[atoms & (np.linalg.norm(moved, axis=1) > _LONG_WAY)]):
        rows = np.flatnonzero(atoms & (numbers == number))
        between = np.linalg.norm(nearest_image(end[rows][:, None] - start[rows][None], lattice), axis=-1)
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - a second to import

        _, partners = linear_sum_assignment(between)
        own, best = np.diagonal(between), between[np.arange(len(rows)), partners]
        farthest = max(farthest, float(best.max()))
        if own.sum() - best.sum() > EXCHANGED:
            wrong += rows[partners != np.arange(len(rows))].tolist()
    words = ", ".join(map(str, wrong[:_NAMED])) + (" ..." if len(wrong) > _NAMED else "")
    return words, bool(wrong) and farthest < _LONG_WAY


def base_of(sites: SiteMap) -> FloatArray:
    """Return the pristine sites that a relaxation's edits were made on, Å, [n_sites, 3]."""
    return sites.unrelaxed[: len(sites.markers.replace(str(INSERTED), ""))]


def displacements_of(record: DefectRecord) -> FloatArray:
    """Return relaxed minus unrelaxed positions, nearest images, zero where vacant, Å, [n_rows, 3]."""
    sites = record.sites
    assert sites is not None  # noqa: S101 - only finished records are asked
    assert sites.relaxed is not None  # noqa: S101
    moved = nearest_image(sites.relaxed - sites.unrelaxed, record.host.lattice)
    moved[[marker == str(VACANCY) for marker in sites.markers]] = 0.0
    return moved


def nearest_image(vectors: FloatArray, lattice: npt.ArrayLike) -> FloatArray:
    """Return the shortest periodic images of vectors, Å, [..., 3]."""
    cell = np.asarray(lattice, dtype=np.float64)
    frac = vectors @ np.linalg.inv(cell)
    nearest: FloatArray = (frac - np.rint(frac)) @ cell
    return nearest


def odd_potcars(records: Iterable[DefectRecord]) -> dict[str, str]:
    """Return, by record id, why a record's POTCARs are not those of most others."""
    used = {r.id: _by_element(r.ledger.potcars) for r in records if r.ledger is not None and r.ledger.potcars}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for potcars in used.values():
        for element, file in potcars.items():
            counts[element][file] += 1
    usual = {element: max(sorted(count), key=count.__getitem__) for element, count in counts.items()}
    odd = {}
    for identity, potcars in used.items():
        other = sorted(element for element, file in potcars.items() if file != usual[element])
        if other:
            odd[identity] = f"POTCAR of {', '.join(other)} is not that of most records with these settings"
    return odd


def _by_element(potcars: dict[str, str]) -> dict[str, str]:
    """Return element -> TITEL and sha256; a TITEL reads `PAW_PBE Mo_sv 02Feb2006`."""
    found = {}
    for title, digest in potcars.items():
        words = title.split()
        symbol = words[1] if len(words) > 1 else title
        found[symbol.partition("_")[0]] = f"{title} {digest}"
    return found
