"""Purpose of a run of VASP: only a relaxation of the ions in a fixed cell counts as a relaxation of a defect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.ledger.vasp.run import CONTROLS, OPTIMIZERS

if TYPE_CHECKING:
    from definet_flows.ledger.vasp.executions import Execution

STATIC = "a static calculation"
"""Part of the reason of a run that moves no ion."""

_OTHERS = {0: "molecular dynamics", **dict.fromkeys((5, 6, 7, 8), "phonons"), 40: "a reaction path", 44: "a dimer"}
_FIXED_CELL = (0, 1, 2)


def no_relaxation(execution: Execution) -> str | None:
    """Return why an execution is no relaxation of a defect, by the tags that say so; None if it is.

    A tag that is neither in the output nor in the INCAR is taken to be that of a relaxation.
    """
    asked = {name: _whole(execution.tags[name]) for name in CONTROLS if name in execution.tags}
    tags: dict[str, int | None] = {**asked, **execution.run.controls}
    steps, optimizer = tags.get("NSW"), tags.get("IBRION")
    if steps is not None and steps <= 0:
        return f"NSW {steps}: {STATIC}, no relaxation"
    if optimizer is not None and optimizer not in OPTIMIZERS:
        kind = STATIC if optimizer == -1 else _OTHERS.get(optimizer, "no optimiser of VASP")
        return f"IBRION {optimizer}: {kind}, no relaxation"
    if (tags.get("IMAGES") or 0) > 0:
        return f"IMAGES {tags['IMAGES']}: an image of a band, no relaxation"
    cell = tags.get("ISIF")
    if cell is not None and cell not in _FIXED_CELL:
        return f"ISIF {cell}: the cell was relaxed too"
    if execution.run.ml_steps and not execution.run.ionic_steps:
        return "every step was made by a machine-learned force field: no DFT"
    return None


def _whole(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
