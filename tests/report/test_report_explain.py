"""One configuration in words: found by the beginning of its id, described with numbers that the structures have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import store_fixtures as make
from report_store import OTHER_WEIGHTS, fill, filled_store, identity, nudged, pair
from store_fixtures import WEIGHTS
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.errors import InputError
from definet_flows.report.bonds import bonds
from definet_flows.report.cases import CaseRecords, find_cases, told_once
from definet_flows.report.explain import Explanation, explain
from definet_flows.schemas import DefectRecord
from definet_flows.schemas.starts import NO_PRERELAXER
from definet_flows.stores import Records, SqliteStore, judge

runner = CliRunner()


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    opened = Records(SqliteStore(str(tmp_path / "records.sqlite")))
    fill(opened)
    return opened


def told(records: Records, fate: str) -> dict[str, str]:
    return dict(only(records, fate).paragraphs)


def only(records: Records, fate: str) -> Explanation:
    (case,) = find_cases(records, identity(fate))
    return explain(case)


def test_the_beginning_of_an_id_will_do(records: Records) -> None:
    (case,) = find_cases(records, identity("better")[:5])
    assert case.pair is not None
    assert case.pair.verdict == "better minimum"
    assert case.predicted is not None
    (same,) = find_cases(records, case.predicted.id[:10].upper())
    assert same.shown.id == case.shown.id


def test_an_id_that_begins_nothing_or_several_is_refused(records: Records) -> None:
    with pytest.raises(InputError, match="begins with 'zzz'"):
        find_cases(records, "zzz")
    near = "0" * 31 + "1"
    records.put(make.record(configuration_id=near))
    with pytest.raises(InputError, match=r"begins the ids of 2 configurations: 0{12} \(v_S\)"):
        find_cases(records, "00000")
    assert len(find_cases(records, near)) == 1


def test_a_name_will_do_where_a_single_configuration_has_it(records: Records) -> None:
    only_one = make.record(defects=("v_Mo", "Se_S"))
    records.put(only_one)
    (case,) = find_cases(records, "v_Mo+Se_S")
    assert case.shown.id == only_one.id
    with pytest.raises(InputError, match=r"'v_S' is the name of \d configurations: ") as refused:
        find_cases(records, " v_S ")
    site = make.configuration().edits[0].site
    assert f"{identity('same')[:12]} (MoS2, 27 sites, on {site})" in str(refused.value) or "..." in str(refused.value)
    assert str(refused.value).endswith("give the beginning of an id")
    charged = only_one.configuration.model_copy(update={"charge": -1})
    other = only_one.model_copy(update={"id": "e" * 32, "configuration_id": "d" * 32, "configuration": charged})
    records.put(other)
    with pytest.raises(InputError, match=r"dddddddddddd \(MoS2, 27 sites, on \d+ and \d+, charge -1\)"):
        find_cases(records, "v_Mo+Se_S")
    with pytest.raises(InputError, match="or has that name"):
        find_cases(records, "v_Xx")


@pytest.mark.parametrize("empty", ["", "  "])
def test_no_id_at_all_is_refused(records: Records, empty: str) -> None:
    with pytest.raises(InputError, match="no configuration or record"):
        find_cases(records, empty)


def test_each_set_of_weights_is_a_case_and_a_record_chooses_one(records: Records) -> None:
    starts = pair("same", steps=(40, 7))
    second = make.record("predicted", configuration_id=identity("same"), weights=OTHER_WEIGHTS, move=nudged(), steps=7)
    records.put(second, judge(starts[0], second))
    cases = find_cases(records, identity("same"))
    assert {case.note.weights for case in cases if case.note} == {WEIGHTS, OTHER_WEIGHTS}
    (case,) = find_cases(records, second.id)
    assert case.pair is not None
    assert case.pair.steps_predicted == 7


def test_what_was_edited_has_element_site_and_place(records: Records) -> None:
    edit = make.configuration().edits[0]
    assert told(records, "same")["edited"].startswith(f"S removed from site {edit.site} at (")


def test_what_the_network_moved_is_what_the_record_holds(records: Records) -> None:
    words = told(records, "same")["network"]
    assert "moved 0 of 26 atoms by more than 0.02 Å" in words  # the made-up prediction moves all by 0.017 Å
    assert "by 0.017 Å" in words
    assert "these weights state no uncertainty" in words


def test_a_start_names_its_pre_relaxer_and_why_it_was_chosen(records: Records) -> None:
    start = make.record("predicted", configuration_id="a5" * 16, move=nudged())
    assert start.prediction is not None
    note = {"prerelaxer": "fields", "note": "auto: fields, it saved 40%"}
    records.put(start.model_copy(update={"prediction": start.prediction.model_copy(update=note)}))
    (case,) = find_cases(records, "a5" * 16)
    words = dict(explain(case).paragraphs)
    assert "network" not in words
    assert words["pre-relaxer"].startswith(f"fields {WEIGHTS[:8]}, ")
    assert words["pre-relaxer"].endswith("it states no expected error; auto: fields, it saved 40%")


def test_the_error_is_stated_beside_that_of_no_prediction(records: Records) -> None:
    words = told(records, "same")["against the end"]
    atoms = np.flatnonzero([marker != "2" for marker in make.record().sites.markers])  # type: ignore[union-attr]
    errors = np.linalg.norm(nudged()[atoms] - 0.01, axis=1)
    nothing = np.linalg.norm(nudged()[atoms], axis=1)
    assert f"off by {errors.mean():.3f} Å on average, at most {errors.max():.3f} Å" in words
    assert f"the unrelaxed start by {nothing.mean():.3f} and {nothing.max():.3f} Å" in words


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        ("same", "same minimum (counts in the saving"),
        ("same", "30 steps fewer from the prediction, floor 2"),
        ("worse", "5 steps more from the prediction"),
        ("better", "E(predicted) - E(unrelaxed) = -1000.0 meV"),
        ("other", "not in the saving"),
        ("unconverged", "unconverged (a relaxation stopped above its force criterion"),
        ("gated", "no pair: there is no relaxation from a prediction"),
        ("control", "no pair: there is no control"),
        ("failed", "no pair: the relaxation from the unrelaxed start failed"),
    ],
)
def test_the_verdict_says_what_counts_and_why(records: Records, fate: str, words: str) -> None:
    assert words in told(records, fate)["verdict"]


def test_bonds_of_a_vacancy_are_its_shell_before_and_after() -> None:
    record = make.record("predicted", move=nudged())
    found = bonds(record)
    assert [bond.neighbour.split()[0] for bond in found] == ["Mo"] * 3
    for bond in found:
        assert bond.unrelaxed == pytest.approx(2.41, abs=0.02)
        assert bond.relaxed == pytest.approx(_length(record, bond.neighbour), abs=1e-3)


def _length(record: DefectRecord, neighbour: str) -> float:
    """Distance of an atom's end from the vacancy, over all images, Å."""
    assert record.sites is not None
    assert record.sites.relaxed is not None
    vacancy, row = record.sites.markers.index("2"), int(neighbour.split()[1])
    apart = record.sites.relaxed[row] - record.sites.relaxed[vacancy]
    cell = np.array(record.host.lattice)
    images = [apart + a * cell[0] + b * cell[1] for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return float(min(np.linalg.norm(image) for image in images))


def test_a_record_without_structures_is_told_without_them() -> None:
    bare = make.record(status="failed").model_copy(update={"sites": None, "ledger": None, "error": "no space left"})
    explanation = explain(CaseRecords(bare, None, None))
    assert (explanation.bonds, explanation.drawing) == ((), None)
    assert explanation.starts[0].notes == ("no space left",)
    assert explanation.starts[0].steps is None


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    result = runner.invoke(app, ["explain", identity("same")[:6], "--store", store, "--figure", "one.png"])
    assert result.exit_code == 0, result.output
    for words in ("v_S in MoS2", "ionic steps", "[eV/Å]", "same minimum", "drawn to one.png"):
        assert words in result.output
    assert Path("one.png").read_bytes().startswith(b"\x89PNG")


def test_hostile_text_is_printed_as_it_is(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    result = runner.invoke(app, ["explain", identity("failed"), "--store", store], env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    assert "'\"[bold] in MoS2" in result.output


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (("zz",), "zz"),
        (("0000", "--figure", "one.pdf"), "one.pdf"),
        (("0000", "--figure", "no/one.png"), "no"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, arguments: tuple[str, ...], saying: str) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    before = sorted(tmp_path.iterdir())
    result = runner.invoke(app, ["explain", *arguments, "--store", store])
    assert result.exit_code == 2, result.output
    assert saying in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_figure_of_several_cases_is_refused(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    with Records(SqliteStore(store)) as records:
        records.put(make.record("predicted", configuration_id=identity("same"), weights=OTHER_WEIGHTS, move=nudged()))
    result = runner.invoke(app, ["explain", identity("same"), "--store", store, "--figure", "one.png"])
    assert result.exit_code == 2
    assert "--figure needs the id" in result.stderr
    assert not Path("one.png").exists()


def test_a_relaxation_is_told_once_whoever_was_asked(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    refused = make.note("rejected", OTHER_WEIGHTS)
    refused = refused.model_copy(update={"gate": refused.gate.model_copy(update={"reason": "not learned"})})
    unrelaxed, _ = pair("same", steps=(40, 10))
    with Records(SqliteStore(store)) as records:
        records.put(unrelaxed.model_copy(update={"prediction": refused}))
        cases = find_cases(records, identity("same"))
    own, proposals = told_once(cases)
    assert [case.predicted is not None for case in own] == [True]
    assert [case.predicted for case in proposals] == [None]
    result = runner.invoke(app, ["explain", identity("same"), "--store", store, "--figure", "one.png"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("bonds [Å]") == 1
    before, after = result.stdout.split("other pre-relaxers that were asked")
    assert "not learned" not in before
    assert "rejected: not learned" in after
    assert Path("one.png").exists()


def test_where_auto_chose_none_it_is_said_in_words() -> None:
    record = make.record(gated=True)
    assert record.prediction is not None
    gate = record.prediction.gate.model_copy(update={"reason": f"{NO_PRERELAXER}definet: element O never seen"})
    note = record.prediction.model_copy(update={"prerelaxer": "auto", "gate": gate})
    words = dict(explain(CaseRecords(record.model_copy(update={"prediction": note}), None, None)).paragraphs)
    assert words["pre-relaxer"] == "auto chose none"
    assert words["gate"].endswith("element O never seen")
