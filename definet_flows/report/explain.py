"""A configuration in words: edits, bonds, prediction and relaxations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from pydantic import Field

from definet_flows.report.bonds import Bond, bonds
from definet_flows.report.cases import CaseRecords
from definet_flows.report.figures.deviations import nearest_image
from definet_flows.report.figures.overlays import Overlay, overlay
from definet_flows.report.summary import SAME_MEANING
from definet_flows.schemas import DEFINET, INSERTED, VACANCY, Configuration, DefectRecord, Edit, Frozen, Pair, signed
from definet_flows.schemas.starts import AUTO, NO_PRERELAXER

if TYPE_CHECKING:
    import numpy.typing as npt

    from definet_flows.schemas import FloatArray, PredictionNote, SiteMap

MOVED = 0.02
"""Å; an atom that is displaced by more has moved"""
PROPOSAL = ("network", "pre-relaxer", "gate")
"""Headings of what is said of a proposal"""

_MEANINGS = {
    "same minimum": f"counts in the saving: {SAME_MEANING}",
    "better minimum": "the prediction led to a lower end; not in the saving",
    "other minimum": "the ends differ; not in the saving",
    "unconverged": "a relaxation stopped above its force criterion; not in the saving",
    "not comparable": "the inputs differ in more than the positions; not in the saving",
}


_STATES = {"failed": "failed", "running": "is still running"}
_START = {"unrelaxed": "unrelaxed start", "predicted": "prediction"}


class ExplainedStart(Frozen):
    """Facts of one relaxation; None where the engine does not give them."""

    start: str
    status: str
    steps: int | None = Field(description="force evaluations, restarts included")
    electronic: int | None
    core_hours: float | None
    start_force: float | None = Field(description="largest |force| at the start, eV/Å")
    end_force: float | None = Field(description="largest |force| at the end, eV/Å")
    energy: float | None = Field(description="final energy of the cell, eV")
    converged: bool
    point_groups: str = Field(description="at the start and at the end")
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `definet explain` shows."""

    title: str
    paragraphs: tuple[tuple[str, str], ...]
    """Heading and text"""
    bonds: tuple[Bond, ...]
    starts: tuple[ExplainedStart, ...]
    drawing: Overlay | None
    """None without structures"""


def explain(case: CaseRecords) -> Explanation:
    """Return everything that is known of a configuration."""
    record = case.shown
    starts = tuple(_start(relaxation) for relaxation in case.records)
    paragraphs = [
        ("edited", _edits(record)),
        _proposal(case),
        ("gate", _gate(case)),
        ("against the end", _against_end(case)),
        ("verdict", _verdict(case)),
    ]
    drawing = None
    if record.sites is not None:
        drawing = overlay(record, facts=(_verdict(case),))
    return Explanation(
        title=_title(record),
        paragraphs=tuple(paragraphs),
        bonds=bonds(record),
        starts=starts,
        drawing=drawing,
    )


def _title(record: DefectRecord) -> str:
    where = f"{record.host.formula}, {record.host.n_sites} sites"
    return f"{record.name} in {where}, charge {signed(record.configuration.charge)}, relaxed by {record.engine}"


def _edits(record: DefectRecord) -> str:
    configuration = record.configuration
    parts = [
        _edit(edit, record, row) for edit, row in zip(configuration.edits, _rows(configuration, record), strict=True)
    ]
    return f"{'; '.join(parts)}; one of {configuration.multiplicity} symmetry-equivalent placements"


def _rows(configuration: Configuration, record: DefectRecord) -> list[int]:
    """Return each edit's row in the site map: inserted atoms follow the sites."""
    behind = iter(range(record.host.n_sites, record.host.n_sites + len(configuration.edits)))
    return [next(behind) if edit.site is None else edit.site for edit in configuration.edits]


def _edit(edit: Edit, record: DefectRecord, row: int) -> str:
    old, new = (chemical_symbols[number or 0] for number in (edit.old, edit.new))
    if edit.marker == INSERTED:
        words = f"{new} inserted"
    elif edit.marker == VACANCY:
        words = f"{old} removed from site {edit.site}"
    else:
        words = f"{old} on site {edit.site} replaced by {new}"
    if record.sites is None:
        return words
    x, y, z = record.sites.unrelaxed[row]
    return f"{words} at ({x:.2f}, {y:.2f}, {z:.2f}) Å"


def _proposal(case: CaseRecords) -> tuple[str, str]:
    """Return what proposed the start, the network or another pre-relaxer, and what is known of its proposal."""
    note = case.note
    if note is None:
        return "network", "was not asked"
    if note.gate.reason.startswith(NO_PRERELAXER):
        return "pre-relaxer", f"{AUTO} chose none"
    network = note.prerelaxer == DEFINET
    words = _proposed(case, note, "weights" if network else note.prerelaxer)
    remark = f"; {note.note}" if note.note and note.note != note.gate.reason else ""
    return "network" if network else "pre-relaxer", words + remark


