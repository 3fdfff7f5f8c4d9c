"""An engine's output -> steps, energies, forces, convergence. Pure: no workflow engine, no torch.

An *ionic step* is a force evaluation, that at the start included; it is counted in the same way for
every engine and from both starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows._lazy import names_of

if TYPE_CHECKING:
    from definet_flows.ledger.ase_steps import read_steps
    from definet_flows.ledger.documents import ASE_FORCE_CRITERION, ASE_OPTIMIZER, LINE_SEARCHES, read_document
    from definet_flows.ledger.outcome import SYMPREC, Outcome, largest_force, point_group, repeats_last_frame
    from definet_flows.ledger.vasp.attempts import SURFACE_TAGS, read_attempts, read_runs, surface_changes
    from definet_flows.ledger.vasp.executions import Execution, read_executions
    from definet_flows.ledger.vasp.output.inputs import VaspInputs, potcar_hashes, read_inputs
    from definet_flows.ledger.vasp.output.vasprun import read_vasp_run
    from definet_flows.ledger.vasp.relaxation import RATTLED, combined, read_all_executions, read_relaxation, remarks
    from definet_flows.ledger.vasp.run import VaspRun

__all__ = [
    "ASE_FORCE_CRITERION",
    "ASE_OPTIMIZER",
    "LINE_SEARCHES",
    "RATTLED",
    "SURFACE_TAGS",
    "SYMPREC",
    "Execution",
    "Outcome",
    "VaspInputs",
    "VaspRun",
    "combined",
    "largest_force",
    "point_group",
    "potcar_hashes",
    "read_all_executions",
    "read_attempts",
    "read_document",
    "read_executions",
    "read_inputs",
    "read_relaxation",
    "read_runs",
    "read_steps",
    "read_vasp_run",
    "remarks",
    "repeats_last_frame",
    "surface_changes",
]

_HOMES = {
    "read_steps": "definet_flows.ledger.ase_steps",
    "ASE_FORCE_CRITERION": "definet_flows.ledger.documents",
    "ASE_OPTIMIZER": "definet_flows.ledger.documents",
    "Execution": "definet_flows.ledger.vasp.executions",
    "LINE_SEARCHES": "definet_flows.ledger.documents",
    "Outcome": "definet_flows.ledger.outcome",
    "RATTLED": "definet_flows.ledger.vasp.relaxation",
    "SURFACE_TAGS": "definet_flows.ledger.vasp.attempts",
    "SYMPREC": "definet_flows.ledger.outcome",
    "VaspInputs": "definet_flows.ledger.vasp.output.inputs",
    "VaspRun": "definet_flows.ledger.vasp.run",
    "combined": "definet_flows.ledger.vasp.relaxation",
    "largest_force": "definet_flows.ledger.outcome",
    "point_group": "definet_flows.ledger.outcome",
    "potcar_hashes": "definet_flows.ledger.vasp.output.inputs",
    "read_all_executions": "definet_flows.ledger.vasp.relaxation",
    "read_attempts": "definet_flows.ledger.vasp.attempts",
    "read_document": "definet_flows.ledger.documents",
    "read_executions": "definet_flows.ledger.vasp.executions",
    "read_inputs": "definet_flows.ledger.vasp.output.inputs",
    "read_relaxation": "definet_flows.ledger.vasp.relaxation",
    "read_runs": "definet_flows.ledger.vasp.attempts",
    "read_vasp_run": "definet_flows.ledger.vasp.output.vasprun",
    "remarks": "definet_flows.ledger.vasp.relaxation",
    "repeats_last_frame": "definet_flows.ledger.outcome",
    "surface_changes": "definet_flows.ledger.vasp.attempts",
}

__getattr__, __dir__ = names_of(__name__, _HOMES)
