"""The campaigns under real DFT: their configurations, their records in the repository, and the pages that show them."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from definet_flows.hosts import make_host
from definet_flows.schemas import DefectRecord, Pair, Supercell
from definet_flows.stores import open_store
from definet_flows.stores.analysis.pairs import images_of, judge
from standins.dft_campaign import CAMPAIGNS, HBN, PHOSPHORENE
from standins.dft_page import PAGE, README, put, table, totals
from standins.dft_records import OF_MACHINE, commit, read, restore

DOCS = Path(__file__).parents[2] / "docs"
RECORDED = [one for one in CAMPAIGNS.values() if one.data.is_file()]
each_recorded = pytest.mark.parametrize("campaign", RECORDED, ids=lambda one: one.name)


@pytest.mark.parametrize(("campaign", "count"), [(HBN, 12), (PHOSPHORENE, 6)], ids=["hbn", "phosphorene"])
def test_each_case_is_a_configuration_of_its_own_with_the_defects_it_names(campaign, count):
    assert len(campaign.names) == len(campaign.cases) == count
    for case in campaign.cases:
        one, apart = campaign.configuration(case)
        assert one.name == case.name.removesuffix(case.place).strip()
        assert (apart is None) == (len(case.defects) == 1)


def test_near_and_far_are_the_ends_of_what_a_supercell_allows():
    apart = dict(HBN.names.values())
    bond = 2.5124 / 3**0.5
    assert apart["C_B"] is None
    assert apart["C_B+C_N near"] == pytest.approx(bond, abs=1e-3)
    assert apart["C_B+C_N far"] == pytest.approx(4 * bond, abs=1e-3)  # across the hexagon of the supercell
    assert apart["v_N+v_N near"] == pytest.approx(2.5124, abs=1e-3)
    assert dict(PHOSPHORENE.names.values())["v_P+v_P near"] == pytest.approx(2.220, abs=1e-3)


@pytest.mark.parametrize("campaign", CAMPAIGNS.values(), ids=CAMPAIGNS)
def test_the_pages_show_the_tables_of_the_committed_records(campaign):
    text = PAGE.read_text(encoding="utf-8")
    assert f"<!-- {campaign.name} -->\n{table(campaign, campaign.data)}<!-- /{campaign.name} -->" in text
    if campaign is HBN:
        shown = f"<!-- dft -->\n{totals(HBN, HBN.data)}<!-- /dft -->"
        assert shown in README.read_text(encoding="utf-8")


@each_recorded
def test_committed_records_come_back_and_the_same_records_give_the_same_bytes(campaign, tmp_path):
    files = []
    for name in ("first", "second"):
        store, data = str(tmp_path / f"{name}.sqlite"), tmp_path / f"{name}.jsonl.gz"
        assert restore(store, campaign.data) == len(read(campaign.data))
        assert restore(store, campaign.data) == 0
        assert commit(store, data) == len(read(campaign.data))
        files.append(data)
    assert files[0].read_bytes() == files[1].read_bytes()
    for again, committed in zip(read(files[0]), read(campaign.data), strict=True):
        assert again["id"] == committed["id"]
        assert again.get("ledger") == committed.get("ledger")
        assert again.get("sites") == committed.get("sites")


@each_recorded
def test_committed_records_say_nothing_of_the_machine_that_made_them(campaign):
    for document in read(campaign.data):
        assert not [value for value in _texts(document) if value.startswith("/") or ":/" in value]
        provenance = document.get("provenance", {})
        assert not any(provenance.get(name) for name in OF_MACHINE)


@each_recorded
def test_committed_pairs_are_the_verdicts_on_the_committed_records(campaign, tmp_path):
    store = str(tmp_path / "records.sqlite")
    restore(store, campaign.data)
    with open_store(store, read_only=True) as records:
        done = list(records.find(DefectRecord))
        for pair in records.find(Pair):
            own = [one for one in done if one.configuration_id == pair.configuration_id]
            both = [one for one in own if one.start == "unrelaxed" or one.prediction.weights == pair.weights]
            starts = {one.start: one for one in both}
            images = images_of(starts["unrelaxed"])
            assert judge(starts["unrelaxed"], starts["predicted"], images).verdict == pair.verdict
            assert starts["unrelaxed"].ledger.ionic_steps == pair.steps_unrelaxed
            assert starts["predicted"].ledger.ionic_steps == pair.steps_predicted


def test_a_commit_keeps_what_another_machine_has_committed(tmp_path):
    data, store = tmp_path / "data.jsonl.gz", str(tmp_path / "records.sqlite")
    with open_store(store) as records:
        records.put(Supercell.of(HBN.cell))
    assert commit(store, data) == 1
    other, small = str(tmp_path / "other.sqlite"), make_host("BN", (2, 2, 1))
    with open_store(other) as records:
        records.put(Supercell.of(small))
    assert commit(other, data) == 2
    assert [one["id"] for one in read(data)] == sorted(
        [Supercell.identity(HBN.cell.hash), Supercell.identity(small.hash)]
    )


@each_recorded
def test_the_site_holds_the_report_of_the_committed_records(campaign, tmp_path):
    write = runpy.run_path(str(DOCS / "conf.py"))["write_reports"]
    write(SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html")), None)
    page = f"reports/{campaign.name}-gpaw.html"
    text = (tmp_path / page).read_text(encoding="utf-8")
    assert len(text) < 9e6
    relaxed = {one["name"] for one in read(campaign.data) if one["kind"] == "record"}
    assert all(name in text for name in relaxed)
    assert f'href="../{page}"' in PAGE.read_text(encoding="utf-8")


def test_the_report_page_links_the_example():
    assert 'href="reports/hbn-gpaw.html"' in (DOCS / "report.md").read_text(encoding="utf-8")


def test_a_page_without_the_marks_is_not_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing to see", encoding="utf-8")
    with pytest.raises(ValueError, match="no marks"):
        put("table", page, "hbn")
    assert page.read_text(encoding="utf-8") == "nothing to see"


def _texts(value):
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