def _proposed(case: CaseRecords, note: PredictionNote, name: str) -> str:
    sites = case.shown.sites
    words = f"{name} {note.weights[:8]}, {_duration(note.seconds)} on {note.device}"
    if sites is None or sites.predicted is None:
        words += "; the record holds no predicted positions"
    else:
        words += f"; {_movement(sites, sites.predicted, case.shown)}"
    sure = "these weights state no uncertainty" if note.prerelaxer == DEFINET else "it states no expected error"
    if note.uncertainty is not None:
        sure = f"expected mean error {note.uncertainty:.3f} Å"
    return f"{words}; {sure}"


def _duration(seconds: float | None) -> str:
    return "unknown time" if seconds is None else f"{1000 * seconds:.0f} ms"


def _movement(sites: SiteMap, table: FloatArray, record: DefectRecord) -> str:
    atoms, lengths = _lengths(sites, table - sites.unrelaxed, record)
    most = int(np.argmax(lengths))
    return (
        f"moved {int((lengths > MOVED).sum())} of {len(atoms)} atoms by more than {MOVED:g} Å, "
        f"farthest {chemical_symbols[sites.numbers[atoms[most]]]} {atoms[most]} by {lengths[most]:.3f} Å"
    )


def _lengths(sites: SiteMap, vectors: FloatArray, record: DefectRecord) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the rows that are atoms and the lengths of their vectors, Å."""
    atoms = np.flatnonzero([marker != str(VACANCY) for marker in sites.markers])
    moved = nearest_image(vectors, np.array(record.host.lattice))[atoms]
    return atoms, np.asarray(np.linalg.norm(moved, axis=1))


def _gate(case: CaseRecords) -> str:
    if case.note is None:
        return "no prediction to judge"
    gate = case.note.gate
    domain = "" if gate.in_domain else "; outside of what the weights were trained on"
    return f"{gate.verdict}{': ' + gate.reason if gate.reason else ''}{domain}"


def _against_end(case: CaseRecords) -> str:
    record = case.shown
    sites = record.sites
    if sites is None or sites.relaxed is None:
        return "no relaxed structure yet"
    if record.start != "predicted" or sites.predicted is None:
        return f"relaxed from the unrelaxed start: {_movement(sites, sites.relaxed, record)}"
    atoms, errors = _lengths(sites, sites.predicted - sites.relaxed, record)
    _, nothing = _lengths(sites, sites.unrelaxed - sites.relaxed, record)
    most = int(np.argmax(errors))
    worst = f"{chemical_symbols[sites.numbers[atoms[most]]]} {atoms[most]}"
    return (
        f"the prediction was off by {errors.mean():.3f} Å on average, at most {errors[most]:.3f} Å "
        f"({worst}); the unrelaxed start by {nothing.mean():.3f} and {nothing.max():.3f} Å"
    )


def _verdict(case: CaseRecords) -> str:
    if case.pair is None:
        return f"no pair: {_why_no_pair(case)}"
    pair = case.pair
    numbers = [
        f"ends {pair.distance:.3f} Å apart" if pair.distance is not None else "",
        f"E(predicted) - E(unrelaxed) = {1000 * pair.energy_difference:+.1f} meV"
        if pair.energy_difference is not None
        else "",
        _saved(pair),
        *pair.notes,
    ]
    return f"{pair.verdict} ({_MEANINGS[pair.verdict]}); {'; '.join(text for text in numbers if text)}"


def _saved(pair: Pair) -> str:
    fewer = pair.steps_unrelaxed - pair.steps_predicted
    floor = f", floor {pair.floor}" if pair.floor is not None else ""
    if not fewer:
        return f"as many steps from the prediction as without it{floor}"
    return f"{abs(fewer)} step{'s' * (abs(fewer) != 1)} {'fewer' if fewer > 0 else 'more'} from the prediction{floor}"


def _why_no_pair(case: CaseRecords) -> str:
    broken = [
        f"the relaxation from the {_START[record.start]} {_STATES[record.status]}"
        for record in case.records
        if record.status != "done"
    ]
    if broken:
        return ", ".join(broken)
    if case.predicted is None:
        return "there is no relaxation from a prediction"
    if case.unrelaxed is None:
        return "there is no control, a relaxation from the unrelaxed start"
    return "the two ends have not been compared"


def _start(record: DefectRecord) -> ExplainedStart:
    ledger = record.ledger
    groups = (ledger.point_group_start, ledger.point_group_end) if ledger else (None, None)
    notes = [*(ledger.notes if ledger else ()), *([record.error] if record.error else ())]
    if ledger and len(ledger.attempts) > 1:
        notes.insert(
            0, f"{len(ledger.attempts)} attempts of {', '.join(str(a.ionic_steps) for a in ledger.attempts)} steps"
        )
    return ExplainedStart(
        start=record.start,
        status=record.status,
        steps=ledger.ionic_steps if ledger else None,
        electronic=ledger.electronic_steps if ledger else None,
        core_hours=ledger.core_hours if ledger else None,
        start_force=ledger.start_max_force if ledger else None,
        end_force=ledger.max_force if ledger else None,
        energy=ledger.energy if ledger else None,
        converged=bool(ledger and ledger.converged),
        point_groups=" → ".join(group or "?" for group in groups),
        notes=tuple(notes),
    )
