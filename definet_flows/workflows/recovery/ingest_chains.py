"""Runs that continue each other, put together into relaxations: every step counted once, from the first start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from definet_flows.ledger import combined
from definet_flows.ledger.vasp.attempts import changed_tags
from definet_flows.ledger.vasp.restarts import other_relaxation, predecessors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.ledger import Outcome, VaspRun
    from definet_flows.schemas import Ledger
    from definet_flows.workflows.recovery.ingest_folders import FoundRun


@dataclass(frozen=True)
class Relaxation:
    """Runs that form a single relaxation, in order.

    Attributes
    ----------
    runs
        The first run began it, each later run continues the run before.
    begins
        The run at whose end it begins, if that is another relaxation, and the reason.
    """

    runs: tuple[FoundRun, ...]
    begins: str = ""

    @property
    def first(self) -> VaspRun:
        """The execution that began it, with the energy surface of the last of the runs in its folder."""
        run, executions = self.runs[0].first.run, self.runs[0].run.executions
        if len({execution.label for execution in executions}) == 1:
            return run
        last = next(
            execution.run
            for execution in executions
            if execution.label == executions[-1].label and execution.run.surface
        )
        return replace(run, surface=last.surface)

    @property
    def outcome(self) -> Outcome:
        """Its end, and its whole cost."""
        total: Ledger | None = None
        for k, run in enumerate(self.runs):
            ledger = run.outcome.ledger
            if ledger is not None and k:
                changed = changed_tags(self.runs[k - 1].run.executions[-1], run.run.executions[0])
                attempts = (ledger.attempts[0].model_copy(update={"changed_tags": changed}), *ledger.attempts[1:])
                ledger = ledger.model_copy(update={"attempts": attempts})
            total = combined(total, ledger)
        last = self.runs[-1]
        error = last.outcome.error
        if last.run.executions[-1].last is None and last.outcome.structure is not None and error is None:
            error = "no trustworthy positions at the end of the output"
        notes = [note for run in self.runs for note in run.charge.notes]
        if self.begins:
            notes.append(f"{NOT_UNRELAXED}: it begins at the end of {self.begins}; steps before it are not counted")
        if total is not None and notes:
            total = total.model_copy(update={"notes": tuple(dict.fromkeys((*total.notes, *notes)))})
        return replace(last.outcome, ledger=total, error=error)


NOT_UNRELAXED = "not from the unrelaxed start"
"""How a note begins on a relaxation that started elsewhere than on the host's sites."""


def relaxations(runs: Sequence[FoundRun]) -> tuple[list[Relaxation], dict[str, str]]:
    """Return the relaxations that runs make together, and why a run makes none of its own."""
    before = predecessors([run.run for run in runs])
    begins: dict[int, str] = {}
    for n, k in enumerate(before):
        if k is not None and (why := other_relaxation(runs[k].run, runs[n].run)):
            begins[n], before[n] = f"{runs[k].place} ({why})", None
    left_out: dict[str, str] = {}
    kept = [n for n in range(len(runs)) if n in before or not _came_to_nothing(runs, before, n)]
    for n in set(range(len(runs))) - set(kept):
        left_out[str(runs[n].place)] = f"continues {runs[before[n] or 0].place} and broke off: that counts without it"
    continued = {before[n] for n in kept}
    ends = [_line(before, n) for n in kept if n not in continued]
    for chain in ends:
        for k in chain[:-1]:
            left_out[str(runs[k].place)] = f"continued in {runs[chain[-1]].place}: its steps are counted there"
    return [Relaxation(tuple(runs[k] for k in chain), begins.get(chain[0], "")) for chain in ends], left_out


def _came_to_nothing(runs: Sequence[FoundRun], before: Sequence[int | None], n: int) -> bool:
    """Say whether a run continued another without a step, or broke off where that had converged."""
    k = before[n]
    broke_off = runs[n].run.executions[-1].run.finished is False
    return k is not None and (not runs[n].run.steps or (runs[k].complete and broke_off))


def _line(before: Sequence[int | None], n: int) -> list[int]:
    """Return a run and the runs that it continues, the first run first."""
    line = [n]
    while (k := before[line[0]]) is not None:
        line.insert(0, k)
    return line
