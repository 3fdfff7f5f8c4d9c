"""An engine's output -> steps, energies, forces, convergence. Pure: no workflow engine, no torch.

An *ionic step* is one force evaluation, the start's included; it is counted the same way for
every engine and for both arms of a pair.
"""

from definet_flows.ledger.attempts import read_attempts, read_runs
from definet_flows.ledger.documents import ASE_FORCE_CRITERION, ASE_OPTIMIZER, LINE_SEARCHES, read_document
from definet_flows.ledger.outcome import SYMPREC, Outcome, largest_force, point_group, repeats_last_frame
from definet_flows.ledger.vasprun import VaspRun, read_vasp_run

__all__ = [
    "ASE_FORCE_CRITERION",
    "ASE_OPTIMIZER",
    "LINE_SEARCHES",
    "SYMPREC",
    "Outcome",
    "VaspRun",
    "largest_force",
    "point_group",
    "read_attempts",
    "read_document",
    "read_runs",
    "read_vasp_run",
    "repeats_last_frame",
]
