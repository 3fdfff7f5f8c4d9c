"""A campaign's run whose last energy is no number is a failed record, not a finished record."""

from __future__ import annotations

from emmet.core.tasks import TaskDoc
from vasp_files import write_run
from vasp_helpers import WARNINGS

from definet_flows.ledger import read_document
from definet_flows.workflows.engines.vasp.run import count_steps

pytestmark = WARNINGS


def test_a_run_that_ends_in_nan_has_failed(tmp_path):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    (run / "OUTCAR").unlink()
    head, mark, tail = (run / "vasprun.xml").read_text().rpartition("<scstep>")
    (run / "vasprun.xml").write_text(head + mark + tail.replace("     -100.00000000", "              NaN"))
    document = TaskDoc(dir_name=str(run), state="successful", calcs_reversed=[])
    count_steps(document, run, 1.0)
    outcome = read_document(document)
    assert "no numbers" in outcome.error
    assert (outcome.ledger.ionic_steps, outcome.ledger.energy, outcome.ledger.converged) == (3, None, False)
