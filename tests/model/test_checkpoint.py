import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, load_checkpoint, save_checkpoint, shipped_models
from definet_flows.model.inference.predict import displacements
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet

CONFIG = NetworkConfig(hidden=8, layers=1, gaussians=8, cutoff=4.0, radial_extent=6.0, max_number=50)


@pytest.fixture
def network() -> DefiNet:
    torch.manual_seed(0)
    return DefiNet(CONFIG)


def test_a_checkpoint_comes_back_as_it_went(network, tmp_path):
    card = Card(name="small", config=CONFIG, elements=(16, 42), data="made up", metrics={"set": {"mae": 0.1}})
    saved = save_checkpoint(tmp_path / "small.safetensors", network, card)
    again = load_checkpoint(str(tmp_path / "small.safetensors"))
    assert again.card == saved.card == card
    assert (again.name, len(again.sha256)) == ("small", 64)
    assert not again.card.domain_known  # elements, but no hosts
    state = network.state_dict()
    assert again.network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.network.state_dict().items())
    assert not again.network.training
    assert not any(p.requires_grad for p in again.network.parameters())
    host = make_host("MoS2", (2, 2, 1))
    numbers, markers = np.array([host.numbers]), np.zeros((1, host.n_sites), dtype=int)
    assert np.array_equal(
        displacements(again.network, host, numbers, markers), displacements(network, host, numbers, markers)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # colleagues may read them, if the umask lets them


def test_float64_weights_are_kept_as_float32(network, tmp_path):
    checkpoint = save_checkpoint(tmp_path / "d.safetensors", network.double(), Card(name="d", config=CONFIG))
    assert {p.dtype for p in checkpoint.network.parameters()} == {torch.float32}


def test_a_file_written_anew_is_another_checkpoint(network, tmp_path):
    path = tmp_path / "w.safetensors"
    first = save_checkpoint(path, network, Card(name="w", config=CONFIG))
    with torch.no_grad():
        network.vn_emb.weight += 1
    second = save_checkpoint(path, network, Card(name="w", config=CONFIG))
    assert first.sha256 != second.sha256
    assert load_checkpoint(path).sha256 == second.sha256
    assert torch.equal(second.network.vn_emb.weight, network.vn_emb.weight)


def test_shipped_weights_load_by_their_id():
    for name in shipped_models():
        checkpoint = load_checkpoint(name)
        assert checkpoint.name == name
        assert checkpoint.card.domain_known
        assert checkpoint.path.stat().st_size <= 25e6


def test_what_is_no_checkpoint_is_refused(network, tmp_path):
    with pytest.raises(InputError, match=r"no model 'nothing': a \.safetensors file or one of"):
        load_checkpoint("nothing")
    with pytest.raises(InputError, match="no model"):
        load_checkpoint(tmp_path / "absent.safetensors")

    def refused(name: str, reason: str, metadata: dict[str, str] | None) -> None:
        save_file({k: v.clone() for k, v in network.state_dict().items()}, tmp_path / name, metadata=metadata)
        with pytest.raises(InputError, match=reason) as error:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)

    card = json.loads(Card(name="x", config=CONFIG).model_dump_json())
    refused("no_card.safetensors", "holds no DefiNet card: .*import-checkpoint", None)
    refused("text.safetensors", "unreadable card", {"definet": "not json"})
    refused("unknown.safetensors", "unreadable card", {"definet": json.dumps({**card, "surprise": 1})})
    refused("newer.safetensors", "has format 99, newer than 4", {"definet": json.dumps({**card, "format": 99})})
    (tmp_path / "noise.safetensors").write_bytes(b"\x80\x04pickle, perhaps")
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_checkpoint(tmp_path / "noise.safetensors")


def test_weights_that_do_not_fit_their_card_are_refused(network, tmp_path):
    wider = Card(name="x", config=CONFIG.model_copy(update={"hidden": 16}))
    checkpoint = save_checkpoint(tmp_path / "wide.safetensors", network, wider)
    with pytest.raises(InputError, match=r"holds other weights than its card says \(size mismatch for atom_emb"):
        _ = checkpoint.network
