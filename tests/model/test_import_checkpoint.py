"""Published weights: read without running code, equal to the network they came from, refused with a list otherwise."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.defects import nodes, place
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.inference.predict import displacements, predict
from definet_flows.model.inference.published import import_checkpoint
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.starts.gate import judge

WIDTH, LAYERS, GAUSSIANS = 6, 2, 8
CONFIG = NetworkConfig(hidden=WIDTH, layers=LAYERS, gaussians=GAUSSIANS)
HOST = make_host("MoS2", (3, 3, 1))


def published_shapes(f: int, layers: int, k: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the specification of published checkpoints has them, written out by hand."""

    def linear(name: str, out: int, inner: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}

    shapes = {"atom_emb.embeddings.weight": (118, f), "defect_emb.embeddings.weight": (3, f), "vn_emb.weight": (1, f)}
    shapes |= linear("lin_comb", f, 2 * f)
    for n in range(layers):
        for mlp in ("mlp_vn", "mlp_node"):
            shapes |= linear(f"virtual_scalar_layers.{n}.{mlp}.0", f, 2 * f)
            shapes |= linear(f"virtual_scalar_layers.{n}.{mlp}.2", f, f)
            shapes[f"virtual_vector_layers.{n}.{mlp}.weight"] = (f, f)
        message, update, coord = (f"{s}_layers.{n}" for s in ("message_passing", "message_update", "coord_update"))
        shapes |= linear(f"{message}.defect_proj", 3 * f, f) | linear(f"{message}.edge_proj", 3 * f, k)
        shapes |= linear(f"{message}.x_proj.0", f // 2, f) | linear(f"{message}.x_proj.2", 3 * f, f // 2)
        shapes[f"{update}.vec_proj.weight"] = (2 * f, f)
        shapes |= linear(f"{update}.xvec_proj.0", f, 2 * f) | linear(f"{update}.xvec_proj.2", 3 * f, f)
        for part in (message, update):
            shapes |= {
                f"{part}.vec_activation.lin_vec.weight": (f, f),
                f"{part}.vec_activation.lin_gvec.weight": (1, f),
            }
        shapes |= linear(f"{coord}.defect_proj", f, f) | linear(f"{coord}.edge_proj", f, k)
        for part, width in (("x_proj", f), ("coord_mlp", 1)):
            shapes |= linear(f"{coord}.{part}.0", f, f) | linear(f"{coord}.{part}.2", width, f)
        shapes[f"{coord}.lin_vec2coord.weight"] = (1, f)
    return shapes


@pytest.fixture
def published() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(WIDTH, LAYERS, GAUSSIANS)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def positions(network: DefiNet) -> np.ndarray:
    rows = [nodes(HOST, place(HOST, defects)) for defects in ([], ["v_S@9"], ["W_Mo@0", "v_S@12"])]
    numbers, markers = (np.stack([row[k] for row in rows]) for k in (0, 1))
    return displacements(network.double(), HOST, numbers, markers)


def reference(published: dict[str, torch.Tensor]) -> np.ndarray:
    network = DefiNet(CONFIG)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(published[name])
    return positions(network)


def test_the_papers_network_has_the_size_it_states():
    assert sum(int(np.prod(shape)) for shape in published_shapes(512, 4, 128).values()) == 28_953_092


@pytest.mark.parametrize("nested", [None, "state_dict", "ema"])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_same_positions_as_the_network_published(published, tmp_path, suffix, nested):
    source = tmp_path / f"published{suffix}"
    if suffix == ".safetensors":
        save_file(published, source)
    else:
        torch.save({nested: published, "epoch": 7} if nested else published, source)
    checkpoint = import_checkpoint(source, tmp_path / "ours.safetensors", CONFIG, "theirs")
    assert np.allclose(positions(load_checkpoint(checkpoint.path).network), reference(published), rtol=0, atol=1e-9)
    assert (checkpoint.name, checkpoint.card.domain_known) == ("theirs", False)


def test_the_domain_is_unknown_to_the_gate(published, tmp_path):
    torch.save(published, tmp_path / "p.pt")
    checkpoint = import_checkpoint(tmp_path / "p.pt", tmp_path / "ours.safetensors", CONFIG, "theirs")
    configuration = place(HOST, ["v_S@9"])
    (raw,) = predict(checkpoint, HOST, [configuration])
    gate = judge(checkpoint, HOST, configuration, HOST.cartesian, raw)
    assert (gate.verdict, gate.in_domain) == ("rejected", False)
    assert judge(checkpoint, HOST, configuration, HOST.cartesian, raw, allow_unseen_host=True).in_domain


class _Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_not_run(published, tmp_path, writer):
    source, target = tmp_path / "evil.pt", tmp_path / "executed"
    content = {**published, "extra": _Malicious(target)}
    if writer == "torch":
        torch.save(content, source)
    else:
        source.write_bytes(pickle.dumps({"extra": _Malicious(target)}))
    with pytest.raises(InputError, match=r"evil\.pt .*would run code.*which was not done"):
        import_checkpoint(source, tmp_path / "ours.safetensors", CONFIG, "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pt"]


def test_what_does_not_fit_is_listed(published, tmp_path):
    del published["vn_emb.weight"]
    published["lin_comb.bias"] = torch.zeros(WIDTH + 1)
    published["surprise"] = torch.zeros(3)
    published["lin_comb.weight"][0, 0] = torch.nan
    torch.save(published, tmp_path / "p.pt")
    with pytest.raises(InputError) as error:
        import_checkpoint(tmp_path / "p.pt", tmp_path / "ours.safetensors", CONFIG, "theirs")
    message = str(error.value)
    for piece in (
        "missing: vn_emb.weight",
        "extra: surprise",
        "of another shape: lin_comb.bias [7] instead of [6]",
        "not finite numbers: lin_comb.weight",
    ):
        assert piece in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt"]


def test_files_that_are_not_weights(published, tmp_path):
    def refused(content: object, saying: str) -> None:
        torch.save(content, tmp_path / "p.pt")
        with pytest.raises(InputError, match=saying):
            import_checkpoint(tmp_path / "p.pt", tmp_path / "ours.safetensors", CONFIG, "theirs")

    refused({"state_dict": published, "ema": published}, r"several sets of weights \('state_dict', 'ema'\)")
    refused([1, 2], "no dict of name -> tensor")
    refused({}, "no dict of name -> tensor")
    refused({**published, "epoch": 3}, "entries that are no tensors: epoch")
    for name in ("noise.pt", "noise.safetensors", "empty.pt"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"hello there, this is text")
        with pytest.raises(InputError) as error:
            import_checkpoint(tmp_path / name, tmp_path / "ours.safetensors", CONFIG, "theirs")
        assert "\n" not in str(error.value)


def test_an_archive_that_says_it_spans_several_disks(published, tmp_path):
    torch.save(published, tmp_path / "p.pt")
    data = bytearray((tmp_path / "p.pt").read_bytes())
    data[data.rindex(b"PK\x06\x07") + 4] = 1  # number of the disk, in the locator of the archive's last record
    (tmp_path / "p.pt").write_bytes(data)
    with pytest.raises(InputError, match="no file of weights"):
        import_checkpoint(tmp_path / "p.pt", tmp_path / "ours.safetensors", CONFIG, "theirs")


def test_the_command(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(published, "p.pt")
    shape = ("--hidden", "6", "--layers", "2", "--gaussians", "8")
    result = CliRunner().invoke(app, ["import-checkpoint", "p.pt", "-o", "ours.safetensors", *shape])
    assert result.exit_code == 0, result.output
    assert "--allow-unseen-host" in result.output
    assert load_checkpoint("ours.safetensors").card.config == CONFIG
    Path("ours.safetensors").unlink()
    for arguments, saying in (
        (("absent.pt", "-o", "a.safetensors", *shape), "absent.pt"),
        (("p.pt", "-o", "a.safetensors", "--hidden", "8"), "another shape"),
        (("p.pt", "-o", "a.safetensors", "--hidden", "7"), "--hidden"),
        (("p.pt", "-o", "a.safetensors", *shape, "--cutoff", "-1"), "--cutoff"),
        (("p.pt", "-o", "a.pt", *shape), "a.pt"),
        (("p.pt", "-o", "no/a.safetensors", *shape), "no/a.safetensors"),
    ):
        result = CliRunner().invoke(app, ["import-checkpoint", *arguments])
        assert result.exit_code == 2
        assert saying in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["p.pt"]
