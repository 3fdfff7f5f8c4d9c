"""What a record may hold, as published, and how large it may be."""

from __future__ import annotations

import json
from pathlib import Path

import bson
import numpy as np
from jsonschema import Draft202012Validator
from store_fixtures import host, record
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.schemas import Attempt, DefectRecord, dump
from definet_flows.stores.analysis.rows import row_of
from definet_flows.stores.versions import record_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "defect-record.schema.json"


def test_the_published_schema_is_current():
    """`definet records schema > docs/defect-record.schema.json` makes it anew."""
    assert json.loads(PUBLISHED.read_text()) == record_schema()
    assert json.loads(CliRunner().invoke(app, ["records", "schema"]).stdout) == record_schema()


def test_stored_records_fit_the_schema_and_others_do_not():
    validator = Draft202012Validator(json.loads(PUBLISHED.read_text()))
    stored = dump(largest())
    assert list(validator.iter_errors(stored)) == []
    for broken in ({**stored, "schema_version": 99}, {**stored, "status": "lost"}, {**stored, "colour": 1}):
        assert list(validator.iter_errors(broken))
    assert set(DefectRecord.model_fields) == set(record_schema()["properties"])


def test_every_cost_force_and_energy_states_its_unit():
    ledger = record_schema()["$defs"]["Ledger"]["properties"]
    for name, unit in {"energy": "eV", "max_force": "eV/Å", "wall_seconds": " s", "core_hours": " h"}.items():
        assert ledger[name]["description"].endswith(unit)


def largest() -> DefectRecord:
    """192 sites, every table there, a ledger of a VASP relaxation that took five executions."""
    moved = np.random.default_rng(0).normal(scale=0.1, size=(192, 3))
    big = record("predicted", size=8, defects=("v_S", "W_Mo"), move=moved, costs=(1234, 56.7))
    attempts = [
        Attempt(
            ionic_steps=20,
            electronic_steps=240,
            optimizer="conjugate gradient",
            corrections=("zbrent",),
            changed_tags={"IBRION": "1"} if k else {},
            directory=f"node{k:03d}:/scratch/campaign/job_2025-01-01-00-00-00-000000-{k:05d}",
        )
        for k in range(5)
    ]
    potcars = {f"PAW_PBE {symbol} 08Apr2002": 64 * "f" for symbol in ("Mo", "S", "W")}
    ledger = big.ledger.model_copy(update={"attempts": tuple(attempts), "potcars": potcars, "inputs": 32 * "0"})
    return big.model_copy(update={"ledger": ledger})


def test_a_record_of_192_sites_is_at_most_30_kb_and_its_ledger_below_2_kb():
    assert host(8).n_sites == 192
    stored = dump(largest())
    assert len(bson.encode(stored)) <= 30_000
    assert len(json.dumps(stored)) <= 30_000
    assert len(bson.encode(stored["ledger"])) < 2_000
    assert len(json.dumps(stored["ledger"])) < 2_000


def test_what_a_query_reads_of_it_is_a_fraction_of_that():
    assert len(bson.encode({"row": list(row_of("record", dump(largest())))})) < 700
