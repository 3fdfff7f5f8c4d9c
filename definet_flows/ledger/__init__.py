"""An engine's output -> steps, energies, forces, convergence. Pure: no workflow engine, no torch.

An *ionic step* is one force evaluation, the start's included; it is counted the same way for
every engine and for both arms of a pair.
"""

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
