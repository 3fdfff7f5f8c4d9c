"""The campaign under real DFT: its configurations, its records in the repository, and the page that tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from definet_flows.schemas import DefectRecord, Pair
from definet_flows.stores import open_store
from definet_flows.stores.analysis.pairs import images_of, judge
from standins import dft_campaign as dft

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "notes" / "dft.md"
needs_records = pytest.mark.skipif(not dft.DATA.is_file(), reason="no relaxation of the campaign has ended yet")


def test_each_case_is_a_configuration_of_its_own_with_the_defects_it_names():
    found = [dft.configuration(case) for case in dft.CASES]
    assert len({one.id_in(dft.host().hash) for one, _ in found}) == len(dft.CASES) == 12
    for case, (one, _) in zip(dft.CASES, found, strict=True):
        assert one.name == case.name.removesuffix(case.place).strip()
    apart = {case.name: distance for case, (_, distance) in zip(dft.CASES, found, strict=True)}
    bond = 2.5124 / 3**0.5
    assert apart["C_B"] is None
    assert apart["C_B+C_N near"] == pytest.approx(bond, abs=1e-3)
    assert apart["C_B+C_N far"] == pytest.approx(4 * bond, abs=1e-3)  # across the hexagon of the supercell
    assert apart["v_N+v_N near"] == pytest.approx(2.5124, abs=1e-3)


def test_the_page_shows_the_tables_of_the_committed_records():
    assert dft.table(dft.DATA) in PAGE.read_text(encoding="utf-8")
    assert f"<!-- dft -->\n{dft.totals(dft.DATA)}<!-- /dft -->" in dft.README.read_text(encoding="utf-8")


@needs_records
def test_committed_records_come_back_and_the_same_records_give_the_same_bytes(tmp_path):
    files = []
    for name in ("first", "second"):
        store, data = str(tmp_path / f"{name}.sqlite"), tmp_path / f"{name}.jsonl.gz"
        assert dft.restore(store, dft.DATA) == len(dft.read(dft.DATA))
        assert dft.restore(store, dft.DATA) == 0
        assert dft.commit(store, data) == len(dft.read(dft.DATA))
        files.append(data)
    assert files[0].read_bytes() == files[1].read_bytes()
    for again, committed in zip(dft.read(files[0]), dft.read(dft.DATA), strict=True):
        assert again["id"] == committed["id"]
        assert again.get("ledger") == committed.get("ledger")
        assert again.get("sites") == committed.get("sites")


@needs_records
def test_committed_records_say_nothing_of_the_machine_that_made_them():
    for document in dft.read(dft.DATA):
        assert not [value for value in _texts(document) if value.startswith("/") or ":/" in value]
        provenance = document.get("provenance", {})
        assert not any(provenance.get(name) for name in dft.OF_MACHINE)


@needs_records
def test_committed_pairs_are_the_verdicts_on_the_committed_records(tmp_path):
    store = str(tmp_path / "records.sqlite")
    dft.restore(store, dft.DATA)
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
        records.put(dft.Supercell.of(dft.host()))
    assert dft.commit(store, data) == 1
    other, small = str(tmp_path / "other.sqlite"), dft.make_host("BN", (2, 2, 1))
    with open_store(other) as records:
        records.put(dft.Supercell.of(small))
    assert dft.commit(other, data) == 2
    assert [one["id"] for one in dft.read(data)] == sorted(
        [dft.Supercell.identity(dft.host().hash), dft.Supercell.identity(small.hash)]
    )


def _texts(value):
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
