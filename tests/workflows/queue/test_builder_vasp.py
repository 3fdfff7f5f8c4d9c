"""Records of VASP runs, made from the documents in a JobStore after the record store was lost."""

from __future__ import annotations

from flow_helpers import CU, documents, stored
from jobflow import run_locally
from vasp_helpers import WARNINGS

from definet_flows import defect_flow, open_store
from definet_flows.workflows.recovery.rebuild import RecordBuilder

pytest_plugins = ["flow_fixtures", "vasp_fixtures"]
pytestmark = WARNINGS

WHEN = ("finished", "owner", "pid")


def said():
    """What records, pairs and hosts say, but for who wrote them when."""
    kept = {key: doc for key, doc in documents().items() if doc["kind"] in ("record", "pair", "host")}
    for doc in kept.values():
        doc.pop("_id", None)
        doc["provenance"] = {k: v for k, v in doc.get("provenance", {}).items() if k not in WHEN}
    return kept


def test_every_attempt_is_counted_again(weights, standin, jobs):
    """A run needed two executions, and another failed for good."""
    standin.fails({1: ["zbrent"], 2: ["exit"]})
    flow = defect_flow(
        CU,
        supercell=(2, 2, 2),
        defects=("v_Cu", "Ni_Cu"),
        control_fraction=1,
        model=str(weights.path),
        store="records.sqlite",
    )
    run_locally(flow, store=jobs, create_folders=True, log=False)
    before = said()
    records = stored()[0]
    assert sorted(record.status for record in records) == ["done", "done", "done", "failed"]
    assert max(len(record.ledger.attempts) for record in records if record.status == "done") == 2
    with open_store("records.sqlite") as opened:
        opened.store.remove_docs({"kind": {"$in": ["record", "pair", "host"]}})
        made = RecordBuilder(jobs, opened).build()
        assert len(made) == 5
        assert RecordBuilder(jobs, opened).build() == []
    assert said() == before
