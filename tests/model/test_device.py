"""Where a network runs and what it does when memory ends; a card is played by what torch would say of it."""

import numpy as np
import pytest
import torch
from network_helpers import agree, make_network

from definet_flows.defects import place
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.model.inference import device, predict
from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.model.inference.predict import displacements, mixed_displacements
from definet_flows.model.network.network import DefiNet

HOST = make_host("MoS2", (3, 3, 1))
GIB = 2**30


class SmallCard(torch.nn.Module):
    """A network on a card that holds `most` nodes; like CUDA it fails in the middle of the work."""

    def __init__(self, network: DefiNet, most: int) -> None:
        super().__init__()
        self.network, self.config, self.most = network, network.config, most
        self.asked: list[int] = []

    def of(self, _: str) -> "SmallCard":
        return self

    def forward(self, numbers: torch.Tensor, *others: object) -> torch.Tensor:
        self.asked.append(numbers.numel())
        if numbers.numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        return self.network(numbers, *others)


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    markers = np.random.default_rng(1).integers(0, 3, (n, HOST.n_sites))
    return np.tile(HOST.numbers, (n, 1)), markers


@pytest.mark.parametrize(("n", "most", "sizes"), [(21, 5, [21, 10, 5, 5, 5, 5, 1]), (3, 1, [3, 1, 1, 1]), (4, 4, [4])])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(n, most, sizes):
    network = make_network()
    card = SmallCard(network, most * HOST.n_sites)
    moved = displacements(card, HOST, *rows(n))
    assert [asked // HOST.n_sites for asked in card.asked] == sizes
    agree(torch.as_tensor(moved), displacements(network, HOST, *rows(n)), 1e-9)


def test_a_mixture_of_hosts_is_halved_too():
    other, network = make_host("BN", (3, 3, 1)), make_network()
    crystals = [(host, np.array(host.numbers), np.zeros(host.n_sites, dtype=int)) for host in (HOST, other, HOST)]
    card = SmallCard(network, HOST.n_sites)
    for found, expected in zip(
        mixed_displacements(card, crystals), mixed_displacements(network, crystals), strict=True
    ):
        assert np.allclose(found, expected, atol=1e-9)
    assert len(card.asked) > 3


def test_one_configuration_that_does_not_fit_is_refused_in_a_line_with_a_remedy():
    card = SmallCard(make_network(), HOST.n_sites - 1)
    with pytest.raises(InputError, match=r"does not fit .*2\.00 GiB.*DEFINET_FLOWS_DEVICE=cpu") as refused:
        displacements(card, HOST, *rows(2))
    assert "\n" not in str(refused.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(_: slice) -> None:
        raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="assert"):
        list(device.in_batches(broken, 4, 2))


def test_the_arrays_of_a_batch_that_failed_are_free_before_the_next(monkeypatch):
    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    def run(part: slice) -> int:
        held = Held()
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert held is not None
        return part.start

    at_clearing = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: at_clearing.append(Held.alive))
    assert list(device.in_batches(run, 3, 3)) == [0, 1, 2]
    assert at_clearing == [0]


@pytest.mark.parametrize(
    ("setting", "card", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_the_settings_or_the_card_that_is_there(setting, card, expected, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_DEVICE", setting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    assert device.chosen_device().type == expected


@pytest.mark.parametrize(
    ("setting", "said"), [("cuda", "finds no CUDA device: .*DEFINET_FLOWS_DEVICE=cpu"), ("gpu", "settings: device: ")]
)
def test_a_device_that_is_not_there_is_refused(setting, said, monkeypatch):
    monkeypatch.setenv("DEFINET_FLOWS_DEVICE", setting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=said):
        device.chosen_device()


def test_a_checkpoint_loads_onto_the_chosen_device_and_predictions_name_it(monkeypatch):
    monkeypatch.delenv("DEFINET_FLOWS_DEVICE", raising=False)
    checkpoint = load_checkpoint("definet-2dmd")
    assert predict.predict(checkpoint, HOST, [place(HOST, ["v_S@9"])])[0].device == device.chosen_device().type
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert device.device_name(torch.device("cuda")) == "cuda (NVIDIA H100 80GB HBM3)"


def test_more_free_memory_holds_more_configurations_and_what_torch_keeps_counts(monkeypatch):
    memory = {"free": 8 * GIB, "reserved": 0, "allocated": 0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (memory["free"], 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: memory["reserved"])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: memory["allocated"])
    card, array = torch.device("cuda"), 16 * 2**20
    first = device.most_configurations(card, array)
    assert first * array < 8 * GIB
    assert device.most_configurations(card, 2 * array) == first // 2
    memory |= {"free": 4 * GIB, "reserved": 6 * GIB, "allocated": 2 * GIB}
    assert device.most_configurations(card, array) == first
    memory |= {"free": 0, "reserved": 2 * GIB}
    assert device.most_configurations(card, array) == 1


@pytest.mark.parametrize("precision", ["high", "highest"])
def test_predictions_are_made_in_full_precision_whatever_the_process_chose(precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with device.full_products():
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
