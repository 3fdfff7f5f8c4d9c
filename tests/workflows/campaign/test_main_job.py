"""The main job with a real engine on a real host, small: the same checks that the quickstart must stand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.cli.campaign import run as campaign_cli
from definet_flows.defects import nodes
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.inference.predict import predict
from definet_flows.schemas import VACANCY, DefectRecord, RelaxedHost
from definet_flows.stores import Filter, Records, StartsRow, open_store
from definet_flows.workflows.campaign.local import job_store

COMMAND = ["run", "MoS2", "--supercell", "3", "3", "1", "--defect", "W_Mo", "--defect", "v_S", "--engine", "sevennet"]
OPTIONS = ["--control-fraction", "1", "--store", "records.sqlite", "--folder", "jobs"]

MATCHED = "definet-sevennet-mos2"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DEFINET_FLOWS_CONFIG", str(folder / "none.yaml"))
        patch.delenv("JOBFLOW_CONFIG_FILE", raising=False)
        patch.setenv("HOME", str(folder))  # no ~/.jobflow.yaml
        for name, model in (("first", "definet-2dmd"), ("second", "definet-2dmd"), ("matched", MATCHED)):
            result = CliRunner().invoke(app, [*COMMAND, *OPTIONS, "--model", model, "--json", f"{name}.json"])
            assert result.exit_code == 0, result.output
            (folder / f"{name}.txt").write_text(result.stdout)
    return folder


@pytest.fixture
def records(campaign: Path) -> Records:
    return open_store(str(campaign / "records.sqlite"), read_only=True)


def test_both_arms_of_both_configurations(campaign: Path, records: Records) -> None:
    first = json.loads((campaign / "first.json").read_text())
    assert first["relaxations_run"] == 4
    assert {r["name"] for r in first["records"]} == {"W_Mo", "v_S"}
    assert all(r["converged"] and r["same_minimum"] and r["in_domain"] for r in first["records"])
    steps = [(r["steps_unrelaxed"], r["steps_predicted"]) for r in first["records"]]
    assert first["saving"] == pytest.approx(1 - sum(p for _, p in steps) / sum(u for u, _ in steps))
    first_weights = Filter(weights=load_checkpoint("definet-2dmd").sha256)
    stored = {(r.name, r.start): r for r in records.records(first_weights)}
    for row in first["records"]:
        for start in ("unrelaxed", "predicted"):
            record = stored[row["name"], start]
            assert record.ledger is not None
            assert record.ledger.ionic_steps == row[f"steps_{start}"]
            assert record.ledger.max_force is not None
            assert record.ledger.max_force <= 0.01


def test_second_run_computes_nothing(campaign: Path) -> None:
    second = json.loads((campaign / "second.json").read_text())
    assert (second["relaxations_run"], second["relaxations_reused"]) == (0, 4)
    assert second["saving"] == json.loads((campaign / "first.json").read_text())["saving"]
    assert "nothing was computed again" in (campaign / "second.txt").read_text()


def test_unrelaxed_arms_serve_other_weights_too(campaign: Path) -> None:
    """As the quickstart's second line needs it."""
    first, matched = (json.loads((campaign / f"{name}.json").read_text()) for name in ("first", "matched"))
    assert (matched["weights"], matched["relaxations_run"], matched["relaxations_reused"]) == (MATCHED, 2, 2)
    steps = [{row["name"]: row["steps_unrelaxed"] for row in one["records"]} for one in (first, matched)]
    assert steps[0] == steps[1]


def test_two_campaigns_make_one_document(tmp_path: Path) -> None:
    names = {"configuration_id": "c", "settings_hash": "s", "engine": "sevennet", "weights": "w", "name": "v_S"}
    row = StartsRow(**names, steps_unrelaxed=20, steps_predicted=5, converged=True)
    row = row.model_copy(update={"verdict": "same minimum"})
    outcomes = [campaign_cli._Outcome(name, [row], {"saving": 0.75}, "r.jsonl", tmp_path) for name in ("a", "b")]
    campaign_cli._end(outcomes[0], tmp_path / "out.json", {"matched": outcomes[1]})
    document = json.loads((tmp_path / "out.json").read_text())
    assert (document["weights"], document["matched"]["weights"]) == ("a", "b")
    assert outcomes[0].steps == (20, 5)
    stopped = replace(outcomes[1], totals=None)
    with pytest.raises(typer.Exit):
        campaign_cli._end(outcomes[0], None, {"matched": stopped})


def test_steps_are_the_lengths_of_the_trajectories(records: Records) -> None:
    """As the README says to find them."""
    for record in records.records(Filter()):
        assert record.provenance.directory is not None
        assert record.ledger is not None
        jobs = job_store(Path(record.provenance.directory).parent)
        trajectory = jobs.get_output(record.provenance.job_uuid, load=True)["objects"]["trajectory"]
        assert len(trajectory["energy"]) == record.ledger.ionic_steps
        forces = np.linalg.norm(trajectory["forces"][0], axis=-1).max()
        assert forces == pytest.approx(record.ledger.start_max_force, abs=1e-6)


def test_predicted_start_is_the_checkpoints(records: Records) -> None:
    host = make_host("MoS2", (3, 3, 1))
    checkpoint = load_checkpoint("definet-2dmd")
    for record in records.records(Filter(weights=checkpoint.sha256)):
        assert isinstance(record, DefectRecord)
        assert record.sites is not None
        assert record.sites.predicted is not None
        relaxed = records.host(RelaxedHost.identity(host.hash, record.settings_hash))
        assert relaxed is not None
        (prediction,) = predict(checkpoint, host, [record.configuration])
        assert prediction.displacements is not None
        start = relaxed.relaxed + prediction.displacements
        assert np.abs(start - record.sites.predicted).max() < 1e-5
        atoms = nodes(host, record.configuration)[1] != VACANCY
        assert np.abs(record.sites.predicted - record.sites.unrelaxed)[atoms].max() > 1e-3
        assert np.abs(record.sites.unrelaxed - relaxed.relaxed).max() < 1e-5
