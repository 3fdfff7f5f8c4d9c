"""The report: what is counted and drawn, that it loads nothing, and that it is written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import store_fixtures as make
from report_store import FATES, HOSTILE, OTHER_WEIGHTS, fill, filled_store, identity, nudged, pair
from store_fixtures import WEIGHTS
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.errors import InputError
from definet_flows.model.inference.shipped import shipped_weights
from definet_flows.report.figures.charts import Boxes, Chart, Points
from definet_flows.report.figures.deviations import deviation
from definet_flows.report.figures.interactive import figure_json
from definet_flows.report.figures.overlays import overlay
from definet_flows.report.figures.static import write_chart
from definet_flows.report.names import Asked, Names
from definet_flows.report.page import all_charts, render
from definet_flows.report.reading import Contents, read_contents
from definet_flows.schemas import AUTO, SCHEMA_VERSION, KnownPreRelaxer, PreRelaxerName, dump
from definet_flows.stores import Filter, Records, SqliteStore, judge, open_store, update_pairs, versions

runner = CliRunner()


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    path = tmp_path_factory.mktemp("report") / "records.sqlite"
    with Records(SqliteStore(str(path))) as records:
        fill(records)
        return read_contents(records, HOSTILE)


@pytest.fixture(scope="module")
def page(contents: Contents) -> str:
    return render(contents)


def chart(contents: Contents, key: str) -> Chart:
    return next(one for one in all_charts(contents) if one.key == key)


# ------------------------------------------------------------------ what is counted


def test_every_configuration_has_a_row_that_says_what_became_of_it(contents: Contents) -> None:
    outcomes = {row.configuration_id: row.outcome for row in contents.rows}
    expected = {
        "same": "same minimum",
        "worse": "same minimum",
        "better": "better minimum",
        "other": "other minimum",
        "unconverged": "unconverged",
        "gated": "gated out",
        "failed": "failed",
        "control": "no control",
        "second": "same minimum",
    }
    assert outcomes == {identity(fate): outcome for fate, outcome in expected.items()}
    assert set(expected) == set(FATES)


def test_a_card_counts_pairs_in_the_same_minimum_and_the_latest_comes_first(contents: Contents, page: str) -> None:
    assert [card.label for card in contents.cards] == ["definet · bbbbbbbb", "definet · aaaaaaaa"]
    assert [card.savings.saving for card in contents.cards] == pytest.approx([1 - 5 / 50, 1 - (10 + 25) / (40 + 20)])
    assert re.findall(r'<p class="number".*>(.*)</p>', page) == ["90.0 %", "41.7 %"]
    assert "63.6" not in page  # of both together
    tiles = dict(re.findall(r"<dt>(.+?)</dt><dd><span>(\d+)</span>", page))
    assert tiles == {
        "same minimum": "3",
        "better minimum": "1",
        "other minimum": "1",
        "unconverged": "1",
        "not comparable": "0",
        "gated out": "1",
        "failed": "1",
        "not finished": "0",
    }


def test_a_potential_is_not_called_dft(page: str) -> None:
    assert "sevennet: a machine-learned potential, so these steps are not a saving of DFT" in page


def test_a_store_without_pairs_states_no_saving(tmp_path: Path) -> None:
    with Records(SqliteStore(str(tmp_path / "one.jsonl"))) as records:
        records.put(make.record())
        contents = read_contents(records, "one")
    page = render(contents)
    assert "not known" in page
    assert "no saving can be stated" in page
    assert [one.key for one in all_charts(contents) if not one.empty] == []
    assert all(one.reason for one in all_charts(contents))


def test_cards_call_pre_relaxers_and_models_by_name_and_auto_is_none(tmp_path: Path) -> None:
    (shipped,) = [digest for digest, name in shipped_weights().items() if name == "definet-2dmd"]
    fields = PreRelaxerName(name="fields", key="f" * 32)
    with Records(SqliteStore(str(tmp_path / "names.sqlite"))) as records:
        starts = [make.record("predicted", weights=key, steps=7) for key in (shipped, fields.key)]
        refused = make.record(configuration_id="2" * 32, gated=True, weights=AUTO, steps=9)
        records.put(KnownPreRelaxer.of(fields), make.record(), *starts, refused)
        update_pairs(records, starts[0].configuration_id, make.SETTINGS)
        contents = read_contents(records, "names")
        assert {card.label for card in contents.cards} == {"definet · definet-2dmd", "fields"}
        assert contents.refused == ("auto chose no pre-relaxer for 1 configurations.",)
        assert "auto" not in chart(contents, "versions").reason
        (key,) = Asked(Filter(), prerelaxer="fields").within(records).keys or ()
        alone = read_contents(records, "names", Asked(Filter(), prerelaxer="fields").within(records))
    assert key == fields.key
    assert ([card.label for card in alone.cards], alone.chosen) == (["fields"], "from fields")
    assert {row.start for row in alone.rows} == {"fields"}


def test_a_filter_chooses_what_the_page_shows(contents: Contents, tmp_path: Path) -> None:
    with Records(SqliteStore(str(tmp_path / "some.sqlite"))) as records:
        fill(records)
        some = read_contents(records, "some", Filter(charge=1))
        with pytest.raises(InputError, match="no relaxation has host BN"):
            read_contents(records, "some", Filter(host="BN"))
    assert [row.configuration_id for row in some.rows] == [identity("better")]
    assert (some.chosen, len(some.worst), len(some.pairs)) == ("charge +1", 1, 1)
    assert "only charge +1" in render(some)
    assert {(group.label, group.value) for group in contents.groups["charge"]} == {
        ("definet · aaaaaaaa", "0"),
        ("definet · aaaaaaaa", "+1"),
        ("definet · bbbbbbbb", "0"),
    }


def test_what_holds_a_single_point_is_left_out_with_the_reason(tmp_path: Path) -> None:
    with Records(SqliteStore(str(tmp_path / "pair.sqlite"))) as records:
        both = pair("same", steps=(40, 10))
        records.put(*both, judge(*both))
        contents = read_contents(records, "one pair")
    reasons = {one.key: one.reason for one in all_charts(contents) if one.empty}
    assert reasons == {
        "steps": "a single configuration has a pair",
        "steps-size": "all pairs have 27 sites",
        "core-hours-size": "all pairs have 27 sites",
        "versions": "definet · aaaaaaaa alone has a pair in the same minimum and a time",
    }
    page = render(contents)
    assert "Nothing to draw" not in page
    assert "Ionic steps of every pair (a single configuration has a pair)" in page


def test_unknown_core_hours_are_a_dash_and_the_wall_time_stands_instead(tmp_path: Path) -> None:
    with Records(SqliteStore(str(tmp_path / "hours.sqlite"))) as records:
        both = [make.record(start, steps=9) for start in ("unrelaxed", "predicted")]
        timed = both[0].ledger
        assert timed is not None
        both[0] = both[0].model_copy(update={"ledger": timed.model_copy(update={"wall_seconds": 1234.0, "cores": 4})})
        records.put(*both, judge(*both))
        page = render(read_contents(records, "hours"))
    assert "Wall time of the relaxations, controls included: 1,234 (of 1 of 2) s, on 4 cores each." in page
    assert re.search(r'core-hours saved</th><td class="value">–</td>', page)


def test_steps_are_sorted_by_the_unrelaxed_arm_and_pairs_not_counted_are_hollow(contents: Contents) -> None:
    series = {one.name: one for one in chart(contents, "steps").series if isinstance(one, Points)}
    control, counted = series["from unrelaxed"], series["from definet · aaaaaaaa"]
    left_out = series["from definet · aaaaaaaa, not counted"]
    assert control.y.tolist() == [20, 30, 30, 30, 40, 50]
    assert np.asarray(control.x).tolist() == list(range(1, 7))
    assert (counted.y.tolist(), np.asarray(counted.x).tolist()) == ([25, 10], [1, 5])
    assert series["from definet · bbbbbbbb"].y.tolist() == [5]
    assert (counted.hollow, left_out.hollow, sorted(left_out.y.tolist())) == (False, True, [12, 30, 99])
    assert "v_S +1 (MoS2): better minimum" in left_out.labels


def test_costs_against_size_take_pairs_in_the_same_minimum(contents: Contents) -> None:
    for key, values in (("steps-size", [40, 20, 50]), ("core-hours-size", [80, 40, 100])):
        boxes = [one for one in chart(contents, key).series if isinstance(one, Boxes)]
        assert sorted(boxes[0].values.tolist()) == sorted(values)
        assert set(boxes[0].categories) == {"27", "48"}


def test_versions_stand_in_the_order_of_their_first_relaxation(contents: Contents) -> None:
    assert [card.key for card in contents.cards] == [OTHER_WEIGHTS, WEIGHTS]
    (points,) = chart(contents, "versions").series
    assert isinstance(points, Points)
    assert points.y.tolist() == pytest.approx([1 - 35 / 60, 0.9])
    assert list(points.x) == ["2026-01-01T00:00:00", "2026-02-01T00:00:00"]
    assert (points.named, points.labels) == (True, ("definet · aaaaaaaa", "definet · bbbbbbbb"))


# ------------------------------------------------------------------ errors of predictions


def test_an_error_is_the_distance_to_where_its_own_relaxation_ended() -> None:
    found = deviation(make.record("predicted", move=nudged()))
    assert found is not None
    expected = np.linalg.norm(nudged()[found.atoms] - 0.01, axis=1)
    assert found.error == pytest.approx(expected, abs=2e-6)
    assert len(found.atoms) == 26


def test_an_atom_wrapped_into_the_cell_has_no_larger_error() -> None:
    record = make.record("predicted", move=nudged())
    assert record.sites is not None
    assert record.sites.relaxed is not None
    wrapped = record.sites.relaxed.copy()
    wrapped[5] += np.array(record.host.lattice)[1]
    moved = record.model_copy(update={"sites": record.sites.model_copy(update={"relaxed": wrapped})})
    first, second = deviation(record), deviation(moved)
    assert first is not None
    assert second is not None
    assert second.error == pytest.approx(first.error, abs=1e-5)


def test_distances_are_to_the_nearest_defect_or_its_image() -> None:
    found = deviation(make.record("predicted", move=nudged()))
    assert found is not None
    shells = np.unique(np.round(found.distance, 1))
    assert shells[0] == pytest.approx(2.4)  # Mo-S
    assert found.distance.max() < 6.5  # farther sites of a 3 x 3 cell are near an image


@pytest.mark.parametrize("change", [{"converged": False}, {"status": "running"}])
def test_what_has_not_converged_has_no_error(change: dict[str, object]) -> None:
    assert deviation(make.record("predicted", **change)) is None  # type: ignore[arg-type]


def test_the_worst_come_first_and_are_at_most_ten(contents: Contents) -> None:
    assert contents.worst[0].configuration_id == identity("control")
    largest = [one.largest or 0.0 for one in contents.worst]
    assert largest == sorted(largest, reverse=True)
    assert len(largest) == contents.relaxations == 6


def test_a_drawing_keeps_bonds_and_images_together() -> None:
    drawn = overlay(make.record("predicted", move=nudged()))
    start, end = np.array(drawn.unrelaxed), np.array(drawn.relaxed)
    assert np.abs(end - start).max() < 0.1
    vacancy = drawn.markers.index("2")
    assert np.linalg.norm(start[vacancy]) == pytest.approx(0.0, abs=1e-6)
    lengths = {round(float(np.linalg.norm(end[a] - end[b])), 1) for a, b in drawn.bonds}
    assert lengths <= {2.3, 2.4, 2.5}
    assert vacancy not in {row for bond in drawn.bonds for row in bond}


# ------------------------------------------------------------------ the page is safe and complete


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    parser = _Elements()
    parser.feed(page)
    for tag, attributes in parser.found:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    style = page.partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style


def test_hostile_text_makes_no_element_and_no_script(page: str) -> None:
    parser = _Elements()
    parser.feed(page)
    assert not [tag for tag, _ in parser.found if tag == "img"]
    assert not [name for _, attributes in parser.found for name in attributes if name.startswith("on")]
    assert "<script>alert" not in page
    assert page.count("<script>") == page.count("</script>") - 1  # one more carries the data


def test_a_name_of_a_model_is_no_line_of_its_own() -> None:
    assert Names({}, {WEIGHTS: "mine\nother: 99 % saved"}).label(WEIGHTS) == r"definet · mine\nother: 99 % saved"


def test_a_hostile_name_of_a_model_is_text_in_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = {WEIGHTS: f"{HOSTILE}<a href='x'>", OTHER_WEIGHTS: r"$\frac$"}
    monkeypatch.setattr("definet_flows.report.reading.names_of", lambda _: Names({}, hostile))
    with Records(SqliteStore(str(tmp_path / "records.sqlite"))) as records:
        fill(records)
        charts = all_charts(read_contents(records, "records"))
    for drawn in (one for one in charts if not one.empty):
        assert not re.search("<(a|img|script|b)[ >]", json.dumps(figure_json(drawn))), drawn.key
        write_chart(drawn, tmp_path / f"{drawn.key}.svg", "svg")


def test_only_the_scripts_of_the_page_may_run(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert policy[1].count("sha256-") == len(scripts) == 6
    assert "default-src 'none'" in policy[1]


def test_the_data_in_the_page_are_those_of_the_store(page: str, contents: Contents) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert len(data["rows"]) == len(contents.rows)
    assert {row[0] for row in data["rows"]} == {"v_S", HOSTILE}
    assert [len(row) for row in data["rows"]] == [len(data["columns"])] * len(contents.rows)
    assert [row[1] for row in data["rows"] if row[2] == identity("better")] == ["+1"]
    assert {row[1] for row in data["rows"]} == {"0", "+1"}
    assert {overlay["name"] for overlay in data["overlays"]} == {"v_S, charge 0", "v_S, charge +1"}
    assert set(data["charts"]) == {
        "savings",
        "steps",
        "steps-size",
        "core-hours-size",
        "versions",
        "error-distance",
        "parity",
    }


def test_the_bundled_viewer_has_its_licence_beside_it() -> None:
    assets = Path(versions.__file__).parents[1] / "report" / "assets"
    digest = hashlib.sha256((assets / "3Dmol-min.js").read_bytes()).hexdigest()
    assert digest in (assets / "README.md").read_text()
    assert "BSD-3-Clause" in (assets / "3Dmol-LICENSE.txt").read_text()


# ------------------------------------------------------------------ the command


def test_the_command_writes_a_page_and_says_how_large_it_is(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    result = runner.invoke(app, ["report", "--store", store])
    assert result.exit_code == 0, result.output
    size = (tmp_path / "report.html").stat().st_size
    assert f"report.html: {size / 1e6:.1f} MB" in result.output
    assert not list(tmp_path.glob("*.part"))
    assert str(tmp_path) not in (tmp_path / "report.html").read_text()  # whose machine it was is nobody's business


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figures_are_files_of_their_own(tmp_path: Path, form: str, magic: bytes) -> None:
    store = filled_store(tmp_path / "records.sqlite")
    result = runner.invoke(app, ["report", "--store", store, "--figures", "figures", "--format", form])
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "figures").iterdir())
    charts = {"savings", "steps", "steps-size", "core-hours-size", "versions", "error-distance", "parity"}
    assert {file.stem for file in files} == charts | {f"worst-{k:02d}" for k in range(1, 7)}
    for file in files:
        assert file.read_bytes().startswith(magic), file
    if form == "svg":
        assert "ionic steps" in (tmp_path / "figures" / "steps.svg").read_text()


def refused(*arguments: str, saying: str) -> None:
    """Run a command that must fail with exit code 2, one line that says why, and nothing written."""
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    line = result.stderr.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    assert saying in line
    assert {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (("--store", "absent.jsonl"), "absent.jsonl"),
        (("--store", "nobody"), "nobody"),
        (("--store", "full.jsonl", "-o", "no/folder/report.html"), "no/folder"),
        (("--store", "full.jsonl", "-o", "."), "is a folder"),
        (("--store", "full.jsonl", "--figures", "figures", "--format", "pdf"), "pdf"),
        (("--store", "full.jsonl", "--figures", "full.jsonl.sqlite"), "full.jsonl.sqlite"),
        (("--store", "empty.jsonl"), "holds no relaxations"),
        (("--store", "full.jsonl", "--weights", "zzzzzz"), "no relaxation has weights zzzzzz"),
        (("--store", "full.jsonl", "--weights", "aaaa"), "weights aaaa: give at least 6 characters of aaaaaaaa ("),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], saying: str) -> None:
    filled_store(Path("full.jsonl"))
    with open_store("empty.jsonl"):
        pass
    refused("report", *arguments, saying=saying)


def test_a_newer_record_is_refused_and_an_older_page_kept() -> None:
    store = filled_store(Path("records.sqlite"))
    Path("report.html").write_text("the page of yesterday")
    with open_store(store) as records:
        newer = dump(make.record(configuration_id="e" * 32)) | {"schema_version": SCHEMA_VERSION + 1}
        records.store.update([newer], key="id")
    refused("report", "--store", store, saying="update definet_flows")
    refused("explain", "e" * 6, "--store", store, saying="update definet_flows")


def test_mixed_versions_are_read_if_there_is_an_upgrade_and_refused_if_not(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(Path("records.sqlite"))
    with open_store(store) as records:
        older = dump(make.record(configuration_id="e" * 32)) | {"schema_version": 0}
        records.store.update([older], key="id")
    refused("report", "--store", store, saying="too old to read")
    monkeypatch.setitem(versions.UPGRADES, 0, lambda raw: raw)
    assert runner.invoke(app, ["report", "--store", store]).exit_code == 0
