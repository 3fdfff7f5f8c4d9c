"""One short reason per row, and one line on what brings the network to a host that it has not learned."""

from __future__ import annotations

from dataclasses import replace

from flow_helpers import CU
from store_fixtures import record

from definet_flows import open_store
from definet_flows.cli.campaign import run as campaign_cli
from definet_flows.hosts import make_host
from definet_flows.stores import StartsRow
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.learning.unlearned import what_brings_it
from definet_flows.workflows.recording.cases import settings_hash_of

pytest_plugins = ["flow_fixtures"]

REASON = "auto: no pre-relaxer; definet: element Ga, N never seen in training; host GaN is none of those; fields: none"


def rows(*names, **given):
    shared = {"settings_hash": "h", "engine": "vasp", "weights": "w", "converged": True, "steps_unrelaxed": 20}
    return [StartsRow(configuration_id=name, name=name, **{**shared, **given}) for name in names]


def printed(shown, capsys, folder, **given):
    totals = {"saving": None, "message": "m", "relaxations_run": 1, "relaxations_reused": 0}
    campaign_cli._print(campaign_cli._Outcome("m", shown, totals, "s", folder, **given))
    return capsys.readouterr().out


def test_a_row_has_one_short_reason_and_the_end_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(campaign_cli.console, "width", 200)
    refused = rows("v_Ga", "N_Ga", gate="rejected", reason=REASON)
    out = printed(refused, capsys, tmp_path, unlearned="what brings it")
    assert out.count("rejected: definet: element Ga, N never seen in training ") == 2
    assert "is none of those" not in out
    assert out.count("what brings it\n") == 1
    assert "allow-unseen-host" not in out
    long = rows("v_Ga", gate="rejected", reason=f"auto: no pre-relaxer; {'x' * 99}; fields: none")
    assert f"rejected: {'x' * 59}… " in printed(long, capsys, tmp_path)
    fine = rows("v_Ga", gate="accepted", verdict="same minimum", steps_predicted=5)
    assert "what brings it" not in printed(fine, capsys, tmp_path, unlearned="what brings it")


def test_what_brings_the_network_counts_what_is_recorded(maker, workplace):
    campaign = maker.campaign(CU)
    settings = settings_hash_of(resolve_engine(maker.engine), relaxed_host=True)
    with open_store(maker.store) as records:
        records.put(*(known(settings, k) for k in range(3)))
    assert what_brings_it(campaign, settings, maker.store) is None  # copper is what the small network learned
    line = what_brings_it(replace(campaign, host=make_host("BN")), settings, maker.store)
    assert line is not None
    assert "has not learned BN. What brings it there: 28 relaxed configurations or more, 3 are recorded" in line
    assert (
        f"definet retrain --settings {settings[:8]} --min-new 28 --store {maker.store}; then --model champion" in line
    )
    assert "\n" not in line
    assert workplace.is_dir()


def known(settings, k):
    made = record(configuration_id=f"{k:032x}")
    host = made.host.model_copy(update={"formula": "BN"})
    return made.model_copy(update={"settings_hash": settings, "host": host, "id": f"{k:x}" * 32})
