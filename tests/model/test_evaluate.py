import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from archive_data import write_lists, write_pair, write_unit_cell
from rich.console import Console
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.defects import place
from definet_flows.errors import InputError
from definet_flows.model.data import archive
from definet_flows.model.data.archive import SETS, pristine
from definet_flows.model.inference.checkpoint import Card, load_checkpoint, save_checkpoint
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.model.training.evaluate import draw, evaluate, table

NAME = "high_density_defects/MoS2_500"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """One set of four entries, whose S planes move apart by 0.06 Å, defects or not."""
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(archive, "ProcessPoolExecutor", ThreadPoolExecutor)
    write_unit_cell(tmp_path)
    layout = SETS[0]
    host = pristine(tmp_path, layout)
    folder = tmp_path / layout.name
    height = host.cartesian[:, 2] - host.cartesian[:, 2].mean()
    ids = []
    for k, defects in enumerate((["v_S@64"], ["v_S@64", "W_Mo@9"], ["v_S@64"], ["W_Mo@0"])):
        moved = np.zeros((host.n_sites, 3))
        moved[:, 2] = 0.03 * np.sign(np.round(height, 3))
        ids.append(write_pair(folder / layout.cif_folder, host, place(host, defects), moved, tag=f"{k}"))
    write_lists(folder, train=ids[:2], val=ids[2:])
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    config = NetworkConfig(hidden=4, layers=1, gaussians=8, cutoff=3.0, radial_extent=6.0)
    return save_checkpoint(tmp_path / "tiny.safetensors", DefiNet(config), Card(name="tiny", config=config))


def test_evaluation_has_the_documented_shape_and_the_baselines_their_values(root, checkpoint):
    found = json.loads(evaluate(root, "val", checkpoint).model_dump_json())
    assert found["model"] == "tiny"
    assert list(found["sets"]) == [NAME]
    result = found["sets"][NAME]
    headline = {"n", "mae", "median", "A3", "A4", "A5", "A6", "max_error_median", "max_error_p95"}
    assert headline | {"dummy", "dummy_host", "additive", "seconds_per_structure"} <= result.keys()
    assert result["n"] == 2
    assert result["mae"] > 0
    assert result["dummy"] == pytest.approx((127 * 0.01 / 191 + 128 * 0.01 / 192) / 2, rel=1e-4)
    assert result["dummy_host"] == pytest.approx(0, abs=1e-6)
    assert result["additive"] < 0.2 * result["dummy"]
    assert result["baselines"]["dummy"]["mae"] == result["dummy"]
    assert result["seconds_per_structure"] > 0
    assert {k: v for k, v in found["overall"].items() if k != "baselines"} == {
        k: v for k, v in result.items() if k != "baselines"
    }


def test_without_a_training_split_there_is_only_dummy(root, checkpoint):
    (root / NAME / "train.csv").unlink()
    evaluation = evaluate(root, "val", checkpoint)
    assert evaluation.overall.dummy_host is None
    assert evaluation.sets[NAME].additive is None
    assert list(evaluation.sets[NAME].baselines) == ["dummy"]
    assert "-" in _printed(evaluation)


def test_an_empty_split_is_refused(root, checkpoint):
    with pytest.raises(InputError, match=r"no entry of split 'test' under .*: each set lists its own in test\.csv"):
        evaluate(root, "test", checkpoint)


def _printed(evaluation) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(table(evaluation))
    return console.file.getvalue()


def test_table_and_figure(root, checkpoint, tmp_path):
    evaluation = evaluate(root, "val", checkpoint)
    printed = _printed(evaluation)
    assert "high/MoS2_500" in printed
    assert "…" not in printed
    assert f"{evaluation.overall.mae:.4f}" in printed
    draw(evaluation, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_that_combines_writes_one_model_with_its_errors(root, checkpoint, tmp_path):
    torch.manual_seed(1)
    config = checkpoint.card.config
    other = save_checkpoint(tmp_path / "other.safetensors", DefiNet(config), Card(name="other", config=config))
    out = tmp_path / "both.safetensors"
    command = ["combine", str(checkpoint.path), str(other.path), "--data", str(root), "-o", str(out), "--name", "both"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    card = load_checkpoint(out).card
    assert (card.name, card.members) == ("both", 2)
    assert card.metrics[NAME]["mae"] > 0
    assert f"other {other.sha256[:12]}" in card.recipe["mean of"]


@pytest.mark.parametrize("out", ["both.pt", "nowhere/both.safetensors"])
def test_combining_into_nowhere_is_refused_before_the_work(root, checkpoint, tmp_path, out):
    command = ["combine", str(checkpoint.path), str(checkpoint.path), "--data", str(root), "-o", str(tmp_path / out)]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, InputError) or done.exit_code == 2
    assert not (tmp_path / out).exists()
