"""Restarts: a run that begins where another run ended continues it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from definet_flows.ledger.vasp.attempts import attempts_of, surface_differences
from definet_flows.ledger.vasp.positions import farthest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymatgen.core import Structure

    from definet_flows.ledger.vasp.executions import Execution
    from definet_flows.schemas import Attempt

_HERE = 1e-3
"""Å; a POSCAR that is a CONTCAR agrees to its last digit, an OUTCAR has five decimals."""


@dataclass(frozen=True)
class Run:
    """Facts of a run that decide which other run it continues.

    Attributes
    ----------
    executions
        All of them, in order.
    charge
        Net charge, elementary charges; runs of other charges are other relaxations.
    where
        Name of its folder in attempts and messages.
    """

    executions: tuple[Execution, ...]
    charge: int
    where: str

    @property
    def start(self) -> Structure | None:
        """Start of the first execution."""
        return next((execution.start for execution in self.executions if execution.start is not None), None)

    @property
    def ends(self) -> tuple[Structure, ...]:
        """Structures from which a continuation may begin."""
        return self.executions[-1].ends

    @property
    def steps(self) -> int:
        """Finished ionic steps."""
        return sum(execution.run.ionic_steps for execution in self.executions)

    @property
    def began(self) -> str:
        """When it began; empty if unknown."""
        return next((execution.run.began for execution in self.executions if execution.run.began), "")

    @property
    def moved(self) -> bool:
        """Whether it ended elsewhere than it began: else a run that begins there need not continue it."""
        return self.start is not None and not _meets(self.start, self.ends)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Its executions as attempts."""
        return attempts_of(self.executions, self.where)


def predecessors(runs: Sequence[Run]) -> list[int | None]:
    """Return for each run the index of the run that it continues; None if it continues none.

    Of several the latest counts, if their times are known; no run continues itself, not even through others. A run
    never continues a run that began later.
    """
    possible = [[k for k in others if _may_continue(runs[k], runs[n])] for n, others in _candidates(runs)]
    found: list[int | None] = [None] * len(runs)
    for n, before in enumerate(possible):
        # a run without movement continues another, or is a run from the same start
        real = [k for k in before if runs[k].moved or any(runs[j].moved for j in possible[k] if j != n)]
        for k in sorted(real, key=lambda k: (runs[k].began, runs[k].moved, runs[k].where), reverse=True):
            if n not in (k, *_line(found, k)):
                found[n] = k
                break
    return found


def _candidates(runs: Sequence[Run]) -> Iterator[tuple[int, list[int]]]:
    """Yield each run with the others of the same atoms."""
    atoms = [tuple(run.start.atomic_numbers) if run.start is not None else () for run in runs]
    alike: dict[tuple[int, ...], list[int]] = {}
    for n, numbers in enumerate(atoms):
        alike.setdefault(numbers, []).append(n)
    for n, numbers in enumerate(atoms):
        yield n, [k for k in alike[numbers] if k != n] if numbers else []


def _may_continue(before: Run, after: Run) -> bool:
    in_time = not before.began or not after.began or before.began <= after.began
    return before.steps > 0 and in_time and after.start is not None and _meets(after.start, before.ends)


def _meets(start: Structure, ends: Sequence[Structure]) -> bool:
    return any((apart := farthest(start, end)) is not None and apart <= _HERE for end in ends)


def _line(found: Sequence[int | None], k: int) -> Iterator[int]:
    """Yield the run that a run continues, then the run that this continues, and so on."""
    before = found[k]
    while before is not None:
        yield before
        before = found[before]


def other_relaxation(before: Run, after: Run) -> str:
    """Return why a run that begins at the end of another is still a relaxation of its own; empty if it is not.

    Steps on another energy surface do not belong to this relaxation.
    """
    if before.charge != after.charge:
        return f"charge {before.charge:+d}"
    changed = surface_differences(before.executions[-1].run, after.executions[0].run)
    return "other settings: " + ", ".join(f"{name} {value}" for name, value in changed.items()) if changed else ""


def broken_label(executions: Sequence[Execution], named: Sequence[str]) -> str | None:
    """Return the label of a run in a folder that does not begin where the run before it ended; None if all do."""
    known = list(dict.fromkeys(execution.label for execution in executions))
    for label in named:
        if label not in known:  # the same output under another name
            return label
    for before, label in pairwise(known):
        first = next(execution for execution in executions if execution.label == label)
        ends = [end for execution in executions if execution.label == before for end in execution.ends]
        if first.start is None or not _meets(first.start, ends):
            return label
    return None
