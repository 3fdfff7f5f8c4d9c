"""From recorded fields to the displacements of a configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from definet_flows.schemas import Configuration, FloatArray, Host, content_hash
from definet_flows.starts.fields.carry import Laid, lay_configuration
from definet_flows.starts.fields.charges import split
from definet_flows.starts.fields.clusters import Cluster, parts
from definet_flows.starts.fields.errors import CHARGE, CUT, mean_size
from definet_flows.starts.fields.library import Library, Source, at_rest
from definet_flows.starts.proposals import Proposal


@dataclass(frozen=True, eq=False)
class Sum:
    """Displacements in the crystal's frame, Å, [n_rows, 3], what they come from, and their expected error, Å."""

    values: FloatArray
    records: tuple[str, ...]
    charge: int
    error: float = 0.0


def propose(library: Library, host: Host, configuration: Configuration) -> Proposal:
    """Return the proposal for a configuration of the library's host."""
    laid, missing = lay_configuration(library.cell, host, configuration)
    found = None
    if laid is not None:
        found, missing = _best(library, laid, configuration)
    if laid is None or found is None:
        return Proposal(None, error=f"no record of {', '.join(sorted(set(missing)))}")
    values = at_rest(laid, found.values - laid.off)
    missed = abs(found.charge - configuration.charge)
    return Proposal(
        values @ library.cell.turn.T,
        uncertainty=math.hypot(found.error, CHARGE * missed * mean_size(values, laid.atoms)),
        note=f"charge {found.charge} taken for {configuration.charge}" if missed else "",
        learned_from=content_hash("fields", sorted(set(found.records))),
    )


def _best(library: Library, laid: Laid, configuration: Configuration) -> tuple[Sum | None, list[str]]:
    """Return what is recorded nearest to a configuration: its charge first, then as a whole before a sum."""
    if not configuration.edits:
        return Sum(np.zeros_like(laid.off), (), configuration.charge), []
    whole = _whole(library, laid, configuration.charge)
    if whole is not None and whole.charge == configuration.charge:
        return whole, []
    total, missing = _sum(library, laid, configuration)
    if whole is None or (
        total is not None and abs(total.charge - configuration.charge) < abs(whole.charge - configuration.charge)
    ):
        return total, missing
    return whole, []


def _whole(library: Library, laid: Laid, charge: int) -> Sum | None:
    found = library.wholes(library.cell, laid.cluster)
    if not found:
        return None
    record, piece = min(found, key=lambda pair: abs(pair[0].charge - charge))
    values = library.around(record, piece).onto(laid.rows, piece)
    if record.cell.has_lattice_of(library.cell):
        return Sum(values, (record.record_id,), record.charge)
    share = math.hypot(CUT, library.doubt(record, carried=True))
    return Sum(values, (record.record_id,), record.charge, share * mean_size(values, laid.atoms))


def _sum(library: Library, laid: Laid, configuration: Configuration) -> tuple[Sum | None, list[str]]:
    """Return the sum over defects and pairs, or the names of the defects without a record."""
    singles = [laid.cluster.part([k]) for k in range(len(laid.cluster))]
    options = [library.charges.get(single.canonical[0], {}) for single in singles]
    if not all(options):
        ordered = sorted(configuration.edits, key=lambda edit: edit.site is None)
        return None, [edit.name for edit, option in zip(ordered, options, strict=True) if not option]
    charges = split(configuration.charge, options)
    values, doubts = np.zeros_like(laid.off), list[float]()
    terms, missing = _terms(library, laid.cluster, charges)
    for source, piece in terms:
        part = source.field.onto(laid.rows, piece)
        values += part
        if source.only is not None and len(piece) == 1:
            carried = not source.group.cell.has_lattice_of(library.cell)
            doubts.append(library.doubt(source.only, carried=carried) * mean_size(part, laid.atoms))
    motion = mean_size(values, laid.atoms)
    cut = any(not source.group.cell.has_lattice_of(library.cell) for source, _ in terms) * CUT * motion
    records = tuple(record for source, _ in terms for record in source.records)
    error = math.hypot(*doubts, cut, _interaction(library, laid.cluster, terms, missing, motion))
    return Sum(values, records, sum(charges), error), []


def _interaction(
    library: Library,
    cluster: Cluster,
    terms: Sequence[tuple[Source, Cluster]],
    missing: Sequence[Cluster],
    motion: float,
) -> float:
    """Return the expected error for what defects do to each other that no recorded pair shows, Å.

    A missing pair errs like recorded pairs of the same two kinds, else like all recorded pairs. Errors of pairs add
    like their squares. Where no record shows such an error, it is the share of the motion that is left where all
    pairs are missing; three defects together do half of what a pair does.
    """
    fitted = terms[0][0].group.fit
    pairs = len(terms) + len(missing) - len(cluster)
    if pairs == 0:
        return 0.0
    per_pair = CUT * motion / math.sqrt(pairs) if fitted.error_per_pair is None else fitted.error_per_pair
    known = per_pair / 2 if fitted.error is None else fitted.error
    if not library.pairs and fitted.error is not None:
        return known  # complexes left out of the fit show what all pairs do
    of_pairs = [fitted.error_of_kinds.get(pair.kinds, per_pair) for pair in missing]
    return math.hypot(*of_pairs, known * (len(missing) < pairs or pairs > 1))


def _terms(
    library: Library, cluster: Cluster, charges: Sequence[int]
) -> tuple[list[tuple[Source, Cluster]], list[Cluster]]:
    """Return the fields of all defects and of those pairs that are recorded, and the pairs that are not."""
    found, missing = [], []
    for which, placements in parts(library.cell, cluster):
        taken = tuple(sorted(charges[k] for k in which))
        sources = ((library.term((piece.canonical[0], taken), library.cell), piece) for piece in placements)
        recorded = [(source, piece) for source, piece in sources if source is not None][:1]
        found += recorded
        missing += [] if recorded else placements[:1]
    return found, missing
