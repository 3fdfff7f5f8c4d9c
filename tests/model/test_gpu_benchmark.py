"""The measurement for a card runs on a CPU, beside a checkout that takes what the published code takes."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"

CHECKOUT = """
import torch
from torch_scatter import scatter
from definet_flows.model.network import network
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import ListEdges


class DefiNet(torch.nn.Module):
    def __init__(self, hidden_channels=512, num_layers=3, num_rbf=128, cutoff=6.0, num_elements=83):
        super().__init__()
        config = NetworkConfig(
            hidden=hidden_channels, layers=num_layers, gaussians=num_rbf, radial_extent=cutoff,
            max_number=num_elements - 1,
        )
        self.__dict__["inner"] = network.DefiNet(config)
        for name, child in self.inner.named_children():
            self.add_module(name, child)

    def forward(self, data):
        shift = torch.einsum("ep,epv->ev", data.cell_offsets.float(), data.cell_u.repeat_interleave(data.neighbors, 0))
        senders, receivers = data.edge_index
        edges = ListEdges(senders, receivers, shift, data.batch, len(data.neighbors))
        assert torch.equal(scatter(torch.ones(len(senders)), data.batch[receivers]).long(), data.neighbors)
        return self.inner(data.x, data.defect, data.pos_u, edges)
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Return what a call of the command prints on both streams; its exit code is None where it ends well."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def called(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        code = None
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return called


def cells(printed: str, first: str) -> list[list[str]]:
    """Return the cells of the rows that begin with `first`."""
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in printed.splitlines() if line.startswith("│")]
    return [row for row in rows if row[0] == first]


@pytest.mark.slow
def test_the_self_test_prints_every_table_the_published_code_beside_ours(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "stand_in_of_published.py").write_text(CHECKOUT)
    command = [sys.executable, SCRIPT, "--self-test", "--published", tmp_path]  # apart: torch logs each compilation
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cannot run" not in done.stderr
    assert "matrix product: float32" in done.stdout
    ((_, largest, *_),) = cells(done.stdout, "float64")
    assert float(largest) < 1e-8
    one, two, trained = cells(done.stdout, "16")
    for row, batch in ((one, "1"), (two, "2")):
        _, of, eager, compiled, published, share, _, *apart = row
        assert of == batch
        assert min(float(x) for x in (eager, compiled, published, share.rstrip("%"))) > 0
        assert max(map(float, apart)) < 1e-5
    assert all(float(rate) > 0 for rate in trained[1:5])


@pytest.mark.parametrize(("largest", "expected"), [(9e-6, None), (2e-5, "positions in float64 differ by more than")])
def test_positions_that_differ_are_an_error_and_what_cannot_run_is_an_empty_cell(run, largest, expected, monkeypatch):
    monkeypatch.setattr("benchmarks.support.card.apart", lambda *_: np.array([0.0, largest]))
    monkeypatch.setattr("benchmarks.support.card.tried", lambda *_: None)
    code, printed, _ = run("--self-test")
    assert str(code).startswith(str(expected))
    assert cells(printed, "16")[0][2:] == ["-"] * 7


def test_a_folder_without_the_published_code_is_refused(run, tmp_path):
    code, _, errors = run("--self-test", "--published", tmp_path)
    assert code == 2
    assert "no Python file there has a class DefiNet" in errors


def test_without_a_card_the_command_says_so(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, errors = run()
    assert code == 2
    assert "finds no CUDA device" in errors
