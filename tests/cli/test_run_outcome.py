"""What `definet run` says of a flow that did not finish, and of relaxations that others have in hand."""

from __future__ import annotations

import pytest
import typer
from flow_helpers import CU

from definet_flows.cli.campaign import launch as launch_cli
from definet_flows.cli.campaign import run as campaign_cli
from definet_flows.stores import StartsRow
from definet_flows.workflows.campaign.local import run_here
from definet_flows.workflows.campaign.preflight import CheckLine

pytest_plugins = ["flow_fixtures"]


def outcome(folder, **given):
    names = {"configuration_id": "c", "settings_hash": "h", "engine": "vasp", "weights": "w", "name": "v_S"}
    row = StartsRow(**names, steps_unrelaxed=20, steps_predicted=5, converged=True)
    totals = {"saving": None, "message": "relaxations: 0 run", "relaxations_run": 0, "relaxations_reused": 1}
    return campaign_cli._Outcome("m", [row], **{"totals": totals, "store": "s", "folder": folder, **given})


def test_what_others_relax_is_said_and_is_no_success(tmp_path, capsys):
    held = outcome(tmp_path, unfinished=["1 relaxations are in the hands of process 7 on [node], which lives: wait"])
    campaign_cli._print(held)
    said = capsys.readouterr()
    assert "not finished: 1 relaxations are in the hands of process 7 on [node], which lives: wait\n" in said.err
    assert "everything was in the store already" not in said.out
    with pytest.raises(typer.Exit) as left:
        campaign_cli._end(held, None)
    assert left.value.exit_code == 1
    campaign_cli._print(outcome(tmp_path))
    assert "everything was in the store already" in capsys.readouterr().out
    campaign_cli._end(outcome(tmp_path), None)


def test_a_flow_that_did_not_finish_says_why_in_one_line(maker, workplace, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(workplace))
    flow, heard = maker.make(CU), []
    (workplace / "records.sqlite").write_bytes(b"something else, and no database")
    assert run_here(flow, workplace / "run", lambda event, name: heard.append((event, name))) is None
    reasons = [name for event, name in heard if event == "Failed"]
    assert reasons[0].startswith("host Cu: InputError: ")
    assert reasons[0].endswith("records.sqlite is no database: name another file")
    campaign_cli._print(outcome(workplace, totals=None, reasons=reasons))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the flow did not finish: host Cu: InputError: ")


def test_near_images_are_warned_of_before_anything_runs(maker, workplace, capsys, monkeypatch):
    said = []
    monkeypatch.setattr(
        "definet_flows.workflows.campaign.local.run_here", lambda *_: said.append(capsys.readouterr().err)
    )
    campaign_cli._relax(maker, CU, workplace / "run")
    assert "warning: periodic images of the supercell are 7.2 Å apart, less than 8 Å; 4 x 4 x 4 is" in said[0]
    maker.supercell = (3, 3, 3)
    campaign_cli._relax(maker, CU, workplace / "run")
    assert "periodic images" not in said[1]


def test_a_launch_goes_on_without_what_only_workers_need_and_says_so(capsys):
    program = CheckLine("program", "vasp_std is not on PATH", "fail")
    launch_cli._require_sound([program])
    assert "program: missing on this machine only; the workers that relax need them" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        launch_cli._require_sound([program, CheckLine("records", "cannot be written", "fail")])
    assert "nothing was added" in capsys.readouterr().out
