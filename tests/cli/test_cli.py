"""The command line: help that states units, and bad input that ends in one line and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from definet_flows import __version__
from definet_flows.cli import app, main
from definet_flows.stores import open_store

runner = CliRunner()


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFINET_FLOWS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str, saying: str) -> None:
    """Run a command that must fail with exit code 2, one line that says why, and nothing written."""
    before = sorted(Path.cwd().rglob("*"))
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    line = result.stderr.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    assert saying in line
    assert sorted(Path.cwd().rglob("*")) == before


RUN = ("run", "MoS2", "--supercell", "3", "3", "1", "--engine", "sevennet")


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (("run", "nowhere.cif", "--defect", "v_S"), "nowhere.cif"),
        ((*RUN, "--defect", "v_O"), "O"),
        ((*RUN, "--defect", "Mo_Mo"), "Mo_Mo"),
        ((*RUN, "--defect", "Zz_S"), "Zz"),
        (("run", "MoS2", "--supercell", "0", "3", "1", "--defect", "v_S"), "0"),
        ((*RUN, "--defect", "v_S", "--engine", "abinit"), "abinit"),
        ((*RUN[:-1], "vasp", "--defect", "v_S"), "vasp_std"),
        ((*RUN, "--defect", "v_S", "--model", "nobody"), "nobody"),
        ((*RUN, "--defect", "v_S", "--control-fraction", "1.5"), "1.5"),
        ((*RUN, "--defect", "v_S", "--max-on", "S:2"), "S:2"),
        ((*RUN, "--defect", "v_S", "--max-on", "O=2"), "O"),
        ((*RUN, "--defect", "v_S", "--store", "elsewhere"), "elsewhere"),
        ((*RUN, "--defect", "v_S", "--json", "no/folder/out.json"), "no/folder"),
        (("savings", "--store", "absent.jsonl"), "absent.jsonl"),
        (("savings", "--by", "colour"), "colour"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], saying: str) -> None:
    refused(*arguments, saying=saying)


def test_version_needs_no_command() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"definet {__version__}\n")


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "broken.cif").write_text("this is no crystal")
    refused("run", "broken.cif", "--defect", "v_S", saying="broken.cif")


def test_disordered_host(tmp_path: Path) -> None:
    alloy = Structure(Lattice.hexagonal(3.2, 20), [{"Mo": 0.5, "W": 0.5}, "S"], [[0, 0, 0.5], [1 / 3, 2 / 3, 0.6]])
    alloy.to(filename=str(tmp_path / "alloy.cif"))
    refused("run", "alloy.cif", "--defect", "v_S", saying="disorder")


def test_too_little_vacuum(tmp_path: Path) -> None:
    flat = Structure(Lattice.hexagonal(2.5, 8), ["B", "N"], [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
    flat.to(filename=str(tmp_path / "bn.cif"))
    refused("run", "bn.cif", "--supercell", "3", "3", "1", "--defect", "v_B", saying="vacuum")


def test_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("definet_flows.starts.universal.find_spec", lambda _: None)
    refused(*RUN[:-1], "chgnet", "--defect", "v_S", saying="pip install -e '.[chgnet]'")


@pytest.mark.parametrize("supercell", [("2.5", "3", "1"), ("0", "3", "1"), ("-1", "3", "1"), ("a", "3", "1")])
def test_supercells(supercell: tuple[str, ...]) -> None:
    refused("run", "MoS2", "--supercell", *supercell, "--defect", "v_S", saying=supercell[0])


def test_wrong_usage_is_one_line() -> None:
    refused("run", "MoS2", "--defekt", "v_S", saying="--defekt")
    refused("run", "MoS2", saying="--defect")
    refused("run", "MoS2", "--defect", "v_S", "--batch-size", "many", saying="--batch-size")


@pytest.mark.parametrize(("policy", "count"), [(None, "5000"), ("PASSIVE", None)])
def test_how_threads_wait_is_the_user_s_choice(
    policy: str | None, count: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr("definet_flows.cli.app", lambda: None)
    main()
    assert os.environ.get("GOMP_SPINCOUNT") == count


@pytest.mark.parametrize("command", ["run", "quickstart", "savings"])
def test_help(command: str) -> None:
    result = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--store" in result.output


def test_run_help_states_units_and_defaults() -> None:
    text = runner.invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    for piece in ("eV/Å", "Å", "[default: 0.1]", "[default: vasp]", "else the smallest"):
        assert piece in text


def test_savings_of_an_empty_store(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "empty.jsonl")) as records:
        assert records.location.endswith("empty.jsonl.sqlite")
    refused("savings", "--store", "empty.jsonl", "--json", saying="holds no relaxations")
