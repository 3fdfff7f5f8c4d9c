"""The page Proofs says what the files of results say."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SUMMARY = runpy.run_path(str(ROOT / "benchmarks" / "support" / "paper_summary.py"))
TRAINED, cells, runs = SUMMARY["TRAINED"], SUMMARY["cells"], SUMMARY["runs"]
BLOCKS = (*TRAINED, "accuracy", "size", "stem", "potentials", "short", "measured")
MARKS = "".join(f"<!-- {name} --><!-- /{name} -->\n" for name in BLOCKS)
COMMAND = ROOT / "benchmarks" / "paper" / "page.py"


def test_the_page_shows_the_results_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(COMMAND), "--check"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(COMMAND), run_name="__main__")
    assert not end.value.code, "python benchmarks/paper/page.py --write"


def test_a_file_of_results_that_changed_makes_another_page(monkeypatch, tmp_path, capsys):
    place = tmp_path / "benchmarks" / "paper"
    (place / "results").mkdir(parents=True)
    (place / "page.py").write_text(COMMAND.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "proofs.md").write_text(MARKS, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["page.py"])
    runpy.run_path(str(place / "page.py"), run_name="__main__")
    assert capsys.readouterr().out.count("Not measured yet") == 8


def trained(run: str, seed: int = 0, **maes: float) -> dict[str, Any]:
    """A row of results: the error of a network on some sets."""
    network = {f"{density}_density_defects/X": {"network": {"mae": mae}} for density, mae in maes.items()}
    return {"run": run, "seed": seed, "sets": network}


def write(folder: Path, claim: str, rows: list[dict[str, Any]]) -> dict[str, str]:
    (folder / f"{claim}.json").write_text(json.dumps(rows), encoding="utf-8")
    return cells(folder)


def test_without_results_every_claim_is_not_measured_and_is_listed_at_the_head(tmp_path):
    found = cells(tmp_path)
    assert all("not measured yet" in found[claim] for claim in set(BLOCKS) - {"short", "measured"})
    assert "without markers, the size" in found["short"]


def test_the_cell_of_the_twin_compares_both_networks_at_each_density(tmp_path):
    rows = [trained("published form", low=0.2, high=0.9), trained("no markers", low=1.0, high=0.6)]
    assert "one of two" in write(tmp_path, "twin", rows[:1])["twin"]
    assert "markers (1 of 2 runs)" in cells(tmp_path)["short"]
    found = write(tmp_path, "twin", rows)
    assert found["twin"].startswith("80 % lower at low density, 50 % higher at high density")
    assert "Not finished: the size" in found["short"]


def test_the_cells_of_other_trainings_are_means_over_seeds_and_ratios_to_their_reference(tmp_path):
    seeds = [trained("published form", s, high=e) for s, e in ((0, 1.0), (1, 3.0))]
    found = write(tmp_path, "ablations", [*seeds, trained("vanilla", high=2.2)])
    assert found["ablations"].startswith("error beside the published form: vanilla 10 % higher")
    assert "ablations (3 of 12 runs)" in found["short"]
    found = write(tmp_path, "data-size", [trained("10%", low=3.0), trained("100%", low=1.0)])
    assert found["data-size"].startswith("error beside that with all data: 3.00 times with 10%")
    rows = [trained("high to low density", low=4.0), trained("low to low density", low=1.0)]
    assert "high to low density 4.0 times (" in write(tmp_path, "transfer", rows)["transfer"]
    found = write(tmp_path, "transfer", [trained(run.name, low=1.0) for run in runs("transfer")])
    assert "transfer" not in found["short"]


def relaxed(size: int, name: str, steps: int) -> dict:
    return {"size": size, "configuration": name, "steps": {"predicted": steps, "unrelaxed": 9}}


def test_the_head_names_each_claim_that_is_finished_and_below_the_paper(tmp_path):
    def after(low: float, high: float) -> str:
        pair = [trained("published form", low=low, high=high), trained("no markers", low=1.0, high=1.0)]
        return write(tmp_path, "twin", pair)["short"]

    assert "Beside the network" not in after(0.2, 0.6)
    assert after(0.3, 1.25).startswith(
        "- Beside the network without markers the errors are 70 % lower at low density and 25 %"
    )

    def with_steps(*further: dict, **steps: int) -> str:
        rows = [relaxed(int(n[1:]), "v_S", k) for n, k in steps.items()]
        return write(tmp_path, "size", [*rows, *further])["short"]

    assert "grow" not in with_steps(n4=3)
    assert "grow" not in with_steps(n4=3, n6=3)
    assert "from 3.0 in 4 x 4 to 5.0 in 8 x 8" in with_steps(n8=5, n4=3)
    assert "from 3.0 in 4 x 4 to 5.0 in 8 x 8" in with_steps(relaxed(4, "Se_S", 9), n8=5, n4=3)  # not in 8 x 8


@pytest.mark.parametrize("claim", TRAINED)
def test_a_claim_with_a_single_result_has_a_cell(tmp_path, claim):
    first = runs(claim)[0]
    assert "not measured" not in write(tmp_path, claim, [trained(first.name, low=1.0, high=1.0)])[claim]
